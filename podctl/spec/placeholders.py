"""``${name}`` in text: finding and filling in. ``$${`` stands for a plain ``${``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from podctl.errors import SpecError

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[a-z][a-z0-9-]*(?:\.[a-z]+)?")


def names(text: str) -> list[str]:
    """The placeholders' names in order of appearance. Raises `SpecError` for one that is not well-formed."""
    return [_name(match) for match in _PLACEHOLDER.finditer(text) if match[0] != "$${"]


def expand(text: str, values: Mapping[str, str]) -> str:
    """The text with each placeholder replaced, once: a value's own ``${`` stays.

    Raises `SpecError` for a placeholder that is not well-formed or not among ``values``.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = _name(match)
        if name not in values:
            raise SpecError(
                f"${{{name}}} names nothing here",
                code="placeholder-unknown",
                hint=f"known: {', '.join(sorted(values))}; write $${{ for a plain ${{",
            )
        return values[name]

    return _PLACEHOLDER.sub(replace, text)


def _name(match: re.Match[str]) -> str:
    name: str | None = match[1]
    if name is None or _NAME.fullmatch(name) is None:
        shown = match[0] if name is not None else match.string[match.start() : match.start() + 20]
        raise SpecError(
            f"{shown!r} is not a placeholder",
            code="placeholder-malformed",
            hint="write ${python} or ${name.url}, .host, .port; write $${ for a plain ${",
        )
    return name

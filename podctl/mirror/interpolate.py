"""``${NAME:-default}`` and the other forms of Compose files, and the files that set the names. PURE."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_DEPTH = 20
_MAX_TEXT = 1 << 20


class BadInterpolation(ValueError):
    """Why a text cannot be filled in."""


def interpolate(text: str, values: Mapping[str, str], missing: Callable[[str, str], None], depth: int = 0) -> str:
    """The text filled in; ``missing`` is told each name without a value, and what the file says of that.

    Raises `BadInterpolation`.
    """
    if "$" not in text:
        return text
    if depth > _MAX_DEPTH:
        raise BadInterpolation(f"defaults are nested more than {_MAX_DEPTH} deep")
    made: list[str] = []
    size = position = 0
    while position < len(text):
        dollar = text.find("$", position)
        if dollar < 0:
            made.append(text[position:])
            break
        made.append(text[position:dollar])
        after = text[dollar + 1 : dollar + 2]
        if after == "$":
            made.append("$")
            position = dollar + 2
        elif after == "{":
            end = _closing(text, dollar + 2)
            made.append(_braced(text[dollar + 2 : end], values, missing, depth))
            position = end + 1
        elif (match := _NAME.match(text, dollar + 1)) is not None:
            made.append(_value(match[0], values, missing, ""))
            position = match.end()
        else:
            # Compose refuses a lone dollar; in passwords and patterns it means itself.
            made.append("$")
            position = dollar + 1
        size += len(made[-1])
        if size > _MAX_TEXT:
            raise BadInterpolation("it becomes larger than 1 MiB")
    return "".join(made)


def _closing(text: str, start: int) -> int:
    depth = 1
    position = start
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
            position += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise BadInterpolation(f"${{ without }} in {text[start - 2 : start + 30]!r}")


def _braced(inside: str, values: Mapping[str, str], missing: Callable[[str, str], None], depth: int) -> str:
    match = _NAME.match(inside)
    if match is None:
        raise BadInterpolation(f"${{{inside[:30]}}} names nothing")
    name, rest = match[0], inside[match.end() :]
    if not rest:
        return _value(name, values, missing, "")
    form = re.match(r":?[-?+]", rest)
    if form is None:
        raise BadInterpolation(f"${{{inside[:30]}}} has no form that Compose knows")
    value, other = values.get(name), rest[form.end() :]
    there = value is not None and (value != "" or ":" not in form[0])
    if form[0].endswith("+"):
        return interpolate(other, values, missing, depth + 1) if there else ""
    if there:
        return value or ""
    if form[0].endswith("?"):
        return _value(name, {}, missing, f"the file requires it: {other[:80]}" if other else "the file requires it")
    return interpolate(other, values, missing, depth + 1)


def _value(name: str, values: Mapping[str, str], missing: Callable[[str, str], None], said: str) -> str:
    if name in values:
        return values[name]
    missing(name, said)
    return ""


def env_file(text: str, values: Mapping[str, str], missing: Callable[[str, str], None]) -> list[tuple[str, str | None, int]]:
    """(name, value, line) of a file of NAME=VALUE lines; the value is None where the line has no ``=``.

    Raises `BadInterpolation` with the line in it for one that is none.
    """
    found: list[tuple[str, str | None, int]] = []
    known = dict(values)
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line, at = lines[number].strip(), number + 1
        number += 1
        line = re.sub(r"^export\s+", "", line)
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.partition("=")
        name = name.strip()
        if not re.fullmatch(r"[A-Za-z_][\w.\-]*", name):
            raise BadInterpolation(f"line {at} is no NAME=VALUE")
        if not equals:
            found.append((name, known.get(name), at))
            continue
        rest = rest.strip()
        quote = rest[:1] if rest[:1] in ("'", '"') else ""
        if quote:
            whole = "\n".join([rest, *lines[number:]])
            end = _quote_end(whole, quote)
            if end == len(whole):
                raise BadInterpolation(f"line {at} has a quote that is not closed")
            number += whole.count("\n", 0, end)
            value = whole[1:end]
            if quote == '"':
                value = re.sub(r'\\([nrt"\\$])', lambda m: {"n": "\n", "r": "\r", "t": "\t"}.get(m[1], m[1]), value)
                value = interpolate(value, known, missing)
        else:
            value = interpolate(
                re.split(r"\s+#", rest, maxsplit=1)[0].rstrip() if not rest.startswith("#") else "", known, missing
            )
        known[name] = value
        found.append((name, value, at))
    return found


def _quote_end(text: str, quote: str) -> int:
    position = 1
    while position < len(text):
        if text[position] == "\\" and quote == '"':
            position += 2
            continue
        if text[position] == quote:
            return position
        position += 1
    return len(text)

"""What checks of every kind of file share: problems with their places, and names that have to be known."""

from __future__ import annotations

import os
from pathlib import Path

from podctl.errors import SpecError
from podctl.spec import placeholders
from podctl.spec.problems import Mark, Problem, printable, shown
from podctl.spec.shape import closest
from podctl.spec.source import Document, Item, stat_kind


class Report:
    """Collects problems of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.problems: list[Problem] = []

    def add(self, at: Mark, message: str, hint: str = "") -> None:
        self.problems.append(self._document.problem(at, message, hint))

    def found(self, item: Item) -> str:
        """What a path leads to: ``file``, ``directory``, ``other`` or nothing."""
        return stat_kind(absolute(item.value, self._document.path.parent)) if isinstance(item.value, str) else ""

    def path(self, item: Item | None, kind: str, hint: str = "") -> None:
        """The path must lead to a ``file``, a ``directory`` or, with ``any``, to something."""
        if item is None or not isinstance(item.value, str):
            return
        target = absolute(item.value, self._document.path.parent)
        found = stat_kind(target)
        name = printable(shown(target))
        if not found:
            self.add(
                item.at,
                f"no such {'path' if kind == 'any' else kind}: {name}",
                hint or "paths are relative to the file they stand in",
            )
        elif kind not in ("any", found):
            self.add(item.at, f"expected a {kind}, found {'something else' if found == 'other' else f'a {found}'}: {name}")


def absolute(written: str | Path, base: Path) -> Path:
    """A path as written in a file of the directory ``base``."""
    return Path(os.path.normpath(base / written))


def check_known(item: Item, name: str, known: dict[str, bool], what: str, report: Report, at: Mark | None = None) -> None:
    """``name`` must be in the pod; ``at`` where it is a key."""
    if name not in known:
        listed = f"known here: {', '.join(known)}" if known else f"the topology has no {what}"
        report.add(at or item.at, f"no {what} `{printable(name, 60)}`", closest(name, known) or printable(listed))
    elif not known[name]:
        report.add(at or item.at, f"`{printable(name, 60)}` is left out of the pod")


def check_placeholders(item: Item, allowed: dict[str, bool], report: Report) -> None:
    if not isinstance(item.value, str):
        return
    try:
        found = placeholders.names(item.value)
    except SpecError as error:
        report.add(item.at, error.what, error.hint)
        return
    for name in dict.fromkeys(found):
        if name not in allowed:
            hint = (
                closest(name, allowed) or "known: ${python} and ${<database or service>.url}, .host, .port; $${ is a plain ${"
            )
            report.add(item.at, f"${{{name}}} names nothing here", hint)
        elif not allowed[name]:
            report.add(item.at, f"${{{name}}}: `{name.split('.')[0]}` is left out of the pod")

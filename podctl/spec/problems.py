"""Mistakes in users' files, shown at their place."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from podctl.errors import SpecError

#: Mistakes shown at once.
MAX_SHOWN = 20


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file; both count from 1. ``file``: which of a document's components it is in; empty: the document itself."""

    line: int
    column: int
    file: str = ""


@dataclass(frozen=True)
class Problem:
    """One mistake: where, what, and the line it stands in."""

    file: str
    at: Mark
    message: str
    hint: str = ""
    source: str = ""

    def render(self) -> str:
        head = f"{self.file}:{self.at.line}:{self.at.column}: {self.message}"
        text, column = _window(self.source, self.at.column)
        gutter = f"  {self.at.line} | "
        lines = [head, gutter + text, " " * (len(gutter) - 2) + "| " + " " * (column - 1) + "^"]
        return "\n".join([*lines, f"  {self.hint}"] if self.hint else lines)


class SpecMistakes(SpecError):
    """Every mistake found, in the order of the files; ``problems`` has them one by one."""

    def __init__(self, problems: Iterable[Problem], code: str = "spec-invalid") -> None:
        self.problems = tuple(problems)
        files = list(dict.fromkeys(problem.file for problem in self.problems))
        first, count = self.problems[0], len(self.problems)
        if count == 1:
            what = f"{first.file}:{first.at.line}:{first.at.column}: {first.message}"
            cause = "\n".join(first.render().splitlines()[1:])
        else:
            what = f"{count} mistakes in {', '.join(files)}"
            cause = "\n".join(problem.render() for problem in self.problems[:MAX_SHOWN])
            if count > MAX_SHOWN:
                cause += f"\nand {count - MAX_SHOWN} more"
        super().__init__(what, code=code, cause=cause, unchanged="nothing was made")


def shown(path: Path) -> str:
    """The path as a user would type it from here."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):
        return str(path)
    return str(path) if relative.startswith("..") else relative


def printable(text: str, limit: int = 200) -> str:
    """Text that cannot move the cursor or change colours: anything unprintable becomes a question mark."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else "?" for c in cut)


def _window(line: str, column: int, width: int = 100) -> tuple[str, int]:
    """The part of a long line round a column, and the column within it."""
    start = max(0, column - 1 - width // 2) if len(line) > width else 0
    return printable(line[start : start + width]), column - start

"""What an import says of its source, line by line: nothing of it goes without a word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from podctl.spec.problems import printable

#: ``imported``: as it was; ``changed``: carried with a difference; ``stubbed``: recorded answers take its place; ``left out``: not there.
Status = Literal["imported", "changed", "stubbed", "left out"]


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands in the source; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Line:
    """One statement. ``subject`` is a service, a database or an object of the source, ``key`` what of it (empty: the whole)."""

    status: Status
    subject: str
    key: str
    why: str
    place: Place
    was: str = ""
    now: str = ""

    def render(self) -> str:
        name = f"{self.subject} {self.key}" if self.key else self.subject
        turn = (
            f" ({self.was} → {self.now})"
            if self.was and self.now
            else f" ({self.was or self.now})"
            if self.was or self.now
            else ""
        )
        said = f"{self.place}: {self.status}: {name}{': ' if self.why else ''}{self.why}{turn}"
        return printable(said, 400)

    def facts(self) -> dict[str, Any]:
        """The line as JSON has it."""
        told = asdict(self)
        return {**{key: value for key, value in told.items() if key != "place"}, **told["place"]}


class Said:
    """Collects lines. Texts of the source's values are given in ``was`` only where they can be no secret."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add(self, status: Status, subject: str, key: str, why: str, place: Place, was: object = "", now: object = "") -> None:
        self.lines.append(Line(status, subject, key, why, place, str(was), str(now)))

    def of(self, subject: str) -> Iterator[Line]:
        return (line for line in self.lines if line.subject == subject)

    def ordered(self) -> list[Line]:
        """By place; each subject before its keys."""
        return sorted(self.lines, key=lambda line: (line.place, bool(line.key)))

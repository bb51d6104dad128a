"""The documentation as data: pages, links, console blocks with what stands above them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"((?:<!--[^\n]*-->\n)*)```console\n(.*?)```", re.DOTALL)
_FILE = re.compile(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", re.DOTALL)
_NOTE = re.compile(r"<!-- (.*?) -->")


@dataclass(frozen=True)
class Block:
    """``where`` is ``demo``, ``sampled``, ``empty`` or ``new``; ``skipped`` says why it is not executed."""

    page: str
    line: int
    commands: tuple[str, ...]
    where: str = "new"
    code: int = 0
    skipped: str = ""
    #: What the page shows above it, to be in the directory: name, content.
    files: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page)]


def blocks_of(page: Path) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(text(page)):
        notes = _NOTE.findall(match[1])
        commands = tuple(line.removeprefix("$ ") for line in match[2].splitlines() if line.startswith("$ "))
        given: dict[str, str] = {}
        for note in notes:
            kind, _, value = note.replace("exits ", "exits: ").partition(": ")
            assert kind in ("in", "exits", "not executed"), f"{page.name}: <!-- {note} --> is not understood"
            assert value, f"{page.name}: <!-- {note} --> needs a value"
            given[kind] = value
        found.append(
            Block(
                str(page.relative_to(ROOT)),
                text(page)[: match.start(2)].count("\n"),
                commands,
                given.get("in", "new"),
                int(given.get("exits", 0)),
                given.get("not executed", ""),
                tuple((file[1], file[2]) for file in _FILE.finditer(text(page)[: match.start()])),
            )
        )
    return found


def anchors(page: Path) -> set[str]:
    """GitHub's: headings in lower case, without punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text(page), flags=re.DOTALL))


def code(page: Path) -> list[str]:
    """Inline code, and the lines of blocks that are commands."""
    body = text(page)
    blocks = re.findall(r"```(\w*)\n(.*?)```", body, re.DOTALL)
    lines = [line[2:] for kind, content in blocks if kind == "console" for line in content.splitlines() if line[:2] == "$ "]
    outside = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    indented = [line.strip() for line in outside.splitlines() if line.startswith("    ")]
    return [*re.findall(r"`([^`\n]+)`", outside), *lines, *indented]

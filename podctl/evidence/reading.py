"""Evidence read back: an attempt's records, and whether they are as they were sealed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from podctl.evidence.log import SEALED, EvidenceProblem, chain_path, links, merge, parse_line, stream_paths
from podctl.evidence.records import Record


def read_attempt(directory: Path) -> list[Record]:
    """An attempt's records by time, sealed or still in streams; empty when there are none.

    Raises `EvidenceProblem` naming the damaged line.
    """
    return [record for record, _line in merge(directory / SEALED, stream_paths(directory))]


@dataclass(frozen=True)
class Verification:
    """``first_damaged`` is the number (from 1) of the first record that is not as sealed, when it can be told."""

    intact: bool
    records: int
    root: str  # recomputed from the file
    first_damaged: int | None = None
    detail: str = ""


def verify(directory: Path, root: str) -> Verification:
    """Recompute the chain of a sealed attempt and compare its head with ``root``, kept outside the file.

    Without damage ``evidence.chain`` is not looked at; with damage it tells which record is the first to differ.
    """
    path = directory / SEALED
    if not path.exists():
        return Verification(False, 0, "", None, "evidence.jsonl is missing")
    with open(path, "rb") as sealed:
        lines = list(sealed)
    found = list(links(lines))
    head = found[-1] if found else "0" * 64
    if head == root:
        return Verification(True, len(lines), head)
    kept = _kept_links(path)
    if (kept[-1] if kept else "0" * 64) != root:
        return Verification(False, len(lines), head, None, "evidence.jsonl and evidence.chain are both not as sealed")
    pairs = zip(found, kept, strict=False)
    number = next((at for at, (here, then) in enumerate(pairs, 1) if here != then), min(len(found), len(kept)) + 1)
    return Verification(False, len(lines), head, number, _what_happened(path, lines, number, len(kept)))


def _kept_links(path: Path) -> list[str]:
    try:
        return chain_path(path).read_text("ascii", errors="replace").split()
    except OSError:
        return []


def _what_happened(path: Path, lines: list[bytes], number: int, sealed: int) -> str:
    if number > len(lines):
        return f"records from {number} on are gone: {sealed} were sealed, {len(lines)} are left"
    if number > sealed:
        return f"record {number} was added after sealing"
    try:
        record = parse_line(lines[number - 1], path, number)
    except EvidenceProblem:
        return f"record {number} was changed and can no longer be read"
    return f"record {number} ({record.kind}) was changed, added or removed"

"""Evidence read back: an attempt's records, and whether they are as they were sealed.

Everything here may have been written by somebody else since: files are bounded, links and pipes are not followed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO

from podctl.evidence.alignment import Difference, differences
from podctl.evidence.log import LEAVES, MAX_LINE, SEALED, EvidenceProblem, merge, parse_line, stream_paths
from podctl.evidence.merkle import leaf_hash, root_of
from podctl.evidence.records import Record
from podctl.evidence.safe import printable

#: Differences that are told one by one.
_TOLD = 8


def read_attempt(directory: Path) -> list[Record]:
    """An attempt's records by time, sealed or still in streams; empty when there are none.

    Raises `EvidenceProblem` naming the damaged line.
    """
    return [record for record, _line in merge(directory / SEALED, stream_paths(directory))]


@dataclass(frozen=True)
class Verification:
    """``differences`` name what is not as sealed, when that can be told; ``detail`` says the same in words."""

    intact: bool
    records: int
    root: str  # recomputed from the file
    differences: tuple[Difference, ...] = ()
    detail: str = ""

    @property
    def first_damaged(self) -> int | None:
        return self.differences[0].number if self.differences else None


#: Opens a file of an attempt by its name. Raises `OSError`.
Opener = Callable[[str], IO[bytes]]


def within(directory: Path) -> Opener:
    return lambda name: open_plain(directory / name)


def verify(directory: Path, root: str) -> Verification:
    """As `verify_opened`, of an attempt's directory."""
    return verify_opened(within(directory), root)


def verify_opened(opened: Opener, root: str) -> Verification:
    """Recompute the root of a sealed attempt and compare it with ``root``, kept outside the file.

    Without damage ``evidence.leaves`` is not looked at; with damage it tells which records differ, as long as it is itself as it was.
    An attempt that an older podctl sealed with a hash chain is compared with that.
    """
    try:
        with opened(SEALED) as sealed:
            lines = list(bounded_lines(sealed))
    except OSError as error:
        return Verification(
            False, 0, "", (), f"{SEALED} {'is missing' if isinstance(error, FileNotFoundError) else 'is no file'}"
        )
    found = [leaf_hash(line) for line in lines]
    head = root_of(found).hex()
    if head == root:
        return Verification(True, len(lines), head)
    links = list(_chain(lines))
    if links[-1].hex() == root:
        return Verification(True, len(lines), root, (), "sealed with a hash chain, by an older podctl")
    kept = _kept(opened, LEAVES)
    if kept is not None and root_of(kept).hex() == root:
        told = differences(found, kept)
        return Verification(False, len(lines), head, tuple(told), _in_words(told, lines))
    kept = _kept(opened, "evidence.chain")
    if kept and kept[-1].hex() == root:
        number = next((at for at, (here, then) in enumerate(zip(links[1:], kept, strict=False), 1) if here != then), 0)
        number = number or min(len(lines), len(kept)) + 1
        of_sealed = number > len(lines)
        one = Difference("cut", number, len(kept)) if of_sealed else Difference("changed", number, number)
        said = one.words if of_sealed else f"record {number}{_kind(lines, number)} is the first that is not as sealed"
        return Verification(False, len(lines), head, (one,), said)
    why = f"{LEAVES}, which would tell what was changed, is not as sealed either"
    return Verification(False, len(lines), head, (), f"{SEALED} is not as sealed; {why}")


def open_plain(path: Path) -> BufferedReader:
    """A regular file, to read. Raises `OSError` for anything else in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no file")
    return open(descriptor, "rb")


def bounded_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines with their ends; what is longer than any record comes in several pieces, none of which is one."""
    return iter(lambda: file.readline(MAX_LINE + 2), b"")


def _in_words(told: Sequence[Difference], lines: Sequence[bytes]) -> str:
    words = [one.words + (_kind(lines, one.number) if one.kind in ("changed", "inserted") else "") for one in told[:_TOLD]]
    return "; ".join(words) + (f"; and {len(told) - _TOLD:,} more" if len(told) > _TOLD else "")


def _kind(lines: Sequence[bytes], number: int) -> str:
    try:
        return f" ({printable(str(parse_line(lines[number - 1], Path(SEALED), number).kind), 40)})"
    except EvidenceProblem:
        return " (it can no longer be read)"


def _kept(opened: Opener, name: str) -> list[bytes] | None:
    """The hashes in a file, a line each; None when it is anything else."""
    try:
        with opened(name) as file:
            found = [bytes.fromhex(line.decode("ascii")) for line in bounded_lines(file)]
    except (OSError, ValueError):
        return None
    return found if all(len(one) == 32 for one in found) else None


def _chain(lines: Iterable[bytes]) -> Iterator[bytes]:
    """How podctl sealed before it had trees: h(0) is 32 zero bytes, h(i) = sha256(h(i-1) + line(i))."""
    head = bytes(32)
    yield head
    for line in lines:
        head = hashlib.sha256(head + line).digest()
        yield head

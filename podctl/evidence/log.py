"""Append-only evidence files: one writer a stream while an attempt runs, sealed into one file when it ends.

In an attempt's directory the streams are ``streams/<writer>.jsonl``; the sealed file is ``evidence.jsonl``, and beside it
``evidence.leaves`` holds every record's leaf hash, one hex line each. The root of the Merkle tree over them is the attempt's seal.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from podctl.clock import Clock, SystemClock
from podctl.errors import EnvironmentProblem, refused_by_system
from podctl.evidence.merkle import leaf_hash, root_of
from podctl.evidence.records import KINDS, Record
from podctl.faults import point

#: A single record's line is cut to this; a record is a fact, not a file.
MAX_LINE = 1 << 20
SEALED = "evidence.jsonl"
LEAVES = "evidence.leaves"
STREAMS = "streams"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class EvidenceProblem(EnvironmentProblem):
    """Evidence could not be written or read back."""


def encode(record: Record) -> bytes:
    """The record as one line of ASCII JSON; any string survives, lone surrogates included."""
    try:
        line = _dump(record.to_json())
    except (RecursionError, ValueError, TypeError) as error:
        # Nested too deeply, an integer of thousands of digits, a key that is no string: hostile data must not stop the record.
        line = _dump({**record.to_json(), "data": {"unencodable": f"{type(error).__name__}: {error}"[:200]}})
    if len(line) > MAX_LINE:
        cut = {"truncated": len(line), "start": line[: MAX_LINE // 4].decode("ascii")}
        line = _dump({**record.to_json(), "data": cut})
    return line + b"\n"


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode("ascii")


#: Actors that are podctl itself: its own, and the second writer of a chaos campaign.
OURS = ("podctl", "rival")


class RecordWriter:
    """Appends records to a file descriptor opened with O_APPEND; one ``write`` a record."""

    def __init__(
        self, fd: int, writer: str, clock: Clock | None = None, *, first: int = 0, who: Mapping[str, str] | None = None
    ) -> None:
        """``first`` is the first record's ``seq``: the number of records the stream already has. ``who`` goes onto every record but
        podctl's own."""
        self._fd = fd
        self._writer = writer
        self._clock = clock or SystemClock()
        self._seq = first
        self._who = who or None
        self._earliest = self._latest = 0

    @staticmethod
    def open(path: Path, writer: str, clock: Clock | None = None, who: Mapping[str, str] | None = None) -> RecordWriter:
        """Goes on after the last whole record of an existing stream; a line torn by a kill is removed first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        present = _drop_torn_tail(path)
        return RecordWriter(open_stream(path), writer, clock, first=present, who=who)

    def append(
        self,
        kind: str,
        actor: str,
        data: dict[str, Any],
        *,
        provenance: Literal["observed", "declared", "inferred"] = "observed",
        t: int | None = None,
    ) -> Record:
        """``t`` is for what happened earlier than now.

        Whatever the clock does, times of one writer do not go back, and none is before its first.
        Raises `EvidenceProblem` when the record could not be written whole; the stream then ends as before.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown record kind {kind!r}")
        if t is None:
            at = self._latest = max(self._latest, self._clock.wall_ns())
            self._earliest = self._earliest or at
        else:
            at = max(self._earliest, t)
        who = None if actor in OURS else self._who
        record = Record(at, kind, actor, data, provenance, self._writer, self._seq, who)
        line = encode(record)
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            self._take_back(written)
            raise _unwritten("evidence could not be written", error) from error
        self._seq += 1
        return record

    def _take_back(self, written: int) -> None:
        """Half a line must not stay: the next record would be glued to it and both be lost."""
        if written:
            try:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            except OSError:
                pass  # not a regular file; the reader drops a torn last line

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_stream(path: Path) -> int:
    """A descriptor for appending, not inherited by children."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _drop_torn_tail(path: Path) -> int:
    """Cut the file after its last newline and return how many lines it has."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)
    return content.count(b"\n")


def stream_path(directory: Path, writer: str) -> Path:
    """Where ``writer`` appends while the attempt in ``directory`` runs."""
    return directory / STREAMS / f"{_UNSAFE.sub('_', writer)}.jsonl"


def stream_paths(directory: Path) -> list[Path]:
    return sorted((directory / STREAMS).glob("*.jsonl"))


def read_stream(path: Path) -> Iterator[Record]:
    """Records in the order written. A torn last line, left by a kill, is dropped.

    Raises `EvidenceProblem` naming the line for damage anywhere else.
    """
    return (record for record, _line in _read_lines(path))


def _read_lines(path: Path) -> Iterator[tuple[Record, bytes]]:
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            yield parse_line(line, path, number), line


def parse_line(line: bytes, path: Path, number: int) -> Record:
    """Raises `EvidenceProblem` naming the file and line."""
    try:
        record = Record.from_json(json.loads(line))
        if type(record.t) is not int or type(record.data) is not dict:
            raise ValueError("not a record")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvidenceProblem(
            f"evidence is damaged at {path}:{number}", code="evidence-damaged", cause=f"{type(error).__name__}: {error}"
        ) from error
    return record


def leaves_path(sealed: Path) -> Path:
    """The file beside a sealed one that has the leaf hash of each record."""
    return sealed.with_name(LEAVES)


def leaves_file(leaves: Iterable[bytes]) -> bytes:
    return b"".join(leaf.hex().encode() + b"\n" for leaf in leaves)


def merge(sealed: Path, streams: Iterable[Path]) -> list[tuple[Record, bytes]]:
    """Sealed records and those of streams that are not among them, by time, with their lines as written.

    After a kill between sealing and removing the streams the same records stand in both.
    """
    found = list(_read_lines(sealed)) if sealed.exists() else []
    known = Counter(line for _record, line in found)
    for path in streams:
        if not path.exists():
            continue
        for record, line in _read_lines(path):
            if known[line] > 0:
                known[line] -= 1
            else:
                found.append((record, line))
    found.sort(key=lambda pair: (pair[0].t, pair[0].writer, pair[0].seq))
    return found


def seal(streams: Iterable[Path], target: Path) -> str:
    """Merge streams by time into ``target`` and return its root in hex; the streams are removed.

    The rename is atomic, and sealing again after a kill at any step comes to the same file and root.
    """
    sources = list(streams)
    lines = [line for _record, line in merge(target, sources)]
    leaves = [leaf_hash(line) for line in lines]
    _write_whole(leaves_path(target), [leaves_file(leaves)])
    point("attempt.leaves-written")
    _write_whole(target, lines)
    point("attempt.merged")
    for path in sources:
        path.unlink(missing_ok=True)
    return root_of(leaves).hex()


def seal_attempt(directory: Path) -> str:
    """Seal every stream of the attempt into its ``evidence.jsonl`` and return the root in hex."""
    return seal(stream_paths(directory), directory / SEALED)


def _write_whole(target: Path, lines: list[bytes]) -> None:
    temporary = target.with_name(target.name + ".tmp")
    try:
        with open(temporary, "wb") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # the rename must reach the disk before the streams are removed
        finally:
            os.close(directory)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()  # room for others
        raise _unwritten("evidence could not be sealed", error) from error


def keep_file(path: Path, data: bytes) -> None:
    """What an attempt left, beside its records. Raises `EvidenceProblem`."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _unwritten(f"{path} could not be written", error) from error


def _unwritten(what: str, error: OSError) -> EvidenceProblem:
    refusal = refused_by_system(error)
    hint = refusal.hint if refusal is not None else ""
    return EvidenceProblem(what, code="evidence-write", cause=str(error), hint=hint)

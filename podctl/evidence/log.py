"""Append-only evidence files: one writer a stream while an attempt runs, sealed into one file when it ends."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from podctl.clock import Clock, SystemClock
from podctl.errors import EnvironmentProblem
from podctl.evidence.records import KINDS, Record

#: A single record's line is cut to this; a record is a fact, not a file.
MAX_LINE = 1 << 20


class EvidenceProblem(EnvironmentProblem):
    """Evidence could not be written or read back."""


def encode(record: Record) -> bytes:
    """The record as one line of ASCII JSON; any string survives, lone surrogates included."""
    line = json.dumps(record.to_json(), separators=(",", ":"), default=str).encode("ascii")
    if len(line) > MAX_LINE:
        cut = {"truncated": len(line), "start": line[: MAX_LINE // 4].decode("ascii")}
        line = json.dumps({**record.to_json(), "data": cut}, separators=(",", ":")).encode("ascii")
    return line + b"\n"


class RecordWriter:
    """Appends records to a file descriptor opened with O_APPEND; one ``write`` a record."""

    def __init__(self, fd: int, writer: str, clock: Clock | None = None) -> None:
        self._fd = fd
        self._writer = writer
        self._clock = clock or SystemClock()
        self._seq = 0

    @staticmethod
    def open(path: Path, writer: str, clock: Clock | None = None) -> RecordWriter:
        return RecordWriter(open_stream(path), writer, clock)

    def append(
        self,
        kind: str,
        actor: str,
        data: dict[str, Any],
        *,
        provenance: Literal["observed", "declared", "inferred"] = "observed",
        t: int | None = None,
    ) -> Record:
        """Raises `EvidenceProblem` when the record could not be written whole."""
        if kind not in KINDS:
            raise ValueError(f"unknown record kind {kind!r}")
        at = self._clock.wall_ns() if t is None else t
        record = Record(t=at, kind=kind, actor=actor, data=data, provenance=provenance, writer=self._writer, seq=self._seq)
        line = encode(record)
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise EvidenceProblem("evidence could not be written", code="evidence-write", cause=str(error)) from error
        if written != len(line):
            raise EvidenceProblem("evidence could not be written whole", code="evidence-write", cause="the disk is full")
        self._seq += 1
        return record

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_stream(path: Path) -> int:
    """A descriptor for appending, not inherited by children."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def read_stream(path: Path) -> Iterator[Record]:
    """Records in the order written. A torn last line, left by a kill, is dropped.

    Raises `EvidenceProblem` naming the line for damage anywhere else.
    """
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield Record.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise EvidenceProblem(
                    f"evidence is damaged at {path}:{number}", code="evidence-damaged", cause=f"{type(error).__name__}: {error}"
                ) from error


def chain(lines: Iterable[bytes]) -> str:
    """The head of the hash chain over lines: h(i) = sha256(h(i-1) + line(i)), h(0) = 32 zero bytes."""
    head = bytes(32)
    for line in lines:
        head = hashlib.sha256(head + line).digest()
    return head.hex()


def seal(streams: Iterable[Path], target: Path) -> str:
    """Merge streams by time into ``target`` and return its chain head; the streams are removed.

    The rename is atomic: after a kill there are either the streams or the sealed file.
    """
    sources = [path for path in streams if path.exists()]
    records = [record for path in sources for record in read_stream(path)]
    records.sort(key=lambda record: (record.t, record.writer, record.seq))
    lines = [encode(record) for record in records]
    temporary = target.with_suffix(".tmp")
    with open(temporary, "wb") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(target)
    for path in sources:
        path.unlink(missing_ok=True)
    return chain(lines)

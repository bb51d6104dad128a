"""Files searched for raw values, byte by byte: what was masked must be nowhere, whatever wrote it there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from podctl.errors import ExitCode
from podctl.masking.canaries import Canary
from podctl.masking.problems import MaskingProblem

#: Bytes read at once; values across the border of two pieces are found.
_PIECE = 1 << 20
#: Bytes of values for which there is memory to look at each byte of a file once (half a kilobyte each), at 1.6 times the speed.
_FEW = 200_000


@dataclass(frozen=True)
class Finding:
    """A raw value of ``where`` stands in a file, ``offset`` bytes from its start. The value itself is not told."""

    file: str
    offset: int
    where: str
    mask: str


@dataclass(frozen=True)
class ScanResult:
    """``files``: path -> sha256 of what was read."""

    files: dict[str, str]
    bytes: int
    findings: tuple[Finding, ...]


class Scanner:
    """Searches for all canaries at once. Capital letters of ASCII make no difference."""

    def __init__(self, canaries: Sequence[Canary]) -> None:
        self._canaries = [canary for canary in canaries for _ in canary.forms]
        forms = [form for canary in canaries for form in canary.forms]
        self._longest = max(map(len, forms), default=1)
        how = Implementation.DFA if sum(map(len, forms)) <= _FEW else Implementation.ContiguousNFA
        self._search = BytesAhoCorasick(forms, matchkind=MatchKind.Standard, implementation=how) if forms else None

    def scan(self, roots: Iterable[Path], piece: int = _PIECE) -> ScanResult:
        """Every file at and below ``roots``; links are not followed. At most one finding a file and value.

        Raises `MaskingProblem` for a file that cannot be read: what was not searched has not been shown to be clean.
        """
        files: dict[str, str] = {}
        found: list[Finding] = []
        size = 0
        for root, path in _files(roots):
            name = path.relative_to(root).as_posix() if path != root else path.name
            try:
                digest, length, hits = self._file(path, piece)
            except OSError as error:
                raise MaskingProblem(
                    f"{path} could not be searched",
                    code="scan-unreadable",
                    cause=error.strerror or "",
                    unchanged="no statement was made",
                ) from error
            files[f"{root.name}/{name}" if path != root else name] = digest
            size += length
            found += [Finding(str(path), offset, canary.where, canary.mask) for canary, offset in hits.items()]
        return ScanResult(files, size, tuple(found))

    def _file(self, path: Path, piece: int) -> tuple[str, int, dict[Canary, int]]:
        digest, hits = hashlib.sha256(), dict[Canary, int]()
        kept, start = b"", 0
        with open(path, "rb") as file:
            while data := file.read(piece):
                digest.update(data)
                window = kept + data.lower()
                if self._search is not None:
                    for which, begin, _ in self._search.find_matches_as_indexes(window, overlapping=True):
                        hits.setdefault(self._canaries[which], start - len(kept) + begin)
                start += len(data)
                kept = window[-(self._longest - 1) :] if self._longest > 1 else b""
        return digest.hexdigest(), start, hits


def _files(roots: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    for root in roots:
        if root.is_dir() and not root.is_symlink():
            yield from ((root, path) for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
        else:
            yield root, root


def refuse_findings(result: ScanResult) -> None:
    """Raises `MaskingProblem` that says where raw values of which columns stand, and none of them."""
    if not result.findings:
        return
    lines = [f"{one.file}, byte {one.offset:,}: a value of {one.where} ({one.mask})" for one in result.findings]
    more = len(lines) - 20
    raise MaskingProblem(
        f"{len(lines)} raw values are in what was to be masked",
        code="masking-leak",
        cause="\n".join(lines[:20] + ([f"and {more:,} more"] if more > 0 else [])),
        exit_code=ExitCode.GATE_FAILED,
        hint="a column that has copies of these values is kept, or its text has them: give it a rule, and capture again",
    )

"""A run's evidence with everything that shows it to be as it was: a directory or a tar file that is checked without a store.

    bundle.json                        what it is of, the log's checkpoint, proofs that the log grew from its earlier checkpoints, the
                                       public keys that the store knows
    entries.jsonl                      the run's entries in the audit log, each with its proof that the checkpoint covers it
    run.json, attempts.jsonl           the store's rows that the entries have digests of
    attempts/ID/evidence.jsonl …       the records, their leaf hashes, and what the agent left

A bundle comes from anywhere. It is never unpacked: names are compared with those that may be there, links are not followed, lines and
counts are bounded.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from podctl.errors import EnvironmentProblem, PodctlError
from podctl.evidence.audit_check import (
    LogCheck,
    RunCheck,
    check_log,
    compare_run,
    entry_of,
    kept_problem,
    read_checkpoint,
)
from podctl.evidence.audit_entries import MOST, canonical
from podctl.evidence.audit_facts import FILES
from podctl.evidence.drafts import private, written_whole
from podctl.evidence.log import LEAVES, SEALED
from podctl.evidence.merkle import HASH, Tree, consistent, includes, leaf_hash
from podctl.evidence.note import Checkpoint, NoteProblem
from podctl.evidence.reading import Opener, open_plain
from podctl.evidence.safe import printable
from podctl.evidence.store_read import NAME, StoreReader
from podctl.signing import PublicKey

FORMAT = "podctl audit bundle 1"
_OF_ATTEMPT = (SEALED, LEAVES, "evidence.chain", *FILES)
_TOP = ("bundle.json", "entries.jsonl", "run.json", "attempts.jsonl")
#: Files of a bundle that is read; bytes of bundle.json, and of a line of its other files.
_MOST_FILES = 1_000_000
_MOST_HEAD = 1 << 20
_MOST_LINE = 64 << 20
_MOST_KEYS = 32
#: Earlier checkpoints, the latest, that a bundle has a proof for.
_MOST_EARLIER = 300
_PROOF = re.compile(r"(?:[0-9a-f]{64}){0,64}")


class BundleProblem(EnvironmentProblem):
    """A bundle that cannot be made, or that is none."""


# ---- making one -------------------------------------------------------------------------


class _Sink(Protocol):
    def add(self, name: str, size: int, content: IO[bytes]) -> None: ...


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, name: str, size: int, content: IO[bytes]) -> None:
        path = self._root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "xb", opener=private) as file:
            shutil.copyfileobj(content, file)


class _Tar:
    """Always the same bytes for the same content."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, size: int, content: IO[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        self._tar.addfile(member, content)


def export(reader: StoreReader, run: str, out: Path) -> Checkpoint:
    """Writes ``out``, a tar file when its name ends with ``.tar`` and a directory otherwise, whole or not at all.

    Raises `BundleProblem` when there is something already, or when the log is not as it was written.
    """
    with written_whole(out, BundleProblem, "bundle") as draft:
        log = check_log(reader)
        if log.problems:
            raise BundleProblem(
                "the store's audit log is not as it was written, and proves nothing",
                code="audit-damaged",
                cause=log.problems[0],
                unchanged="nothing was written",
                hint="podctl audit verify tells all differences",
            )
        if out.suffix != ".tar":
            return _fill(_Directory(draft), reader, run)
        with open(draft, "xb", opener=private) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            return _fill(_Tar(tar), reader, run)


def log_part(reader: StoreReader, run: str) -> dict[str, bytes]:
    """The two files of a bundle that say what the log has of a run, without any evidence: name -> content."""
    files = _Kept()
    _fill_log(files, reader, run)
    return files.content


class _Kept:
    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def add(self, name: str, size: int, content: IO[bytes]) -> None:
        self.content[name] = content.read()


def _fill(sink: _Sink, reader: StoreReader, run: str) -> Checkpoint:
    checkpoint = _fill_log(sink, reader, run)
    _add(sink, "run.json", [canonical(reader.stored_run(run))])
    attempts = reader.stored_attempts(run)
    names = ("id", "state", "root", "result")
    _add(sink, "attempts.jsonl", (canonical(dict(zip(names, one, strict=True))) for one in attempts))
    for attempt, *_ in attempts:
        directory = reader.evidence_directory(run, attempt)
        for file in _OF_ATTEMPT:
            try:
                content = open_plain(directory / file)
            except OSError:
                continue
            with content:
                sink.add(f"attempts/{attempt}/{file}", os.fstat(content.fileno()).st_size, content)
    return checkpoint


def _fill_log(sink: _Sink, reader: StoreReader, run: str) -> Checkpoint:
    leaves, entries = [], []
    for position, of, entry, leaf in reader.audit_rows():
        leaves.append(bytes.fromhex(leaf))
        if of == run and entry is not None:
            entries.append((position, entry))
    origin, _, _ = reader.audit_head()
    needed = entries[-1][0] + 1 if entries else 0
    made = reader.audit_checkpoints()
    covering = [(size, note) for size, note, _ in made if size >= needed]
    if covering:
        size, note = covering[0]
        tree = Tree(leaves[:size])
    else:
        tree = Tree(leaves)
        note = Checkpoint(origin, tree.size, tree.root).text
    keys = [PublicKey(bytes.fromhex(key)).pem for key in dict.fromkeys(key for _, _, key in made if key)]
    earlier = {str(size): b"".join(tree.consistency(size)).hex() for size, _, _ in made if size < tree.size}
    head = {
        "format": FORMAT,
        "run": run,
        "checkpoint": note,
        "keys": keys,
        "earlier": dict([*earlier.items()][-_MOST_EARLIER:]),
    }
    _add(sink, "bundle.json", [canonical(head)])
    proofs = (
        {"entry": entry, "proof": b"".join(tree.inclusion(position)).hex() if position < tree.size else ""}
        for position, entry in entries
    )
    _add(sink, "entries.jsonl", map(canonical, proofs))
    return read_checkpoint(note.encode(), ())[0]


def _add(sink: _Sink, name: str, lines: Iterator[str] | Sequence[str]) -> None:
    content = b"".join(line.encode("ascii") + b"\n" for line in lines)
    sink.add(name, len(content), io.BytesIO(content))


# ---- checking one -----------------------------------------------------------------------


class Bundle(Protocol):
    """Raises `OSError` for what is not there or is no file."""

    def open(self, name: str) -> IO[bytes]: ...

    def names(self) -> frozenset[str]: ...

    def close(self) -> None: ...


class _FromDirectory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> frozenset[str]:
        found = set()
        waiting = [self._root]
        while waiting:
            for entry in os.scandir(waiting.pop()):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                found.add(Path(entry.path).relative_to(self._root).as_posix() + "/" * entry.is_dir(follow_symlinks=False))
                if len(found) > _MOST_FILES:
                    raise _no_bundle(f"it has more than {_MOST_FILES:,} files")
        return frozenset(name for name in found if not name.endswith("/"))

    def open(self, name: str) -> IO[bytes]:
        return open_plain(self._root / name)

    def close(self) -> None:
        pass


class _FromTar:
    def __init__(self, path: Path) -> None:
        try:
            self._tar = tarfile.open(fileobj=open_plain(path), mode="r:")  # noqa: SIM115 - closed by `close`
            self._members: dict[str, tarfile.TarInfo] = {}
            for member in self._tar:
                if not member.isreg() or member.issparse() or member.name in self._members:
                    raise _no_bundle(f"{printable(member.name, 100)} is no plain file, or is there twice")
                self._members[member.name] = member
                if len(self._members) > _MOST_FILES:
                    raise _no_bundle(f"it has more than {_MOST_FILES:,} files")
        except (tarfile.TarError, ValueError, OverflowError, EOFError, MemoryError, KeyError, IndexError) as error:
            raise _no_bundle(f"it is no tar file: {printable(str(error), 100)}") from None

    def names(self) -> frozenset[str]:
        return frozenset(self._members)

    def open(self, name: str) -> IO[bytes]:
        if name not in self._members:
            raise FileNotFoundError(name)
        file: IO[bytes] | None = self._tar.extractfile(self._members[name])
        assert file is not None
        return file

    def close(self) -> None:
        self._tar.close()


@dataclass(frozen=True)
class BundleCheck:
    log: LogCheck
    run: RunCheck


def check_bundle(path: Path, keys: Sequence[PublicKey] = (), kept: Sequence[Checkpoint] = ()) -> BundleCheck:
    """Every difference is named. Raises `BundleProblem` for what is no bundle at all."""
    try:
        with closing(_FromDirectory(path) if path.is_dir() else _FromTar(path)) as bundle:
            return _check(bundle, keys, kept)
    except OSError as error:
        raise _no_bundle(f"{path}: {os.strerror(error.errno) if error.errno else printable(str(error), 100)}") from None


class _InMemory:
    """The files of `log_part`."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def open(self, name: str) -> IO[bytes]:
        if name not in self._files:
            raise FileNotFoundError(name)
        return io.BytesIO(self._files[name])

    def close(self) -> None:
        pass


def check_log_part(
    files: Mapping[str, bytes], keys: Sequence[PublicKey] = (), kept: Sequence[Checkpoint] = ()
) -> tuple[LogCheck, str, list[dict[str, Any]]]:
    """What the log says of which run, and its entries, each held against the checkpoint. Raises `BundleProblem` for what is none of it."""
    try:
        return _check_log(_InMemory(files), keys, kept)
    except OSError as error:
        raise _no_bundle(f"{printable(str(error), 100)} is missing") from None


def _check(bundle: Bundle, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> BundleCheck:
    log, run, entries = _check_log(bundle, keys, kept)
    row = _object(next(_lines(bundle, "run.json", _MOST_LINE), b""))
    try:
        listed = set[str]()
        checked = compare_run(run, {**dict.fromkeys(_ROW, ""), **_texts(row)}, entries, _attempts(bundle, listed))
    except RecursionError:
        raise _no_bundle("it is nested too deeply") from None
    there = {parts[1] for name in bundle.names() if (parts := name.split("/"))[0] == "attempts" and len(parts) == 3}
    added = tuple(f"evidence of an attempt {printable(name, 64)} was added" for name in sorted(there - listed))
    return BundleCheck(log, replace(checked, problems=(*checked.problems, *added)))


def _check_log(
    bundle: Bundle, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]
) -> tuple[LogCheck, str, list[dict[str, Any]]]:
    names = bundle.names()
    head = _object(next(_lines(bundle, "bundle.json", _MOST_HEAD), b""))
    run, note, pems = head.get("run"), head.get("checkpoint"), head.get("keys")
    if head.get("format") != FORMAT or not isinstance(run, str) or not NAME.fullmatch(run):
        raise _no_bundle(f"bundle.json does not say {FORMAT!r} and a run")
    if not isinstance(note, str) or not isinstance(pems, list) or len(pems) > _MOST_KEYS:
        raise _no_bundle("bundle.json has no checkpoint or no list of keys")
    claimed = [key for pem in pems if isinstance(pem, str) and (key := _key(pem)) is not None]
    try:
        checkpoint, signers = read_checkpoint(note.encode("utf-8", "surrogatepass"), [*keys, *claimed])
    except NoteProblem as error:
        raise _no_bundle(f"its checkpoint is none: {error.cause}") from None
    problems = [f"{printable(name, 100)} does not belong into a bundle" for name in sorted(names) if not _may_be_there(name)]
    trusted = next((key for key in signers if key in keys), None)
    if keys and trusted is None:
        problems.append("the checkpoint is not signed by a key that was named")
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(bundle, "entries.jsonl", 4 * MOST), 1):
        entry, problem = _entry(line, run, entries[-1] if entries else None, checkpoint)
        if problem:
            problems.append(f"entry {number} of the bundle {problem}")
        if entry:
            entries.append(entry)
    earlier = head.get("earlier")
    problems += [
        problem for one in kept if (problem := _kept_problem(one, checkpoint, earlier if isinstance(earlier, dict) else {}))
    ]
    log = LogCheck(
        checkpoint.origin,
        checkpoint.size,
        checkpoint.root,
        tuple(problems),
        checkpoint.size if trusted else 0,
        trusted,
        "" if trusted or not signers else signers[0].id,
    )
    return log, run, entries


_ROW = ("status", "verdict", "spent_dollars", "findings", "comparison", "notes", "info")


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _ROW if name in row and isinstance(row[name], str | None)}


def _entry(line: bytes, run: str, before: Mapping[str, Any] | None, checkpoint: Checkpoint) -> tuple[dict[str, Any], str]:
    """The entry, if it is one of the run's, and what is wrong with it."""
    said = _object(line)
    text, proof = said.get("entry"), said.get("proof")
    entry = entry_of(text) if isinstance(text, str) and len(text) <= MOST else {}
    if not entry or not isinstance(text, str) or entry.get("run") != run:
        return {}, "is none of the run's"
    leaf = leaf_hash(text.encode("utf-8", "surrogatepass"))
    if not includes(leaf, entry["n"], checkpoint.size, _steps(proof), checkpoint.root):
        return entry, "is not in the log that the checkpoint is of: it was changed or made up"
    if entry.get("after") != (None if before is None else before["n"]):
        return entry, "does not follow the one before it: entries of the run were left out or mixed up"
    return entry, ""


def _kept_problem(kept: Checkpoint, checkpoint: Checkpoint, earlier: Mapping[str, Any]) -> str:
    if kept.origin != checkpoint.origin or kept.size == checkpoint.size:
        return kept_problem(kept, checkpoint.origin, checkpoint.size, {checkpoint.size: checkpoint.root})
    if str(kept.size) not in earlier:
        sizes = f"of {kept.size:,} entries and the bundle's of {checkpoint.size:,}"
        return f"the checkpoint that was kept is {sizes}, and the bundle has no proof between them: only the store can tell"
    if not consistent(kept.size, checkpoint.size, kept.root, checkpoint.root, _steps(earlier[str(kept.size)])):
        return f"the log does not go on from the checkpoint of {kept.size:,} entries that was kept: it was rewritten"
    return ""


def _steps(proof: Any) -> list[bytes]:
    steps = bytes.fromhex(proof) if isinstance(proof, str) and _PROOF.fullmatch(proof) else b""
    return [steps[at : at + HASH] for at in range(0, len(steps), HASH)]


def _attempts(bundle: Bundle, listed: set[str]) -> Iterator[tuple[str, str, str, str | None, Opener]]:
    """``listed`` gets the name of each."""
    for line in _lines(bundle, "attempts.jsonl", _MOST_LINE):
        one = _object(line)
        name, state, root, result = (one.get(key) for key in ("id", "state", "root", "result"))
        if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(root, str):
            raise _no_bundle("attempts.jsonl has a line that is no attempt")
        listed.add(name)
        yield name, str(state), root, result if isinstance(result, str) else None, _of_attempt(bundle, name)


def _of_attempt(bundle: Bundle, attempt: str) -> Opener:
    return lambda file: bundle.open(f"attempts/{attempt}/{file}")


def _may_be_there(name: str) -> bool:
    parts = name.split("/")
    of_attempt = len(parts) == 3 and parts[0] == "attempts" and NAME.fullmatch(parts[1]) and parts[2] in _OF_ATTEMPT
    return name in _TOP or bool(of_attempt)


def _lines(bundle: Bundle, name: str, longest: int) -> Iterator[bytes]:
    with bundle.open(name) as file:
        while line := file.readline(longest + 1):
            if len(line) > longest:
                raise _no_bundle(f"{name} has a line of more than {longest:,} bytes")
            yield line


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _key(pem: str) -> PublicKey | None:
    try:
        return PublicKey.from_pem(pem.encode("utf-8", "replace")[:4096], "the bundle's key")
    except PodctlError:
        return None


def _no_bundle(why: str) -> BundleProblem:
    return BundleProblem(
        "this is no audit bundle", code="bundle-damaged", cause=why, hint="podctl audit export RUN --out makes one"
    )

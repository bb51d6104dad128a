"""A pack: the page, what shows it, and a signed list of what is in it; written whole, checked offline, never unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from podctl.errors import EnvironmentProblem
from podctl.evidence.audit_bundle import BundleProblem, check_bundle, check_log_part
from podctl.evidence.drafts import private, written_whole
from podctl.evidence.note import Checkpoint
from podctl.evidence.reading import open_plain
from podctl.evidence.safe import printable
from podctl.signing import PublicKey, SigningKey
from podctl.trust.certificate import read_certificate
from podctl.trust.documents import NotTrusted, read_object
from podctl.trust.dsse import Envelope, open_envelope, seal

FORMAT = "podctl evidence pack 1"
_TYPE = "application/vnd.podctl.evidence-pack+json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}(/[A-Za-z0-9][A-Za-z0-9._-]{0,100}){0,2}")
_MOST_FILES = 1_000
_MOST_BYTES = 2 << 30
_MOST_SMALL = 64 << 20
#: What a pack may have, besides the list itself.
MANIFEST = "manifest.json"
EVIDENCE = "evidence.tar"
_AUDIT = "audit/"
_WHEN = (1980, 1, 1, 0, 0, 0)


class PackProblem(EnvironmentProblem):
    """A pack that cannot be made, or that is none."""


# ---- making one -------------------------------------------------------------------------


def manifest(run: str, agent: str, digests: Mapping[str, str], key: SigningKey | None) -> bytes:
    """The list of what is in a pack, name -> sha256; without a key it has no signature, and whoever checks it is told."""
    document = {"format": FORMAT, "run": run, "agent": agent, "files": dict(sorted(digests.items()))}
    if key is not None:
        return seal(document, _TYPE, [key])
    return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode("ascii")


def write_pack(out: Path, files: Mapping[str, bytes | Path], run: str, agent: str, key: SigningKey | None) -> None:
    """``out``: a zip file when its name ends with ``.zip``, else a directory; whole or not at all. The same files give the same bytes.

    Raises `PackProblem` when there is something already, and when it cannot be written.
    """
    with written_whole(out, PackProblem, "pack") as draft:
        digests = {name: _sha256(content) for name, content in files.items()}
        every = {**files, MANIFEST: manifest(run, agent, digests, key)}
        if out.suffix == ".zip":
            with open(draft, "xb", opener=private) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, content in sorted(every.items()):
                    member = zipfile.ZipInfo(name, _WHEN)
                    member.external_attr = (stat.S_IFREG | 0o600) << 16
                    with archive.open(member, "w", force_zip64=True) as into, _opened(content) as source:
                        shutil.copyfileobj(source, into)
        else:
            draft.mkdir(mode=0o700)
            for name, content in sorted(every.items()):
                path = draft / name
                path.parent.mkdir(mode=0o700, exist_ok=True)
                with open(path, "xb", opener=private) as target, _opened(content) as source:
                    shutil.copyfileobj(source, target)


def _opened(content: bytes | Path) -> io.BytesIO | io.BufferedReader:
    return io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb")


def _sha256(content: bytes | Path) -> str:
    with _opened(content) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- checking one -----------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """``state``: ok, wrong, or not shown: nothing contradicts it, and nothing shows it either."""

    state: str
    name: str
    detail: str


def check_pack(path: Path, keys: Sequence[PublicKey] = (), kept: Sequence[Checkpoint] = ()) -> list[Line]:
    """What a pack shows by itself and what is wrong with it, a line each. Raises `PackProblem` for what is no pack at all."""
    try:
        with closing(_reading(path)) as pack:
            return list(_lines(pack, keys, kept))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise _no_pack(f"it is no zip file: {printable(str(error), 100)}") from None
    except OSError as error:
        raise _no_pack(os.strerror(error.errno) if error.errno else printable(str(error), 100)) from None


def _lines(pack: _Pack, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> Iterator[Line]:
    listed, signers, signed = _manifest(pack, keys)
    differences = list(_differences(pack, listed["files"]))
    for difference in differences:
        yield Line("wrong", "files", difference)
    if not differences:
        yield Line("ok", "files", f"{len(listed['files'])} files are as the list has them")
    if signers:
        yield Line("ok", "signature", f"the list is signed by key {signers[0].id}")
    elif keys:
        yield Line("wrong", "signature", "the list is signed by none of the keys that were named")
    else:
        yield Line(
            "not shown", "signature", "the list is signed; --key tells whom to believe" if signed else "nobody signed the list"
        )
    yield from _log(pack, listed, keys, kept)
    if "certificate.json" in listed["files"]:
        yield _certificate(pack, listed, keys)
    else:
        yield Line("not shown", "certificate", "the pack has none")
    if EVIDENCE in listed["files"]:
        yield from _evidence(pack, keys, kept)
    else:
        yield Line("not shown", "evidence", "the pack has the roots of the evidence and not the evidence itself")


def _manifest(pack: _Pack, keys: Sequence[PublicKey]) -> tuple[dict[str, Any], list[PublicKey], bool]:
    data = pack.read(MANIFEST)
    signers: list[PublicKey] = []
    signed = False
    try:
        value = read_object(data, MANIFEST, _MOST_SMALL)
        if "payload" in value:
            envelope: Envelope = open_envelope(data, MANIFEST, _MOST_SMALL)
            signers, signed = envelope.signers(keys), envelope.payload_type == _TYPE
            value = read_object(envelope.payload, MANIFEST, _MOST_SMALL)
    except NotTrusted as refused:
        raise _no_pack(f"{refused.what}: {refused.cause}") from None
    files = value.get("files")
    right = isinstance(files, dict) and all(isinstance(one, str) and _NAME.fullmatch(name) for name, one in files.items())
    if value.get("format") != FORMAT or not right or not all(isinstance(value.get(name), str) for name in ("run", "agent")):
        raise _no_pack(f"{MANIFEST} does not say {FORMAT!r}, a run, an agent and files")
    return value, signers if signed else [], signed


def _differences(pack: _Pack, files: Mapping[str, str]) -> Iterator[str]:
    there = pack.names - {MANIFEST}
    for name in sorted(there - files.keys()):
        yield f"{printable(name, 100)} was added"
    for name, digest in sorted(files.items()):
        if name not in there:
            yield f"{name} is not there"
        elif pack.sha256(name) != digest:
            yield f"{name} was changed"


def _log(pack: _Pack, listed: Mapping[str, Any], keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> Iterator[Line]:
    try:
        parts = {name: pack.read(_AUDIT + name) for name in ("bundle.json", "entries.jsonl")}
        log, run, entries = check_log_part(parts, keys, kept)
    except (BundleProblem, OSError) as error:
        yield Line("wrong", "audit log", getattr(error, "cause", "") or "its part is missing")
        return
    problems = list(log.problems)
    if run != listed["run"]:
        problems.append("it is of another run")
    roots = {
        str(one.get("attempt")): one["data"].get("root")
        for one in entries
        if one["kind"].startswith("attempt.") and isinstance(one.get("data"), dict)
    }
    problems += _told_otherwise(pack, listed, roots)
    for problem in problems:
        yield Line("wrong", "audit log", problem)
    if not problems:
        yield Line("ok", "audit log", f"{len(entries)} entries of the run are in the log of {log.size:,}; {log.words}")


def _told_otherwise(pack: _Pack, listed: Mapping[str, Any], roots: Mapping[str, Any]) -> Iterator[str]:
    """Where the page's values are not those of the log."""
    try:
        review = read_object(pack.read("security-review.json"), "security-review.json", _MOST_SMALL)
    except (OSError, NotTrusted):
        yield "security-review.json cannot be read"
        return
    agent = review.get("agent")
    if review.get("run") != listed["run"] or not isinstance(agent, dict) or agent.get("digest") != listed["agent"]:
        yield "security-review.json is of another run or agent than the list says"
    attempts = review.get("attempts")
    for one in attempts if isinstance(attempts, list) else []:
        name = one.get("id") if isinstance(one, dict) else None
        if not isinstance(name, str) or roots.get(name) != one.get("root"):
            yield f"attempt {printable(str(name), 60)} has another root than the log says"


def _certificate(pack: _Pack, listed: Mapping[str, Any], keys: Sequence[PublicKey]) -> Line:
    try:
        envelope = open_envelope(pack.read("certificate.json"), "certificate.json")
        signers = envelope.signers(keys)
        if not signers:
            detail = "it is signed by none of the keys that were named" if keys else "--key tells whom to believe"
            return Line("wrong" if keys else "not shown", "certificate", detail)
        certificate = read_certificate(envelope, "certificate.json")
    except NotTrusted as refused:
        return Line("wrong", "certificate", refused.cause)
    if certificate.facts.run != listed["run"] or certificate.agent.digest != listed["agent"]:
        return Line("wrong", "certificate", "it is of another run or agent")
    return Line("ok", "certificate", f"{certificate.result}, signed by key {signers[0].id}")


def _evidence(pack: _Pack, keys: Sequence[PublicKey], kept: Sequence[Checkpoint]) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="podctl-pack-") as directory:
        path = Path(directory) / EVIDENCE
        with path.open("xb") as target, pack.open(EVIDENCE) as source:
            shutil.copyfileobj(source, target)
        try:
            found = check_bundle(path, keys, kept)
        except BundleProblem as error:
            yield Line("wrong", "evidence", error.cause)
            return
    problems = [
        *found.log.problems,
        *found.run.problems,
        *(f"{one.id}: {problem}" for one in found.run.attempts for problem in one.problems),
    ]
    for problem in problems:
        yield Line("wrong", "evidence", problem)
    if not problems:
        yield Line("ok", "evidence", f"{len(found.run.attempts)} attempts are as they were sealed")


class _Pack(ABC):
    """Reads by name; raises `OSError` for what is not there or is too large."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    @abstractmethod
    def open(self, name: str) -> IO[bytes]: ...

    @abstractmethod
    def size(self, name: str) -> int: ...

    @abstractmethod
    def close(self) -> None: ...

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise FileNotFoundError(f"{name} is missing")
        if self.size(name) > _MOST_SMALL:
            raise OSError(f"{name} is larger than {_MOST_SMALL >> 20} MiB")
        with self.open(name) as file:
            return file.read(_MOST_SMALL + 1)

    def sha256(self, name: str) -> str:
        found, left = hashlib.sha256(), _MOST_BYTES
        with self.open(name) as file:
            while piece := file.read(1 << 20):
                left -= len(piece)
                if left < 0:
                    raise OSError(f"{name} is too large")
                found.update(piece)
        return found.hexdigest()


class _Zip(_Pack):
    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(open_plain(path))  # closed by `close`
        members = self._archive.infolist()
        names = [member.filename for member in members]
        if (
            len(members) > _MOST_FILES
            or len(set(names)) != len(names)
            or sum(member.file_size for member in members) > _MOST_BYTES
        ):
            raise _no_pack("it has too many or too large files, or one twice")
        super().__init__(frozenset(names))

    def open(self, name: str) -> IO[bytes]:
        return self._archive.open(name)

    def size(self, name: str) -> int:
        return self._archive.getinfo(name).file_size

    def close(self) -> None:
        self._archive.close()


class _Directory(_Pack):
    def __init__(self, path: Path) -> None:
        self._path = path
        found = []
        for entry in path.rglob("*"):
            if not entry.is_dir() or entry.is_symlink():
                found.append(entry.relative_to(path).as_posix())
            if len(found) > _MOST_FILES:
                raise _no_pack(f"it has more than {_MOST_FILES:,} files")
        super().__init__(frozenset(found))

    def open(self, name: str) -> IO[bytes]:
        return open_plain(self._path / name)

    def size(self, name: str) -> int:
        return (self._path / name).lstat().st_size

    def close(self) -> None:
        pass


def _reading(path: Path) -> _Pack:
    return _Directory(path) if path.is_dir() else _Zip(path)


def _no_pack(why: str) -> PackProblem:
    return PackProblem(
        "this is no evidence pack", code="pack-damaged", cause=why, hint="podctl evidence-pack RUN -o pack.zip makes one"
    )

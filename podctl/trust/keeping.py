"""Where certificates, records and the list of revocations are kept: files beside a store's runs, to be copied to wherever they are asked for."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podctl.errors import ExitCode, SpecError
from podctl.signing import PublicKey
from podctl.spec.ladder import Ladder
from podctl.spec.load import load_model
from podctl.spec.problems import printable, shown
from podctl.trust.documents import MOST_OF_LIST

#: The ladder that is taken when no other is named.
OWN_LADDER = Path(__file__).with_name("ladder.yaml")
_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]{1,40}-----.*?-----END [A-Z0-9 ]{1,40}-----", re.DOTALL)
#: Files of certificates or records that are looked at in one directory.
_MOST_FILES = 10_000


@dataclass(frozen=True)
class Shelf:
    """A store's directory of trust."""

    directory: Path

    @property
    def revocations(self) -> Path:
        return self.directory / "revoked.json"

    def certificate(self, run: str) -> Path:
        return self.directory / "certificates" / f"{run}.json"

    def record(self, digest: str) -> Path:
        return self.directory / "records" / f"{digest[:16]}.json"

    def certificates(self) -> Iterator[Path]:
        return self._files("certificates")

    def records(self) -> Iterator[Path]:
        return self._files("records")

    def _files(self, kind: str) -> Iterator[Path]:
        yield from sorted((self.directory / kind).glob("*.json"))[:_MOST_FILES]


def read_file(path: Path, what: str) -> bytes:
    """At most one byte more than a document may have. Raises `SpecError` when it is no file, or cannot be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read(MOST_OF_LIST + 1)
            cause = "it is no file"
    except (OSError, ValueError) as error:
        cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is no path"
    raise SpecError(f"the {what} {printable(shown(path))} cannot be read", code="unreadable", cause=cause)


def write_file(path: Path, content: bytes) -> None:
    """Whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else of this machine who asks for the same directory goes on meanwhile: what is read, changed and written loses nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def public_keys(path: Path) -> list[PublicKey]:
    """Every key of a file: while keys are changed, the old one and the new one. Raises `SpecError`."""
    content = read_file(path, "public key")
    blocks = _PEM.findall(content) or [content]
    return [PublicKey.from_pem(block, printable(shown(path))) for block in blocks]


def load_ladder(path: Path | None) -> tuple[Ladder, dict[str, PublicKey]]:
    """The ladder and its people's keys. Raises `SpecError` also where two people have one key: they would count as two."""
    ladder = load_model(path or OWN_LADDER, Ladder)
    people: dict[str, PublicKey] = {}
    for name, file in ladder.people.items():
        keys = public_keys(file)
        if len(keys) != 1:
            raise SpecError(f"{printable(shown(file))} has {len(keys)} keys, and {name} has one", code="ladder-people")
        if keys[0] in people.values():
            other = next(one for one, key in people.items() if key == keys[0])
            raise SpecError(
                f"{other} and {name} have the same key", code="ladder-people", hint="each person has a key of their own"
            )
        people[name] = keys[0]
    return ladder, people


def known_level(ladder: Ladder, name: str) -> str:
    """Raises `SpecError` for a level that the ladder does not have."""
    if name not in [level.name for level in ladder.levels]:
        raise SpecError(
            f"the ladder {ladder.name} has no level {printable(name)!r}",
            code="no-level",
            hint=f"one of {', '.join(level.name for level in ladder.levels)}",
            exit_code=ExitCode.USAGE,
        )
    return name

"""The keys of a masking: one that masks are made with, one that statements are signed with. Neither is ever beside the data.

Files of mode 0600 in the user's configuration directory; nothing but this module reads or writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from podctl.masking.problems import MaskingProblem

_FORMAT = "podctl key 1"


@dataclass(frozen=True)
class MaskingKey:
    """``secret`` is 32 random bytes; ``id`` tells keys apart and gives nothing away of them."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return _id(b"masking", self.secret)


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key; ``public`` is 32 bytes in hexadecimal, and ``id`` is made of it."""

    secret: bytes = field(repr=False)

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret)

    @property
    def public(self) -> str:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    @property
    def id(self) -> str:
        return public_id(self.public)


def public_id(public: str) -> str:
    return _id(b"signing", bytes.fromhex(public))


def _id(kind: bytes, data: bytes) -> str:
    return hashlib.sha256(b"podctl " + kind + b" key id\0" + data).hexdigest()[:16]


@dataclass(frozen=True)
class KeyFile:
    """Where both keys of a masking are: ``NAME.key`` in `keys_directory`, or the file that was named."""

    path: Path

    @classmethod
    def of(cls, masking: str, named: Path | None = None) -> KeyFile:
        return cls((named or keys_directory() / f"{masking}.key").absolute())

    def make(self) -> tuple[MaskingKey, SigningKey]:
        """Two new keys. Raises `MaskingProblem` when there are some."""
        if self.path.exists() or self.path.is_symlink():
            raise MaskingProblem(
                f"there is a key: {self.path}",
                code="key-exists",
                unchanged="it was left as it is",
                hint=f"podctl data key rotate {self.path.stem} makes new masks; podctl data key show {self.path.stem} tells this key's id",
            )
        _refuse_project(self.path)
        return self._write(secrets.token_bytes(32), secrets.token_bytes(32))

    def rotate(self) -> tuple[MaskingKey, Path]:
        """A new masking key; the signing key stays. The old file is kept beside it, and its path is given."""
        old, signing = self.read()
        kept = self.path.with_name(f"{self.path.stem}-{old.id}.retired")
        os.link(self.path, kept)
        masking, _ = self._write(secrets.token_bytes(32), signing.secret)
        return masking, kept

    def read(self, seed: Path | None = None) -> tuple[MaskingKey, SigningKey]:
        """Raises `MaskingProblem` when others may read the file, or when it lies in a project or within ``seed``."""
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)) as file:
                status = os.fstat(file.fileno())
                text = file.read(4096)
        except FileNotFoundError:
            raise MaskingProblem(
                f"there is no key {self.path}",
                code="key-missing",
                hint=f"podctl data key new {self.path.stem}, once for a project",
            ) from None
        except (OSError, UnicodeError) as error:
            raise MaskingProblem(
                f"the key {self.path} cannot be read", code="key-unreadable", cause=type(error).__name__
            ) from None
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise MaskingProblem(
                f"others may read the key {self.path}",
                code="key-open",
                unchanged="it was not used",
                hint=f"chmod 600 {self.path}; if others may have read it: podctl data key rotate",
            )
        _refuse_project(self.path)
        if seed is not None and self.path.resolve().is_relative_to(seed.resolve()):
            raise MaskingProblem(
                f"the key {self.path} lies within the seed {seed}",
                code="key-beside",
                unchanged="it was not used",
                hint="who has both has the raw values: move it to another directory",
            )
        return self._parsed(text)

    def _parsed(self, text: str) -> tuple[MaskingKey, SigningKey]:
        try:
            value = json.loads(text)
            masking, signing = bytes.fromhex(value["masking"]), bytes.fromhex(value["signing"])
            if value["format"] != _FORMAT or len(masking) != 32 or len(signing) != 32 or masking == signing:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise MaskingProblem(
                f"{self.path} is no key file", code="key-damaged", hint="bring the file back, or podctl data key new NAME"
            ) from None
        return MaskingKey(masking), SigningKey(signing)

    def _write(self, masking: bytes, signing: bytes) -> tuple[MaskingKey, SigningKey]:
        content = json.dumps({"format": _FORMAT, "masking": masking.hex(), "signing": signing.hex()}) + "\n"
        private = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            private.rename(self.path)
        finally:
            private.unlink(missing_ok=True)
        return MaskingKey(masking), SigningKey(signing)


def keys_directory() -> Path:
    """``$XDG_CONFIG_HOME/podctl/keys``."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "podctl" / "keys"


def own_signers() -> list[str]:
    """Ids of the signing keys in `keys_directory`; files that cannot be used as keys are left out."""
    found = []
    for path in sorted(keys_directory().glob("*.key")):
        try:
            found.append(KeyFile(path).read()[1].id)
        except MaskingProblem:
            continue
    return found


#: What tells a project's directory, or a seed's.
_PROJECT = (".git", ".podctl", "seed.json", "scenario.yaml", "topology.yaml")


def _refuse_project(path: Path) -> None:
    """A key in a repository is committed some day, and one in a project goes where its seeds go."""
    above = path.resolve().parents
    home = Path.home().resolve()
    for directory in above:
        if directory == home:  # people keep their home under version control; the key's own directory is not in a project
            return
        found = next((name for name in _PROJECT if (directory / name).exists()), None)
        if found is not None:
            raise MaskingProblem(
                f"the key {path} lies in a project: {directory} has {found}",
                code="key-beside",
                unchanged="nothing was made or used",
                hint="keep keys apart from what they mask, such as in the directory that podctl takes without --key",
            )

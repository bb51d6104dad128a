"""Ed25519 keys that podctl signs with, as PEM files that openssl reads too: PKCS #8 for the secret, SubjectPublicKeyInfo for the public.

Secret keys are files of mode 0600 without a passphrase, in the user's configuration directory or where ``PODCTL_SIGNING_KEY`` says.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from podctl.keyfiles import KeyPlace, KeyProblem, keys_directory

#: Names the file of the key to sign with.
SETTING = "PODCTL_SIGNING_KEY"
_MAKE = "podctl audit key new"
#: Bytes of a file that is read as a public key.
_MOST = 4096


@dataclass(frozen=True)
class PublicKey:
    """``raw`` is 32 bytes. Raises `KeyProblem` for others."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise KeyProblem(f"an Ed25519 public key has 32 bytes, not {len(self.raw)}", code="key-damaged")

    @property
    def id(self) -> str:
        """16 hexadecimal digits that tell keys apart."""
        return hashlib.sha256(b"podctl signing key id\0" + self.raw).hexdigest()[:16]

    @property
    def pem(self) -> str:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether the holder of the secret key signed exactly ``data``. Never raises for a bad signature."""
        try:
            self._key.verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True

    @cached_property
    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)

    @staticmethod
    def from_pem(pem: bytes, name: str) -> PublicKey:
        """``name`` is what messages call it. Raises `KeyProblem`."""
        if b"PRIVATE KEY" in pem:
            raise KeyProblem(
                f"{name} has a private key",
                code="key-private",
                unchanged="it was not used",
                hint="podctl audit key show --key FILE prints its public key, which is what others are given",
            )
        try:
            key = load_pem_public_key(pem)
        except Exception:  # the parser's own, of several kinds, and the content is anybody's
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyProblem(
                f"{name} is no Ed25519 public key in PEM", code="key-damaged", hint="podctl audit key show prints one"
            )
        return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))

    @staticmethod
    def read(path: Path) -> PublicKey:
        """Raises `KeyProblem`."""
        try:
            with open(path, "rb") as file:
                return PublicKey.from_pem(file.read(_MOST), str(path))
        except OSError as error:
            raise KeyProblem(
                f"the public key {path} cannot be read", code="key-unreadable", cause=os.strerror(error.errno or 0)
            ) from None


@dataclass(frozen=True)
class SigningKey:
    """``secret`` is 32 bytes."""

    secret: bytes = field(repr=False)

    @staticmethod
    def new() -> SigningKey:
        return SigningKey(Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def id(self) -> str:
        return self.public.id

    def sign(self, data: bytes) -> bytes:
        """64 bytes. The same key and data give the same signature."""
        return self._key.sign(data)

    def pem(self) -> bytes:
        """The secret itself, unencrypted."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret)


def key_path(named: Path | None = None) -> Path:
    """The file that was named, or ``$PODCTL_SIGNING_KEY``, or ``signing.pem`` in `keys_directory`."""
    setting = os.environ.get(SETTING)
    return (named or (Path(setting) if setting else keys_directory() / "signing.pem")).absolute()


def make_key(named: Path | None = None) -> SigningKey:
    """A new key in `key_path`. Raises `KeyProblem` when there is something, or when the place is in a project."""
    key = SigningKey.new()
    _place(named).write_new(key.pem())
    return key


def read_key(named: Path | None = None) -> SigningKey:
    """Raises `KeyProblem` when there is none, others may read it, it is a link or lies in a project, or is no such key."""
    place = _place(named)
    pem = place.read()
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise KeyProblem(
            f"the key {place.path} has a passphrase",
            code="key-passphrase",
            hint="podctl signs unattended: give it a key of its own without one, podctl audit key new",
        ) from None
    except Exception:  # the parser's own, of several kinds
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyProblem(
            f"{place.path} is no Ed25519 private key in PEM", code="key-damaged", hint="bring the file back, or name another"
        )
    return SigningKey(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))


def configured_key() -> SigningKey | None:
    """The key to sign with; None when no setting names one and there is none in its usual place. Raises `KeyProblem`.

    A key that was named, or that is there, and cannot be used, is an error: nothing becomes unsigned by accident.
    """
    if os.environ.get(SETTING) or _place(None).present():
        return read_key()
    return None


def _place(named: Path | None) -> KeyPlace:
    path = key_path(named)
    return KeyPlace(path, make=_MAKE, renew=f"{_MAKE} --key ANOTHER-FILE, and tell those who trust the old one")

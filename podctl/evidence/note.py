"""Checkpoints of a log as signed notes: what a log held, in a few lines that a witness can keep and anybody can check.

The formats are C2SP's `tlog-checkpoint` (https://c2sp.org/tlog-checkpoint) and `signed-note` (https://c2sp.org/signed-note): the log's
name, its size and its root, a line each; an empty line; a line for each Ed25519 signature. Notes are read from anywhere: everything
is bounded and nothing of them is believed before a signature is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from podctl.errors import PodctlError
from podctl.signing import PublicKey, SigningKey

#: Bytes, and signatures, of a note that is read.
MOST = 16_384
_MOST_SIGNATURES = 32
_ED25519 = b"\x01"
_NAME = re.compile(r"[^\s+]{1,200}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


class NoteProblem(PodctlError):
    """A note or checkpoint that is none, or that nobody trusted has signed."""


@dataclass(frozen=True)
class Checkpoint:
    """``origin`` names the log, ``size`` counts its entries, ``root`` is 32 bytes."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @staticmethod
    def of(text: str) -> Checkpoint:
        """Lines after the third are extensions and mean nothing here. Raises `NoteProblem`."""
        lines = text.split("\n")
        if len(lines) < 4 or not _NAME.fullmatch(lines[0]) or not _SIZE.fullmatch(lines[1]):
            raise _no_note("it does not say a log's name, size and root")
        root = _decoded(lines[2])
        if len(root) != 32:
            raise _no_note("its root is no sha256")
        return Checkpoint(lines[0], int(lines[1]), root)


@dataclass(frozen=True)
class Note:
    """``signatures``: (name, key hash of 4 bytes, signature), as they stand there; `signers` says which of them are true."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def signers(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """Those of ``keys`` that signed the text, under whatever name."""
        found = []
        for key in keys:
            for name, hint, signature in self.signatures:
                if hint == _hint(name, key) and key.verify(self.text.encode(), signature):
                    found.append(key)
                    break
        return found


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """``text`` ends with a newline and has no empty line at its end; ``name`` is the signer's."""
    if not text.endswith("\n") or not _NAME.fullmatch(name):
        raise ValueError("a note ends with a newline, and its signer's name has neither spaces nor a plus")
    signed = base64.b64encode(_hint(name, key.public) + key.sign(text.encode())).decode()
    return f"{text}\n— {name} {signed}\n"


def read_note(content: bytes) -> Note:
    """Raises `NoteProblem`."""
    if len(content) > MOST:
        raise _no_note(f"it has more than {MOST:,} bytes")
    try:
        whole = content.decode("utf-8")
    except UnicodeDecodeError:
        raise _no_note("it is not UTF-8") from None
    if any(ord(character) < 32 and character != "\n" for character in whole):
        raise _no_note("it has control characters")
    text, separator, below = whole.rpartition("\n\n")
    if not separator or not below.endswith("\n"):
        raise _no_note("it has no signature")
    lines = below[:-1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise _no_note(f"it has more than {_MOST_SIGNATURES} signatures")
    return Note(text + "\n", tuple(_signature(line) for line in lines))


def _signature(line: str) -> tuple[str, bytes, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not _NAME.fullmatch(parts[1]):
        raise _no_note("a signature's line is none")
    raw = _decoded(parts[2])
    if len(raw) < 5:
        raise _no_note("a signature is too short")
    return parts[1], raw[:4], raw[4:]


def _hint(name: str, key: PublicKey) -> bytes:
    """The four bytes by which a note says whose signature it has."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.raw).digest()[:4]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _no_note("it has what is no base64") from None


def _no_note(why: str) -> NoteProblem:
    return NoteProblem("this is no checkpoint", code="checkpoint-damaged", cause=why, hint="podctl audit checkpoint prints one")

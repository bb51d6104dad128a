"""The keys of a masking: one that masks are made with, one that statements are signed with. Neither is ever beside the data.

Files of mode 0600 in the user's configuration directory; nothing but this module reads or writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from podctl.keyfiles import KeyPlace, KeyProblem, keys_directory
from podctl.signing import SigningKey

_FORMAT = "podctl key 1"


@dataclass(frozen=True)
class MaskingKey:
    """``secret`` is 32 random bytes; ``id`` tells keys apart and gives nothing away of them."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(b"podctl masking key id\0" + self.secret).hexdigest()[:16]


@dataclass(frozen=True)
class KeyFile:
    """Where both keys of a masking are: ``NAME.key`` in `keys_directory`, or the file that was named."""

    path: Path

    @classmethod
    def of(cls, masking: str, named: Path | None = None) -> KeyFile:
        return cls((named or keys_directory() / f"{masking}.key").absolute())

    @property
    def _place(self) -> KeyPlace:
        new, rotate = (f"podctl data key {verb} {self.path.stem}" for verb in ("new", "rotate"))
        return KeyPlace(self.path, make=f"{new}, once for a project", renew=rotate)

    def make(self) -> tuple[MaskingKey, SigningKey]:
        """Two new keys. Raises `KeyProblem` when there are some."""
        keys = MaskingKey(secrets.token_bytes(32)), SigningKey.new()
        self._place.write_new(_content(*keys))
        return keys

    def rotate(self) -> tuple[MaskingKey, Path]:
        """A new masking key; the signing key stays. The old file is kept beside it, and its path is given."""
        old, signing = self.read()
        kept = self.path.with_name(f"{self.path.stem}-{old.id}.retired")
        os.link(self.path, kept)
        masking = MaskingKey(secrets.token_bytes(32))
        self._place.replace(_content(masking, signing))
        return masking, kept

    def read(self, seed: Path | None = None) -> tuple[MaskingKey, SigningKey]:
        """Raises `KeyProblem` when others may read the file, or when it lies in a project or within ``seed``."""
        content = self._place.read()
        if seed is not None and self.path.resolve().is_relative_to(seed.resolve()):
            raise KeyProblem(
                f"the key {self.path} lies within the seed {seed}",
                code="key-beside",
                unchanged="it was not used",
                hint="who has both has the raw values: move it to another directory",
            )
        try:
            value = json.loads(content)
            masking, signing = bytes.fromhex(value["masking"]), bytes.fromhex(value["signing"])
            if value["format"] != _FORMAT or len(masking) != 32 or len(signing) != 32 or masking == signing:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise KeyProblem(
                f"{self.path} is no key file", code="key-damaged", hint="bring the file back, or podctl data key new NAME"
            ) from None
        return MaskingKey(masking), SigningKey(signing)


def _content(masking: MaskingKey, signing: SigningKey) -> bytes:
    value = {"format": _FORMAT, "masking": masking.secret.hex(), "signing": signing.secret.hex()}
    return json.dumps(value).encode() + b"\n"


def own_signers() -> list[str]:
    """Ids of the signing keys in `keys_directory`; files that cannot be used as keys are left out."""
    found = []
    for path in sorted(keys_directory().glob("*.key")):
        try:
            found.append(KeyFile(path).read()[1].id)
        except KeyProblem:
            continue
    return found

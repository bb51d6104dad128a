"""The project's masking key: a secret that is never beside what it masked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MaskingKey:
    """``secret`` is 32 random bytes; ``id`` tells keys apart and gives nothing away of them."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(b"podctl masking key id\0" + self.secret).hexdigest()[:16]

"""Keyed functions that masks are made of: values to numbers nobody can tell without the key, and numbers to numbers one to one."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable
from math import isqrt

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

#: Part of every mask: raise it when a mask of an unchanged value changes.
MASKING_VERSION = 1
#: Ten rounds, as NIST SP 800-38G has in FF1; each tells its calls of the block cipher from the others'.
_PREFIXES = tuple(bytes([round_, 0, 0, 0, 0, 0, 0, 0]) for round_ in range(10))


class Keyed:
    """What one type of value is masked with; ``kind`` keeps types apart.

    The key of a kind is HMAC-SHA256 of the project's key. Values go through BLAKE2b keyed with it (RFC 7693): a MAC by
    design, as HMAC is, at a third of the time.
    """

    def __init__(self, secret: bytes, kind: str) -> None:
        self._key = hmac.digest(secret, f"podctl masking {MASKING_VERSION} {kind}".encode(), "sha256")
        self._start = hashlib.blake2b(key=self._key, digest_size=16)
        self._block = Cipher(algorithms.AES(self._key), modes.ECB()).encryptor().update

    def digest(self, value: bytes) -> bytes:
        """16 bytes."""
        state = self._start.copy()
        state.update(value)
        return state.digest()

    def digests(self, values: Iterable[bytes]) -> list[bytes]:
        """As `digest`, for many at once."""
        copy, found = self._start.copy, []
        for value in values:
            state = copy()
            state.update(value)
            found.append(state.digest())
        return found

    def number(self, value: bytes) -> int:
        """64 bits: what a mask takes of it by division is likelier by a part in 10^5 at the most."""
        return int.from_bytes(self.digest(value)[:8])

    def numbers(self, values: Iterable[bytes], below: int | None = None) -> list[int]:
        """As `number`, for many at once; modulo ``below`` where given."""
        made = np.frombuffer(b"".join(self.digests(values)), ">u8")[::2]
        found: list[int] = (made if below is None else made % below).tolist()
        return found

    def permuted(self, number: int, size: int) -> int:
        """``number`` of 0..size-1 to another, one to one.

        A Feistel network of ten rounds on a rectangle of about the square root's sides, walked until inside
        (Black and Rogaway, Ciphers with arbitrary finite domains, 2002). Raises ValueError for a number outside.
        """
        if not 0 <= number < size:
            raise ValueError("a number outside of what is permuted")
        side = isqrt(size - 1) + 1
        while True:
            left, right = divmod(number, side)
            if side < 2**64:
                for prefix in _PREFIXES:
                    left, right = right, (left + int.from_bytes(self._block(prefix + right.to_bytes(8)))) % side
            else:
                for prefix in _PREFIXES:
                    left, right = right, (left + self._wide(prefix, right)) % side
            number = left * side + right
            if number < size:
                return number

    def permuted_all(self, numbers: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
        """As `permuted`, for many at once, all below ``size`` of at most 2^63: the block cipher is called once a round."""
        side = isqrt(size - 1) + 1
        base = np.uint64(2**64 % side)
        whole = np.uint64(side)
        left, right = np.divmod(numbers, whole)
        blocks = np.empty((len(numbers), 2), ">u8")
        for round_ in range(len(_PREFIXES)):
            blocks[:, 0], blocks[:, 1] = round_ << 56, right
            made = np.frombuffer(self._block(blocks.tobytes()), ">u8").reshape(-1, 2).astype(np.uint64)
            # The 128 bits modulo a side of at most 32 bits, without leaving 64.
            chosen = ((made[:, 0] % whole) * base + made[:, 1] % whole) % whole
            left, right = right, (left + chosen) % whole
        found = left * whole + right
        outside = found >= np.uint64(size)
        if outside.any():
            found[outside] = self.permuted_all(found[outside], size)
        return found

    def _wide(self, prefix: bytes, half: int) -> int:
        length = half.bit_length() // 8 + 1
        message = prefix + half.to_bytes(length)
        return int.from_bytes(b"".join(self.digest(bytes([part]) + message) for part in range(length // 16 + 2)))


def normalised(text: str) -> bytes:
    """What the spellings of one value share: no surrounding space, case and compatibility forms folded (Unicode NFKC)."""
    if text.isascii():
        return text.encode().strip().lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.strip()).casefold()).encode(errors="surrogatepass")

"""Keyed functions that masks are made of: values to numbers nobody can tell without the key, and numbers to numbers one to one."""

from __future__ import annotations

import hashlib
import hmac
from math import isqrt

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

#: Part of every mask: raise it when a mask of an unchanged value changes.
MASKING_VERSION = 1
#: As many as NIST SP 800-38G asks of FF1.
_ROUNDS = 10


class Keyed:
    """What one type of value is masked with; ``kind`` keeps types apart.

    The key of a kind is HMAC-SHA256 of the project's key. Values go through BLAKE2b keyed with it (RFC 7693): a MAC by
    design, as HMAC is, at a third of the time.
    """

    def __init__(self, secret: bytes, kind: str) -> None:
        self._key = hmac.digest(secret, f"podctl masking {MASKING_VERSION} {kind}".encode(), "sha256")
        self._start = hashlib.blake2b(key=self._key, digest_size=16)
        self._block = Cipher(algorithms.AES(self._key), modes.ECB()).encryptor()

    def digest(self, value: bytes) -> bytes:
        """16 bytes."""
        state = self._start.copy()
        state.update(value)
        return state.digest()

    def number(self, value: bytes) -> int:
        """128 bits: modulo anything a mask chooses from, no value is likelier than another."""
        return int.from_bytes(self.digest(value))

    def permuted(self, number: int, size: int, tweak: int = 0) -> int:
        """``number`` of 0..size-1 to another, one to one; ``tweak`` (32 bits) chooses among permutations of one size.

        A Feistel network of ten rounds on a rectangle of about the square root's sides, walked until inside
        (Black and Rogaway, Ciphers with arbitrary finite domains, 2002). Raises ValueError for a number outside.
        """
        if not 0 <= number < size:
            raise ValueError("a number outside of what is permuted")
        side = isqrt(size - 1) + 1
        step = self._narrow if side < 2**64 else self._wide
        while True:
            left, right = divmod(number, side)
            for round_ in range(_ROUNDS):
                left, right = right, (left + step(round_, tweak, right)) % side
            number = left * side + right
            if number < size:
                return number

    def _narrow(self, round_: int, tweak: int, half: int) -> int:
        return int.from_bytes(self._block.update((round_ << 120 | tweak << 64 | half).to_bytes(16)))

    def _wide(self, round_: int, tweak: int, half: int) -> int:
        length = half.bit_length() // 8 + 1
        message = bytes([round_]) + tweak.to_bytes(4) + half.to_bytes(length)
        wide = b"".join(self.digest(bytes([part]) + message) for part in range(length // 16 + 2))
        return int.from_bytes(wide)

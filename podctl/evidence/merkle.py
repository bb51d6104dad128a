"""Merkle trees over append-only logs, by RFC 6962: one hash says what a log holds, and short proofs say what belongs to it.

Leaves and nodes are hashed with different first bytes, so that none can be taken for the other. Proofs and their checking are the
algorithms of RFC 9162, sections 2.1.3 and 2.1.4. Hashes are 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: The root of a tree without leaves.
EMPTY = hashlib.sha256(b"").digest()
HASH = 32


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _above(level: Sequence[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    pairs = iter(level)
    found = [sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
    if len(level) % 2:
        found.append(level[-1])  # without a sibling it stands for itself one level up
    return found


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0] if level else EMPTY


class Tree:
    """Every level over some leaf hashes, to make proofs of; about 64 bytes and three objects a leaf."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels: list[Sequence[bytes]] = [leaves]
        while len(self._levels[-1]) > 1:
            self._levels.append(_above(self._levels[-1]))

    @property
    def size(self) -> int:
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        return self._levels[-1][0] if self.size else EMPTY

    def inclusion(self, index: int) -> list[bytes]:
        """That the leaf at ``index`` belongs to this tree. Raises `IndexError`."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        proof = []
        for level in self._levels[:-1]:
            if (sibling := index ^ 1) < len(level):
                proof.append(level[sibling])
            index >>= 1
        return proof

    def consistency(self, earlier: int) -> list[bytes]:
        """That this tree begins with its first ``earlier`` leaves. Raises `IndexError`."""
        if not 0 <= earlier <= self.size:
            raise IndexError(earlier)
        return self._from(earlier, 0, self.size, True) if earlier else []

    def _from(self, earlier: int, low: int, high: int, whole: bool) -> list[bytes]:
        """RFC 9162's SUBPROOF over the leaves ``low`` to ``high``."""
        if earlier == high - low:
            return [] if whole else [self._subtree(low, high)]
        split = 1 << (high - low - 1).bit_length() - 1
        if earlier <= split:
            return [*self._from(earlier, low, low + split, whole), self._subtree(low + split, high)]
        return [*self._from(earlier - split, low + split, high, False), self._subtree(low, low + split)]

    def _subtree(self, low: int, high: int) -> bytes:
        level = (high - low - 1).bit_length()
        return self._levels[level][low >> level]


@dataclass(frozen=True)
class Frontier:
    """What is needed of a log to append to it and to know its root: the roots of its whole subtrees, the largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def plus(self, leaves: Iterable[bytes]) -> Frontier:
        size, peaks = self.size, list(self.peaks)
        for leaf in leaves:
            carry = size
            while carry & 1:
                leaf = _node(peaks.pop(), leaf)
                carry >>= 1
            peaks.append(leaf)
            size += 1
        return Frontier(size, tuple(peaks))

    @property
    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = _node(peak, found)
        return found


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2: whether ``proof`` shows the leaf hash at ``index`` of a tree of ``size`` leaves with ``root``."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = _node(step, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = _node(found, step)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def consistent(earlier: int, later: int, earlier_root: bytes, later_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162, 2.1.4.2: whether ``proof`` shows that the tree of ``later`` leaves begins with that of ``earlier``."""
    if not 0 <= earlier <= later:
        return False
    if earlier in (0, later):
        return not proof and earlier_root == (later_root if earlier else EMPTY)
    path = list(proof)
    if earlier & earlier - 1 == 0:
        path.insert(0, earlier_root)
    if not path:
        return False
    at, last = earlier - 1, later - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = _node(step, old), _node(step, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = _node(new, step)
        at, last = at >> 1, last >> 1
    return last == 0 and old == earlier_root and new == later_root

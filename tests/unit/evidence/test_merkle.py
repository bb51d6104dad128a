"""Merkle trees: the known trees of Certificate Transparency, and no proof but the true one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.merkle import EMPTY, Frontier, Tree, consistent, includes, leaf_hash, root_of

#: The test data of Certificate Transparency's reference implementations.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
KNOWN = [leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES]
SUBTREE = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots(size: int) -> None:
    leaves = KNOWN[:size]
    assert root_of(leaves).hex() == Tree(leaves).root.hex() == Frontier().plus(leaves).root.hex() == ROOTS[size]


def test_the_known_proofs() -> None:
    tree = Tree(KNOWN)
    first = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    sixth = ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b", "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0", SUBTREE]  # fmt: skip
    assert [step.hex() for step in tree.inclusion(0)] == first
    assert [step.hex() for step in tree.inclusion(5)] == sixth
    assert [step.hex() for step in tree.consistency(1)] == first
    from_six = ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", sixth[1], SUBTREE]
    assert [step.hex() for step in tree.consistency(6)] == from_six
    assert [step.hex() for step in Tree(KNOWN[:5]).consistency(2)] == [first[1], sixth[0]]


def test_a_leaf_is_no_node() -> None:
    """Second preimages: two leaves' hashes together, as one leaf, are another tree."""
    assert leaf_hash(KNOWN[0] + KNOWN[1]) != root_of(KNOWN[:2])
    assert hashlib.sha256(KNOWN[0] + KNOWN[1]).digest() != root_of(KNOWN[:2])


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


@given(st.integers(0, 300), st.integers(0, 300))
def test_appending_in_parts_comes_to_the_same_root(first: int, more: int) -> None:
    leaves = leaves_of(first + more)
    frontier = Frontier().plus(leaves[:first]).plus(leaves[first:])
    assert (frontier.size, frontier.root) == (len(leaves), root_of(leaves))
    assert len(frontier.peaks) == len(leaves).bit_count()


@settings(max_examples=150)
@given(st.integers(1, 200), st.data())
def test_every_inclusion_is_shown_and_nothing_else_is(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    tree = Tree(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion(index)
    assert includes(leaves[index], index, size, proof, tree.root)
    assert not includes(leaf_hash(b"other"), index, size, proof, tree.root)
    assert not includes(leaves[index], index, size, [*proof, EMPTY], tree.root)
    assert not includes(leaves[index], size, size, proof, tree.root) and not includes(leaves[index], -1, size, proof, tree.root)
    for other in range(size):
        assert other == index or not includes(leaves[index], other, size, proof, tree.root)
    if proof:
        at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
        changed = (int.from_bytes(proof[at], "big") ^ 1 << bit).to_bytes(32, "big")
        assert not includes(leaves[index], index, size, [*proof[:at], changed, *proof[at + 1 :]], tree.root)
        assert not includes(leaves[index], index, size, proof[:-1], tree.root)


@settings(max_examples=150)
@given(st.integers(0, 200), st.data())
def test_every_growth_is_shown_and_no_rewriting_is(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    tree = Tree(leaves)
    earlier = data.draw(st.integers(0, size))
    before = root_of(leaves[:earlier])
    proof = tree.consistency(earlier)
    assert consistent(earlier, size, before, tree.root, proof)
    assert not consistent(earlier, size, before, tree.root, [*proof, EMPTY])
    assert not consistent(size + 1, size, before, tree.root, proof)
    if earlier:
        changed = list(leaves)
        changed[data.draw(st.integers(0, earlier - 1))] = leaf_hash(b"rewritten")
        other = Tree(changed)
        assert not consistent(earlier, size, before, other.root, other.consistency(earlier))
        assert not consistent(earlier, size, root_of(changed[:earlier]), tree.root, proof)
        for wrong in {earlier - 1, earlier + 1} & set(range(1, size + 1)):
            assert not consistent(wrong, size, before, tree.root, proof)


def test_what_is_not_there_has_no_proof() -> None:
    tree = Tree(KNOWN)
    for index in (-1, 8):
        with pytest.raises(IndexError):
            tree.inclusion(index)
    for earlier in (-1, 9):
        with pytest.raises(IndexError):
            tree.consistency(earlier)
    assert Tree([]).consistency(0) == []

"""What became of records is named: changed, inserted, dropped, moved, cut off."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.alignment import differences
from podctl.evidence.merkle import leaf_hash


def leaves(names: str) -> list[bytes]:
    return [leaf_hash(name.encode()) for name in names]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("abcdef", []),
        ("abXdef", ["record 3 was changed"]),
        ("Xbcdef", ["record 1 was changed"]),
        ("abcdeX", ["record 6 was changed"]),
        ("abcXdef", ["record 4 was inserted"]),
        ("abcdefXY", ["records 7 to 8 were inserted"]),
        ("abdef", ["record 3 of those that were sealed is gone"]),
        ("adef", ["records 2 to 3 of those that were sealed are gone"]),
        ("bcdef", ["record 1 of those that were sealed is gone"]),
        ("abcd", ["records 5 to 6 of those that were sealed are gone: the end was cut off"]),
        ("abcX", ["record 4 was changed", "records 5 to 6 of those that were sealed are gone: the end was cut off"]),
        ("", ["records 1 to 6 of those that were sealed are gone: the end was cut off"]),
        ("acbdef", ["record 2 was moved"]),
        ("abcabcdef", ["records 4 to 6 were inserted"]),
        ("aXcYdf", ["record 2 was changed", "record 4 was inserted", "record 5 of those that were sealed is gone"]),
    ],
)
def test_what_happened_is_named(found: str, said: list[str]) -> None:
    got = [difference.words for difference in differences(leaves(found), leaves("abcdef"))]
    assert got == said


@settings(max_examples=300)
@given(st.lists(st.integers(0, 8), max_size=14), st.lists(st.integers(0, 8), max_size=14))
def test_differences_are_none_exactly_when_both_are_the_same(found: list[int], sealed: list[int]) -> None:
    here, there = ([bytes([number]) for number in side] for side in (found, sealed))
    told = differences(here, there)
    assert bool(told) == (here != there)
    for difference in told:
        side = sealed if difference.kind in ("dropped", "cut") else found
        assert 1 <= difference.number <= difference.last <= len(side)


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["edit", "insert", "drop"]))
def test_one_attack_on_a_file_is_told_exactly(at: int, size: int, attack: str) -> None:
    sealed = [leaf_hash(bytes([number])) for number in range(size + 1)]
    at %= len(sealed)
    found = list(sealed)
    if attack == "edit":
        found[at] = b"x"
    elif attack == "insert":
        found.insert(at, b"x")
    else:
        del found[at]
    (told,) = differences(found, sealed)
    kinds = {"edit": {"changed"}, "insert": {"inserted"}, "drop": {"cut" if at == size else "dropped"}}
    assert told.kind in kinds[attack] and (told.number, told.last) == (at + 1, at + 1)


def test_a_hostile_file_takes_no_long_time() -> None:
    """Everything the same, everything reversed, everything doubled."""
    sealed = [leaf_hash(str(number).encode()) for number in range(50_000)]
    began = time.monotonic()
    for found in ([sealed[0]] * 50_000, sealed[::-1], sealed + sealed, sealed[1::2] + sealed[::2]):
        assert differences(found, sealed)
    assert time.monotonic() - began < 10

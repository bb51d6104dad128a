"""Which records of a sealed file are not as they were: its leaves held against those that were sealed.

Leaves that stand once on both sides keep their order where they can (patience sorting, O(n log n)); what lies between two of them was
changed, added or removed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["changed", "inserted", "dropped", "moved", "cut"]


@dataclass(frozen=True)
class Difference:
    """``number`` counts from 1: in the file as it is; for a record that is gone, where it stood when it was sealed."""

    kind: Kind
    number: int
    last: int  # of neighbours to which the same happened; the same as ``number`` for one

    @property
    def words(self) -> str:
        one = self.number == self.last
        records = f"record {self.number}" if one else f"records {self.number} to {self.last}"
        verb = "was" if one else "were"
        return {
            "changed": f"{records} {verb} changed",
            "inserted": f"{records} {verb} inserted",
            "dropped": f"{records} of those that were sealed {'is' if one else 'are'} gone",
            "moved": f"{records} {verb} moved",
            "cut": f"{records} of those that were sealed {'is' if one else 'are'} gone: the end was cut off",
        }[self.kind]


def differences(found: Sequence[bytes], sealed: Sequence[bytes]) -> list[Difference]:
    """In the order of the file. None when both are the same."""
    gaps = list(_gaps(found, sealed))
    here = Counter(found[number] for gap, _ in gaps for number in gap)
    there = Counter(sealed[number] for _, gap in gaps for number in gap)
    moved = here & there
    arrived, left = Counter(moved), Counter(moved)
    single: list[tuple[Kind, int]] = []
    for now, then in gaps:
        added, gone = [], []
        for number in now:
            if arrived[found[number]]:
                arrived[found[number]] -= 1
                single.append(("moved", number + 1))
            else:
                added.append(number + 1)
        for number in then:
            if left[sealed[number]]:
                left[sealed[number]] -= 1
            else:
                gone.append(number + 1)
        pairs = min(len(added), len(gone))
        at_end = then.stop == len(sealed) and now.stop == len(found)
        single += [("changed", number) for number in added[:pairs]]
        single += [("inserted", number) for number in added[pairs:]]
        single += [("cut" if at_end else "dropped", number) for number in gone[pairs:]]
    return list(_joined(single))


def _gaps(found: Sequence[bytes], sealed: Sequence[bytes]) -> Iterator[tuple[range, range]]:
    """What lies between leaves that are the same on both sides, where it is not empty on both."""
    here = there = 0
    for at, other in [*_anchors(found, sealed), (len(found), len(sealed))]:
        while here < at and there < other and found[here] == sealed[there]:
            here, there = here + 1, there + 1
        end, end_other = at, other
        while end > here and end_other > there and found[end - 1] == sealed[end_other - 1]:
            end, end_other = end - 1, end_other - 1
        if end > here or end_other > there:
            yield range(here, end), range(there, end_other)
        here, there = at, other


def _anchors(found: Sequence[bytes], sealed: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs of places of leaves that stand once on both sides, in the order of both: as many as there can be."""
    once = {leaf for leaf, times in Counter(found).items() if times == 1}
    once &= {leaf for leaf, times in Counter(sealed).items() if times == 1}
    place = {leaf: at for at, leaf in enumerate(sealed) if leaf in once}
    pairs = [(at, place[leaf]) for at, leaf in enumerate(found) if leaf in once]
    ends: list[int] = []  # the least last place of an increasing chain of each length
    tops: list[int] = []  # which pair that is
    before: list[int] = []
    for number, (_, other) in enumerate(pairs):
        length = bisect_left(ends, other)
        before.append(tops[length - 1] if length else -1)
        ends[length : length + 1], tops[length : length + 1] = [other], [number]
    chosen = []
    number = tops[-1] if tops else -1
    while number >= 0:
        chosen.append(pairs[number])
        number = before[number]
    return chosen[::-1]


def _joined(single: Sequence[tuple[Kind, int]]) -> Iterator[Difference]:
    """Neighbours to which the same happened are told together."""
    run: Difference | None = None
    for kind, number in single:
        if run is not None and run.kind == kind and run.last == number - 1:
            run = Difference(kind, run.number, number)
            continue
        if run is not None:
            yield run
        run = Difference(kind, number, number)
    if run is not None:
        yield run

"""Drawing: sizes, weights, order and stability hold for every population."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.errors import SpecError
from podctl.spec.models import Sample
from podctl.tickets.allocation import equal, proportional
from podctl.tickets.sample import digest, draw, order_key
from podctl.tickets.types import Reference, Ticket

populations = st.lists(st.integers(1, 30), min_size=1, max_size=6).map(
    lambda sizes: [Ticket(f"{name}{n}", "", f"s{name}", {"n": n}) for name, size in enumerate(sizes) for n in range(size)]
)
designs = st.sampled_from(["proportional", "equal"])


@given(populations, designs, st.integers(-3, 3), st.data())
@settings(max_examples=150, deadline=None)
def test_what_every_sample_keeps_to(tickets: list[Ticket], design: str, seed: int, data: st.DataObject) -> None:
    ids = [ticket.id for ticket in tickets]
    excluded = data.draw(st.sets(st.sampled_from(ids), max_size=len(ids) - 1))
    left = [ticket for ticket in tickets if ticket.id not in excluded]
    size = data.draw(st.integers(1, len(left)))
    included = data.draw(st.sets(st.sampled_from([ticket.id for ticket in left]), max_size=size))
    spec = Sample(size=size, design=design, seed=seed, include=tuple(included), exclude=tuple(excluded))
    drawn = draw(tickets, spec)
    chosen = [ticket.id for ticket in drawn.tickets]

    assert len(chosen) == len(set(chosen)) == size
    assert included <= set(chosen)
    assert not excluded & set(chosen)
    assert drawn.strata == {
        name: (count, Counter(ticket.stratum for ticket in left)[name])
        for name, count in {s: Counter(t.stratum for t in drawn.tickets)[s] for s in sorted({t.stratum for t in left})}.items()
    }
    for name, (count, total) in drawn.strata.items():
        weights = [drawn.weights[ticket.id] for ticket in drawn.tickets if ticket.stratum == name]
        assert count == 0 or sum(weights) == pytest.approx(total)
    assert set(drawn.weights) == set(chosen)
    assert chosen == sorted(chosen, key=lambda ticket_id: order_key(seed, ticket_id))
    shuffled = random.Random(seed).sample(tickets, len(tickets))
    assert draw(shuffled, spec) == drawn


@given(populations, st.integers(0, 3), st.data())
@settings(max_examples=60, deadline=None)
def test_a_larger_equal_sample_holds_the_smaller(tickets: list[Ticket], seed: int, data: st.DataObject) -> None:
    small = data.draw(st.integers(1, len(tickets)))
    large = data.draw(st.integers(small, len(tickets)))
    samples = [draw(tickets, Sample(size=size, design="equal", seed=seed)) for size in (small, large)]
    assert set(samples[0].weights) <= set(samples[1].weights)


@given(populations, st.data())
@settings(max_examples=60, deadline=None)
def test_new_tickets_push_out_few_old_ones(tickets: list[Ticket], data: st.DataObject) -> None:
    """A ticket is drawn by its own hash: adding one to a stratum displaces at most one there."""
    size = data.draw(st.integers(1, len(tickets)))
    one = [Ticket(ticket.id, "", "s", {}) for ticket in tickets]
    before = set(draw(one, Sample(size=size)).weights)
    after = set(draw([*one, Ticket("new", "", "s", {})], Sample(size=size)).weights)
    assert len(before - after) <= 1


sizes = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(1, 50), min_size=1, max_size=8)


@given(sizes, st.data())
@settings(max_examples=200, deadline=None)
def test_proportional_allocation(totals: dict[str, int], data: st.DataObject) -> None:
    whole = sum(totals.values())
    size = data.draw(st.integers(1, whole))
    counts = proportional(size, totals, dict.fromkeys(totals, 0))
    assert sum(counts.values()) == size
    assert all(0 <= counts[name] <= totals[name] for name in totals)
    share = {name: Fraction(size * total, whole) for name, total in totals.items()}
    if size >= len(totals):
        assert min(counts.values()) >= 1
    if min(share.values()) >= 1 or size < len(totals):
        assert all(abs(counts[name] - share[name]) < 1 for name in totals)
        # Largest remainders: whoever was rounded up had no smaller remainder than whoever was not.
        up = [share[name] % 1 for name in totals if counts[name] > share[name]]
        down = [share[name] % 1 for name in totals if counts[name] < share[name]]
        assert not up or not down or min(up) >= max(down)


@given(sizes, st.data())
@settings(max_examples=200, deadline=None)
def test_equal_allocation(totals: dict[str, int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, sum(totals.values())))
    counts = equal(size, totals, dict.fromkeys(totals, 0))
    assert sum(counts.values()) == size
    highest = max(counts.values())
    for name, count in counts.items():
        assert count <= totals[name]
        assert count >= highest - 1 or count == totals[name]


def test_known_allocations() -> None:
    none = dict.fromkeys("abc", 0)
    assert proportional(10, {"a": 70, "b": 25, "c": 5}, none) == {"a": 7, "b": 2, "c": 1}
    assert proportional(10, {"a": 98, "b": 1, "c": 1}, none) == {"a": 8, "b": 1, "c": 1}
    assert proportional(2, {"a": 98, "b": 1, "c": 1}, none) == {"a": 2, "b": 0, "c": 0}
    assert proportional(4, {"a": 8, "b": 2, "c": 2}, {"a": 0, "b": 2, "c": 0}) == {"a": 1, "b": 2, "c": 1}
    assert equal(10, {"a": 70, "b": 2, "c": 70}, none) == {"a": 4, "b": 2, "c": 4}
    assert equal(4, {"a": 8, "b": 2, "c": 2}, {"a": 4, "b": 0, "c": 0}) == {"a": 4, "b": 0, "c": 0}


def ten() -> list[Ticket]:
    return [Ticket(f"T-{n}", f"text {n}", "s", {"n": n}, Reference(changes=())) for n in range(10)]


def test_the_draw_never_changes_between_releases() -> None:
    drawn = draw(ten(), Sample(size=4, seed=1))
    assert [ticket.id for ticket in drawn.tickets] == PINNED


PINNED = ["T-9", "T-7", "T-1", "T-8"]  # printf "1\0T-9" | sha256sum, sorted


def test_another_seed_is_another_sample() -> None:
    assert len({tuple(t.id for t in draw(ten(), Sample(size=4, seed=seed)).tickets) for seed in range(10)}) > 5


def test_the_digest_is_over_contents_and_not_over_order() -> None:
    whole = draw(ten(), Sample(seed=1))
    assert whole.digest == draw(ten(), Sample(seed=2)).digest == digest(reversed(ten()))
    changed = [ten()[0], *(Ticket(t.id, t.text, t.stratum, t.fields, Reference()) for t in ten()[1:])]
    assert draw(changed, Sample(seed=1)).digest != whole.digest


@pytest.mark.parametrize(
    ("sample", "fragment"),
    [
        ({"size": 11}, "a sample of 11 was asked for, but there are only 10 tickets"),
        ({"size": 10, "exclude": ("T-1",)}, "only 9 tickets"),
        ({"include": ("T-1", "T-11")}, "does not have: T-11"),
        ({"exclude": ("t-1",)}, "did you mean T-1?"),
        ({"include": ("T-1",), "exclude": ("T-1",)}, "included and excluded"),
        ({"size": 1, "include": ("T-1", "T-2")}, "2 tickets are included, more than the sample's size of 1"),
        ({"exclude": tuple(f"T-{n}" for n in range(10))}, "no tickets to draw from"),
    ],
)
def test_what_cannot_be_drawn_is_refused(sample: dict[str, object], fragment: str) -> None:
    with pytest.raises(SpecError) as caught:
        draw(ten(), Sample.model_validate(sample))
    assert fragment in caught.value.render()


def test_ids_given_twice_are_refused() -> None:
    with pytest.raises(SpecError, match="same id"):
        draw([*ten(), ten()[0]], Sample())

"""Neyman allocation, minimum, held-out part, weights, frozen samples: what holds for every population."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.errors import SpecError
from podctl.spec.tickets import HeldOut, Prior, Sample
from podctl.tickets.allocation import neyman
from podctl.tickets.drawing import deviations_of, drawn_sample, freeze
from podctl.tickets.sample import draw, is_held_out
from podctl.tickets.types import Ticket

few = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 9), st.sampled_from([0.0, 0.1, 0.5, 2.0])), min_size=1)
populations = st.lists(st.integers(1, 30), min_size=1, max_size=6).map(
    lambda sizes: [Ticket(f"{name}{n}", "", f"s{name}", {"n": n}) for name, size in enumerate(sizes) for n in range(size)]
)


def variance(counts: dict[str, int], totals: dict[str, int], deviations: dict[str, float]) -> float:
    """Of the estimated total, without the part that no allocation changes (Cochran 1977, 5.3)."""
    spreads = {name: (totals[name] * deviations[name]) ** 2 for name in totals}
    return sum(spread / counts[name] if counts[name] else math.inf for name, spread in spreads.items() if spread)


@given(few, st.data())
@settings(max_examples=150, deadline=None)
def test_no_other_whole_numbers_have_less_variance(strata: dict[str, tuple[int, float]], data: st.DataObject) -> None:
    totals = {name: total for name, (total, _) in strata.items()}
    deviations = {name: deviation for name, (_, deviation) in strata.items()}
    floors = {name: data.draw(st.integers(0, min(2, totals[name]))) for name in totals}
    size = data.draw(st.integers(sum(floors.values()), sum(totals.values())))
    counts = neyman(size, totals, floors, deviations)
    lowest = {name: max(1, floors[name]) for name in totals}
    if sum(lowest.values()) > size:
        lowest = floors
    assert sum(counts.values()) == size
    assert all(lowest[name] <= counts[name] <= totals[name] for name in totals)
    ranges = [range(lowest[name], totals[name] + 1) for name in totals]
    others = (dict(zip(totals, one, strict=True)) for one in itertools.product(*ranges) if sum(one) == size)
    least = min(variance(other, totals, deviations) for other in others)
    assert variance(counts, totals, deviations) <= least * (1 + 1e-9)


def test_neyman_as_in_the_textbook() -> None:
    """Without rounding, n_h ∝ N_h S_h: of 60, 2 : 1 : 3."""
    totals, deviations = {"a": 200, "b": 50, "c": 300}, {"a": 1.0, "b": 2.0, "c": 1.0}
    assert neyman(60, totals, dict.fromkeys(totals, 0), deviations) == {"a": 20, "b": 10, "c": 30}
    # b is full at 50; the rest is shared by 2 : 3.
    assert neyman(150, totals, dict.fromkeys(totals, 0), {**deviations, "b": 400.0}) == {"a": 40, "b": 50, "c": 60}


def sample(**given: Any) -> Sample:
    return Sample.model_validate(given)


@given(populations, st.integers(0, 4), st.data())
@settings(max_examples=100, deadline=None)
def test_the_minimum_is_kept_and_weights_stand_for_the_population(
    tickets: list[Ticket], minimum: int, data: st.DataObject
) -> None:
    totals = Counter(ticket.stratum for ticket in tickets)
    include = data.draw(st.sets(st.sampled_from([ticket.id for ticket in tickets]), max_size=3))
    certain = Counter(ticket.stratum for ticket in tickets if ticket.id in include)
    needed = sum(max(certain[name], min(minimum, total)) for name, total in totals.items())
    size = data.draw(st.integers(max(1, needed), len(tickets)))
    design = data.draw(st.sampled_from(["proportional", "equal", "neyman"]))
    spec = sample(size=size, design=design, minimum=minimum, include=tuple(include))
    drawn = draw(tickets, spec, {name: 0.1 + 0.2 * number for number, name in enumerate(totals)})
    for name, (count, total) in drawn.strata.items():
        assert count >= min(minimum, total)
        weights = {ticket.id: drawn.weights[ticket.id] for ticket in drawn.tickets if ticket.stratum == name}
        assert count == 0 or sum(weights.values()) == pytest.approx(total)
        if count > certain[name]:
            assert all(weights[identity] == 1 for identity in include & set(weights))


def test_a_minimum_that_does_not_fit_is_refused() -> None:
    tickets = [Ticket(f"{s}{n}", "", s, {}) for s in "abc" for n in range(5)]
    with pytest.raises(SpecError, match="at least 3 of each of 3 strata come to 9 tickets, more than 8"):
        draw(tickets, sample(size=8, minimum=3))


# ---- held out ----

HELD = {"held_out": {"share": 0.3, "key": "2026"}}


@given(populations, st.data())
@settings(max_examples=60, deadline=None)
def test_the_held_out_part_is_the_same_whatever_comes_and_goes(tickets: list[Ticket], data: st.DataObject) -> None:
    part = HeldOut.model_validate(HELD["held_out"])
    held = {ticket.id for ticket in tickets if is_held_out(ticket.id, part)}
    left = data.draw(st.lists(st.sampled_from(tickets), min_size=1, unique_by=lambda ticket: ticket.id))
    seed = data.draw(st.integers(0, 5))
    for spec, ids in ((sample(seed=seed, **HELD), {t.id for t in left} - held), (sample(part="held-out", **HELD), held)):
        expected = ids & {ticket.id for ticket in left}
        if expected:
            assert set(draw(left, spec).weights) == expected
        else:
            with pytest.raises(SpecError, match="no tickets to draw from"):
                draw(left, spec)


def test_the_held_out_share_is_about_what_was_asked_for_and_another_key_holds_out_others() -> None:
    ids = [f"INC{n:07}" for n in range(20_000)]
    parts = [{one for one in ids if is_held_out(one, HeldOut(share=0.2, key=key))} for key in ("a", "b")]
    for part in parts:
        assert abs(len(part) - 4000) < 4 * math.sqrt(20_000 * 0.2 * 0.8)
    assert abs(len(parts[0] & parts[1]) - 800) < 150
    larger = {one for one in ids if is_held_out(one, HeldOut(share=0.3, key="a"))}
    assert parts[0] < larger
    assert [one for one in ids[:30] if one in parts[0]] == PINNED, "a release must not let held-out tickets out"


PINNED = ["INC0000016", "INC0000024", "INC0000025", "INC0000026"]  # printf INC0000016 | openssl dgst -sha256 -hmac a


def test_a_held_out_ticket_cannot_be_included() -> None:
    tickets = [Ticket(f"INC{n:07}", "", "s", {}) for n in range(30)]
    with pytest.raises(SpecError, match="which is held out"):
        draw(tickets, sample(include=("INC0000016",), held_out={"share": 0.2, "key": "a"}))


# ---- priors ----

THREE = [Ticket(f"{s}{n}", "", s, {}) for s, size in (("a", 100), ("b", 100), ("c", 20)) for n in range(size)]


def test_a_prior_of_pass_rates_asks_more_where_less_is_known() -> None:
    prior = {"pass_rates": {"a": 0.5, "b": 0.99, "c": 0.9}}
    drawn = drawn_sample(THREE, sample(size=40, design="neyman", prior=prior))
    assert drawn.strata == {"a": (30, 100), "b": (6, 100), "c": (4, 20)}


def test_a_runs_result_is_a_prior(tmp_path: Path) -> None:
    strata = [
        {"name": "a", "rate": {"passed": 0, "of": 3}},
        {"name": "b", "rate": {"passed": 50, "of": 100}},
        {"name": "gone", "rate": {"passed": 1, "of": 2}},
    ]
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"kind": "RunReport", "summary": {"strata": strata}}))
    found = deviations_of(Prior(result=path), THREE)
    assert found == pytest.approx({"a": math.sqrt(0.125 * 0.875), "b": 0.5, "c": 0.5})
    assert (
        sum(count for count, _ in drawn_sample(THREE, sample(size=9, design="neyman", prior={"result": path})).strata.values())
        == 9
    )


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ({"pass_rates": {"a": 0.5, "b": 0.5}}, "the prior says nothing of c"),
        ({"pass_rates": {"a": 0.5, "ab": 0.5}}, "no ticket is in: ab [sample-prior]\n  did you mean "),
        ({"deviations": {"a": 0, "b": 0, "c": 0}}, "by the prior nothing varies"),
        ({"result": "r.json"}, "r.json"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(prior: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        drawn_sample(THREE, sample(size=9, design="neyman", prior=prior))
    assert said in caught.value.render()


# ---- frozen ----


def frozen(path: Path, **given: Any) -> Sample:
    return sample(**{"size": 12, "seed": 3, "frozen": path / "sample.json", **given})


def test_a_frozen_sample_is_worked_whatever_else_comes(tmp_path: Path) -> None:
    spec = frozen(tmp_path, include=("c1",), **HELD | {"minimum": 1}) if not is_held("c1") else frozen(tmp_path)
    drawn = freeze(THREE, spec, tmp_path / "sample.json")
    assert drawn_sample(THREE, spec) == drawn
    more = [Ticket(f"new{n}", "", "a", {}) for n in range(500)]
    assert drawn_sample([*more, *reversed(THREE)], spec) == drawn
    assert draw([*more, *THREE], spec).digest != drawn.digest


def is_held(identity: str) -> bool:
    return is_held_out(identity, HeldOut.model_validate(HELD["held_out"]))


def test_a_run_refuses_when_frozen_tickets_changed_or_went(tmp_path: Path) -> None:
    spec = frozen(tmp_path)
    ids = [ticket.id for ticket in freeze(THREE, spec, tmp_path / "sample.json").tickets]
    changed = [dataclasses.replace(t, text="\x1b[31mother") if t.id == ids[0] else t for t in THREE if t.id != ids[1]]
    with pytest.raises(SpecError) as caught:
        drawn_sample(changed, spec)
    said = caught.value.render()
    assert "1 changed, 1 gone, of 12" in said
    assert f"changed: {ids[0]}" in said
    assert f"gone: {ids[1]}" in said
    assert "podctl tickets freeze SCENARIO --again" in said


def test_a_run_refuses_when_the_design_is_another_than_the_frozen_ones(tmp_path: Path) -> None:
    freeze(THREE, frozen(tmp_path), tmp_path / "sample.json")
    with pytest.raises(SpecError, match="drawn otherwise than the scenario says now: seed, size"):
        drawn_sample(THREE, frozen(tmp_path, size=13, seed=4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value["tickets"].pop(), "its strata are not those of its tickets"),
        (lambda value: value["tickets"].append(value["tickets"][0]), "one twice"),
        (lambda value: value.update(digest="0" * 64), "its digest is not that of its tickets"),
        (lambda value: value.pop("strata"), "parts are missing"),
        (lambda value: value.update(kind="Sample"), "expected kind: FrozenSample"),
        (lambda value: value["tickets"][0].update(weight="much"), "parts are missing or of another kind"),
    ],
)
def test_a_frozen_file_that_was_changed_by_hand_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    freeze(THREE, frozen(tmp_path), tmp_path / "sample.json")
    value = json.loads((tmp_path / "sample.json").read_text())
    change(value)
    (tmp_path / "sample.json").write_text(json.dumps(value))
    with pytest.raises(SpecError) as caught:
        drawn_sample(THREE, frozen(tmp_path))
    assert said in caught.value.render()


def test_what_is_not_frozen_yet_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file") as caught:
        drawn_sample(THREE, frozen(tmp_path))
    assert "podctl tickets freeze SCENARIO" in caught.value.render()

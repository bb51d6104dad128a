"""Looking while a run goes on: the evidence, and who ends a run."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from example_run import attempt

from podctl.evidence.causes import Cause
from podctl.stats.sequential import ENOUGH, Watch, evidence


def test_evidence_is_the_integral_it_stands_for() -> None:
    def by_sums(worse: int, better: int, steps: int = 20_000) -> float:
        """∫ 2 p^b (1−p)^c dp over ½ to 1, against ½^(b+c)."""
        grid = (0.5 + (i + 0.5) / steps / 2 for i in range(steps))
        return sum(2 * p**worse * (1 - p) ** better for p in grid) / steps / 2 * 2 ** (worse + better)

    for worse, better in ((0, 0), (1, 0), (7, 0), (6, 2), (2, 9), (30, 14)):
        assert evidence(worse, better) == pytest.approx(by_sums(worse, better), rel=1e-3)
    assert evidence(6, 0) < ENOUGH < evidence(7, 0)
    assert evidence(0, 2000) >= 0 and evidence(2000, 0) > 1e300


def test_it_is_fair_between_equal_versions() -> None:
    """An e-process is expected to stay at 1: that is what bounds how often it ever reaches 20."""
    for flips in (1, 5, 12):
        from math import comb

        assert sum(comb(flips, b) * evidence(b, flips - b) for b in range(flips + 1)) / 2**flips == pytest.approx(1.0)


def test_equal_versions_are_rarely_ended() -> None:
    rng = random.Random(11)
    ended = 0
    for _ in range(400):
        worse = better = 0
        for _ in range(120):
            worse, better = (worse + 1, better) if rng.random() < 0.5 else (worse, better + 1)
            if evidence(worse, better) >= ENOUGH:
                ended += 1
                break
    assert ended / 400 <= 0.05


def watch(tickets: int, repeats: int = 1) -> Watch:
    return Watch({f"T-{n}": (repeats, repeats) for n in range(tickets)}, {f"T-{n}": repeats for n in range(tickets)})


def test_once_certain_it_stays_so() -> None:
    seen = watch(7)
    made = [attempt(f"T-{n}", False, ended_ns=n, dollars=Decimal("0.5")) for n in range(7)]
    for one in made[:6]:
        seen.add(one)
        assert not seen.enough
    seen.add(made[6])
    assert seen.enough
    stop = seen.stop(made, 20)
    assert stop is not None
    assert (stop.worse, stop.better, stop.attempts_not_made, stop.dollars_saved) == (7, 0, 13, Decimal("6.5"))
    assert seen.stop(made, 7) is None, "nothing was left to be made"


def test_replay_goes_by_the_order_in_which_attempts_ended() -> None:
    """Seven worse and then nine better: at the end that is no evidence, and it was when the run should have ended."""
    before = {f"w{n}": (1, 1) for n in range(7)} | {f"b{n}": (0, 1) for n in range(9)}
    made = [attempt(f"b{n}", True, ended_ns=100 + n) for n in range(9)] + [
        attempt(f"w{n}", False, ended_ns=n) for n in range(7)
    ]
    seen = Watch(before, dict.fromkeys(before, 1))
    seen.replay(made)
    assert seen.enough and evidence(seen.worse, seen.better) < 1
    late = Watch(before, dict.fromkeys(before, 1))
    late.replay([a if a.ticket[0] == "b" else attempt(a.ticket, False, ended_ns=200 + a.ended_ns) for a in made])
    assert not late.enough


def test_a_ticket_is_looked_at_when_all_its_repeats_have_ended_and_by_those_that_count() -> None:
    seen = watch(1, repeats=3)
    seen.add(attempt("T-0", False, id="a"))
    seen.add(attempt("T-0", True, id="b"))
    assert (seen.worse, seen.better) == (0, 0)
    seen.add(attempt("T-0", cause=Cause.SANDBOX_FAILED, id="c"))
    assert (seen.worse, seen.better) == (1, 0)
    alone = watch(1)
    alone.add(attempt("T-0", cause=Cause.SANDBOX_FAILED))
    alone.add(attempt("not in the baseline", False))
    assert (alone.worse, alone.better) == (0, 0)

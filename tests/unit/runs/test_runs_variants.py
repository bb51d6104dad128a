"""Attempts with something done to them: beside plain ones, which alone are the run's figures; the same when the run is gone on with."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from project import Project, make_project, relabel, ticket

from podctl.backends.memory import Call, MemoryBackend
from podctl.clock import SystemClock
from podctl.controller.merging import merge, pieces_in
from podctl.controller.run import RunController, prepare
from podctl.errors import SpecError
from podctl.evidence.reading import read_attempt
from podctl.evidence.results import RunResult, Variant
from podctl.evidence.store import Store
from podctl.faults import SETTING
from podctl.runs.attempt import Planned
from podctl.runs.runner import plan_attempts
from podctl.runs.variants import Varied, Vary, with_variants
from podctl.spec.load import load_bundle
from podctl.tickets.types import Ticket

SEED = {"main-db": {"items": {1: {"id": 1, "label": "item 1"}}}}


def misled(seed: int) -> Vary:
    def of(plain: Planned) -> list[Varied]:
        drawn = f"{seed}:{plain.repeat}"
        odd = Variant(f"odd {drawn}", "odd", seed, {"note": drawn})
        return [
            Varied(odd, replace(plain.ticket, text="mislead")),
            Varied(replace(odd, name="still", kind="still"), plain.ticket),
        ]

    return Vary("attack", "misleading", seed, of)


async def obedient(call: Call) -> int:
    label = "wrong" if b"mislead" in call.files["ticket.json"] else "seen"
    call.databases["main-db"].update(call.role, "items", 1, {"label": label})
    call.files["result.json"] = b'{"status": "done"}'
    return 0


def project_in(root: Path, **run: int) -> Project:
    tickets = [ticket(f"t{n}", changes=[relabel(1, "seen")]) for n in range(3)]
    return make_project(root / "p", agent="", tickets=tickets, command=["work"], scenario={"run": {"pods": 2, **run}})


def make(project: Project, vary: Vary | None, run: str = "r-1", shard: tuple[int, int] | None = None) -> RunResult:
    prepared = prepare(load_bundle(project.root / "scenario.yaml"), shard, vary)
    store = Store.open(project.store, SystemClock())
    try:
        backend = MemoryBackend({"work": obedient}, SEED, isolates=True)
        return asyncio.run(RunController(store, backend).reconcile(prepared, run))
    finally:
        store.close()


def test_each_plain_attempt_has_its_variants_and_the_same_plan_whenever_it_is_made() -> None:
    tickets = [Ticket(f"t{n}", "", "q", {}) for n in range(40)]
    plain = plan_attempts(tickets, 2, seed=1)
    planned, campaign = with_variants(plain, misled(7), seed=1)
    assert (planned, campaign) == with_variants(plain, misled(7), seed=1)
    assert campaign.digest != with_variants(plain, misled(8), seed=1)[1].digest
    assert [one for one in planned if one.variant is None] != plain, "the order is drawn anew"
    assert sorted(one.id for one in planned if one.variant is None) == sorted(one.id for one in plain)
    assert len({one.id for one in planned}) == len({(one.position, one.repeat) for one in planned}) == 2 * 3 * 40
    rounds = [1 if one.repeat in (1, 3, 4) else 2 for one in planned]
    assert rounds == sorted(rounds), "repeats of a ticket are spread out"
    kinds = [one.variant.kind if one.variant else "" for one in planned[:60]]
    assert min(kinds.count(kind) for kind in ("", "odd", "still")) > 10, "kinds are mixed"


def test_only_plain_attempts_are_the_runs_figures(tmp_path: Path) -> None:
    project = project_in(tmp_path, repeats=2)
    result = make(project, misled(7))
    assert (len(result.attempts), len(result.plain.attempts)) == (18, 6)
    assert [one.passed for one in result.plain.attempts] == [True] * 6
    odd = [one for one in result.attempts if one.variant is not None and one.variant.kind == "odd"]
    assert [one.passed for one in odd] == [False] * 6, "what was done to them had no effect"
    assert "6 of 6" in result.findings[0].message
    store = Store.open(project.store, SystemClock())
    assert store.load_run("r-1") == result
    assert store.tallies()["r-1"] == [(2, 2)] * 3
    first = odd[0]
    assert first.variant is not None
    [planned] = [state.planned for state in store.planned("r-1") if state.planned.id == first.id]
    assert planned.variant == first.variant == Variant("odd 7:1", "odd", 7, {"note": "7:1"})
    sealed = next(iter(read_attempt(store.evidence_directory("r-1", first.id)))).data
    assert sealed["variant"] == {"name": "odd 7:1", "kind": "odd", "seed": 7, "data": {"note": "7:1"}}
    store.close()
    listed = project.podctl("get", "attempts", "r-1").stdout.splitlines()
    assert listed[0].endswith("VARIANT")
    assert sum(line.endswith("plain") for line in listed) == 6


def test_a_campaign_that_was_killed_goes_on_with_the_same_variants(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    child = os.fork()
    if child == 0:
        os.environ[SETTING] = "kill:try.stored:4"
        make(project, misled(7))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    store = Store.open(project.store, SystemClock())
    before = [state.planned for state in store.planned("r-1")]
    made = {one.id for one in store.load_run("r-1").attempts}
    store.close()
    assert 0 < len(made) < 9
    for other in (None, misled(8)):
        with pytest.raises(SpecError, match="the campaign changed"):
            make(project, other)
    result = make(project, misled(7))
    assert (result.status, len(result.attempts)) == ("finished", 9)
    assert {one.id: one.variant for one in result.attempts} == {one.id: one.variant for one in before}


def test_a_campaign_in_shards_put_together_is_the_campaign_in_one_piece(tmp_path: Path) -> None:
    whole, parts = project_in(tmp_path / "whole"), project_in(tmp_path / "parts")
    expected = make(whole, misled(7))
    for number in (1, 2):
        make(parts, misled(7), f"r-{number}", (number, 2))
    store = Store.open(parts.store, SystemClock())
    merged, _ = merge(pieces_in(store), store, None)
    store.close()
    assert merged.info.campaign == expected.info.campaign
    assert [(one.id, one.variant, one.passed) for one in merged.attempts] == [
        (one.id, one.variant, one.passed) for one in expected.attempts
    ]

"""A run in shards, put together, is the run in one piece; what makes no whole is refused by name."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_server import serving
from project import Project, make_project, relabel, ticket

from podctl.backends.memory import Call, MemoryBackend
from podctl.clock import SystemClock
from podctl.controller.merging import Piece, merge, piece_of, pieces_in
from podctl.controller.run import RunController, load_baseline, prepare
from podctl.errors import PodctlError, SpecError
from podctl.evidence.reading import verify
from podctl.evidence.results import AttemptResult, RunResult
from podctl.evidence.store import Store
from podctl.reports.markdown import render_markdown
from podctl.reports.model import build_report
from podctl.runs.runner import plan_attempts
from podctl.runs.shards import parsed, part_of
from podctl.spec.load import load_bundle
from podctl.tickets.types import Ticket

SEED = {"main-db": {"items": {1: {"id": 1, "label": "item 1"}}}}


@settings(max_examples=40)
@given(
    st.dictionaries(st.text(max_size=3), st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(0, 9),
    st.data(),
)
def test_shards_are_a_partition_that_spreads_strata_and_keeps_repeats_together(
    strata: dict[str, int], repeats: int, seed: int, data: st.DataObject
) -> None:
    tickets = [Ticket(f"{name}{n}", "", name, {}) for name, count in strata.items() for n in range(count)]
    planned = plan_attempts(tickets, repeats, seed)
    of = data.draw(st.integers(1, len(tickets)))
    parts = [part_of(planned, number, of, Decimal("25.00")) for number in range(1, of + 1)]
    assert sorted(one.id for _, part in parts for one in part) == sorted(one.id for one in planned)
    order = {one.id: place for place, one in enumerate(planned)}
    sizes = []
    for _, part in parts:
        assert [order[one.id] for one in part] == sorted(order[one.id] for one in part), "not in the order of the plan"
        assert set(Counter(one.position for one in part).values()) == {repeats}, "repeats of a ticket are apart"
        sizes.append(Counter(one.ticket.stratum for one in part if one.repeat == 1))
    for name in strata:
        assert max(size[name] for size in sizes) - min(size[name] for size in sizes) <= 1
    assert max(size.total() for size in sizes) - min(size.total() for size in sizes) <= 1
    shares = [shard.run_dollars for shard, _ in parts]
    assert Decimal("25.00") - Decimal("0.0001") < sum(shares) <= Decimal("25.00")


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1/99999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(SpecError) as refused:
        parsed(text)
    assert refused.value.code == "usage"


def test_no_shard_is_left_without_a_ticket() -> None:
    planned = plan_attempts([Ticket("a", "", "q", {}), Ticket("b", "", "q", {})], 5, 1)
    with pytest.raises(SpecError) as refused:
        part_of(planned, 1, 3, Decimal(1))
    assert refused.value.code == "shards-too-many"


async def work(call: Call) -> int:
    """Right on most tickets; on some it fails, on some it oversteps: always the same on the same ticket."""
    number = int(json.loads(call.files["ticket.json"])["id"][1:])
    call.databases["main-db"].update(call.role, "items", 1, {"label": f"seen {number % 5 or 'nothing'}"})
    call.files["result.json"] = b'{"status": "done", "confidence": 0.5}'
    return 3 if number % 7 == 6 else 0


def project_in(root: Path, count: int, repeats: int = 1) -> Project:
    tickets = [ticket(f"t{n}", changes=[relabel(1, f"seen {n % 5}")], queue=f"q{n % 3}") for n in range(count)]
    scenario: dict[str, Any] = {"run": {"pods": 2, "repeats": repeats}, "gate": {"pass_rate": 0.6, "regression": 0.1}}
    return make_project(root, agent="", tickets=tickets, command=["work"], scenario=scenario)


def make(
    project: Project, run: str, shard: tuple[int, int] | None = None, store: Path | None = None, baseline: str | None = None
) -> Store:
    prepared = prepare(load_bundle(project.root / "scenario.yaml"), shard)
    opened = Store.open(store or project.store, SystemClock())
    backend = MemoryBackend({"work": work}, SEED, isolates=True)
    asyncio.run(RunController(opened, backend).reconcile(prepared, run, baseline=baseline))
    return opened


_MEASURED = {"wall_s", "cpu_s", "queue_s", "started_ns", "ended_ns", "max_rss"}


def timeless(attempt: AttemptResult) -> AttemptResult:
    """Without what no two runs have alike: times, pods, digests over times."""
    return replace(attempt, phases={}, pod="", evidence_root="", **dict.fromkeys(_MEASURED, 0))


def reported(result: RunResult) -> str:
    return render_markdown(build_report(comparable(result)))


def comparable(result: RunResult) -> RunResult:
    info = replace(result.info, id="", started_ns=0, ended_ns=0, merged=())
    compared = result.comparison
    if compared is not None:
        compared = replace(compared, baseline_seconds_per_ticket=0.0, seconds_per_ticket=0.0)
    return replace(result, info=info, attempts=tuple(timeless(one) for one in result.attempts), comparison=compared)


def equals_the_whole(root: Path, count: int, repeats: int, of: int, apart: bool) -> None:
    """From one store or from several, in any order."""
    project = project_in(root / "p", count, repeats)
    store = make(project, "r-base")
    base = load_baseline(store, "r-base")
    for number in range(1, of + 1):
        make(project, f"r-{number}", (number, of), root / f"store-{number}" if apart else None).close()
    places = [root / f"store-{number}" for number in range(of, 0, -1)] if apart else [project.store]
    parts = [piece for place in places for piece in pieces_in(Store.open(place, SystemClock()))]
    merged, was_there = merge(parts, store, base)
    assert not was_there
    whole = make(project, "r-whole", baseline="r-base").load_run("r-whole")
    assert whole.comparison is not None
    assert comparable(merged) == comparable(whole)
    assert reported(merged) == reported(whole)
    assert store.load_run(merged.info.id) == merged
    for attempt in merged.attempts:
        assert verify(store.evidence_directory(merged.info.id, attempt.id), attempt.evidence_root).intact
    assert {one.attempt for one in store.tries(merged.info.id)} == {one.id for one in merged.attempts}
    assert merge(parts, store, base) == (merged, True)


def test_shards_put_together_are_the_run_in_one_piece(tmp_path: Path) -> None:
    equals_the_whole(tmp_path, 8, 2, 3, apart=True)


@pytest.mark.campaign
@settings(max_examples=30, deadline=None)
@given(st.integers(4, 16), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_any_shards_put_together_are_the_run_in_one_piece(
    tmp_path_factory: pytest.TempPathFactory, count: int, repeats: int, of: int, apart: bool
) -> None:
    equals_the_whole(tmp_path_factory.mktemp("s"), count, repeats, of, apart)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Both halves of one run, another first half of it, and one of three."""
    project = project_in(tmp_path_factory.mktemp("s") / "p", 5)
    for run, shard in {"a-1": (1, 2), "a-2": (2, 2), "b-1": (1, 2), "c-1": (1, 3)}.items():
        make(project, run, shard).close()
    make(project, "whole").close()
    return project


def pieces(project: Project, *runs: str) -> list[Piece]:
    store = Store.open(project.store, SystemClock())
    return [piece_of(store, run) for run in runs]


@pytest.mark.parametrize(
    ("runs", "code", "said"),
    [
        (["a-2"], "merge-missing", "shard 1/2 is missing"),
        (["a-1", "a-2", "b-1"], "merge-doubled", "runs a-1 and b-1"),
        (["a-1", "c-1"], "merge-different", "the numbers of shards differ"),
        (["whole"], "merge-no-shard", "run whole is no shard"),
        ([], "merge-no-shard", "no shard was named"),
    ],
)
def test_what_makes_no_whole_is_refused_by_name(shards: Project, runs: list[str], code: str, said: str) -> None:
    store = Store.open(shards.store, SystemClock())
    before = [summary.info.id for summary in store.list_runs()]
    with pytest.raises(PodctlError) as refused:
        merge(pieces(shards, *runs), store, None)
    assert refused.value.code == code
    assert said in refused.value.what
    assert [summary.info.id for summary in store.list_runs()] == before


def changed(project: Project, root: Path, file: str, old: str, new: str) -> Project:
    shutil.copytree(project.root, root, ignore=shutil.ignore_patterns(".podctl"))
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    return Project(root)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("agent/main.py", "", "# another", "the agents differ"),
        ("agent.yaml", "version: '1'", "version: '2'", "the agents differ"),
        ("scenario.yaml", "pass_rate: 0.6", "pass_rate: 0.5", "the specs differ"),
        ("tickets.jsonl", '"t4"', '"t9"', "the samples differ"),
    ],
)
def test_shards_of_other_files_are_refused(shards: Project, tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    other = make(changed(shards, tmp_path / "q", file, old, new), "d-2", (2, 2))
    with pytest.raises(SpecError) as refused:
        merge([*pieces(shards, "a-1"), piece_of(other, "d-2")], other, None)
    assert refused.value.code == "merge-different"
    assert refused.value.what == f"shard 2/2 (run d-2) and shard 1/2 (run a-1) are not of one run: {said}"


def test_damaged_evidence_is_not_merged(shards: Project, tmp_path: Path) -> None:
    shutil.copytree(shards.store, tmp_path / "damaged")
    store = Store.open(tmp_path / "damaged", SystemClock())
    attempt = store.load_run("a-2").attempts[0].id
    path = store.evidence_directory("a-2", attempt) / "evidence.jsonl"
    path.write_bytes(path.read_bytes().replace(b"podctl", b"Podctl", 1))
    target = Store.open(tmp_path / "target", SystemClock())
    with pytest.raises(PodctlError) as refused:
        merge([piece_of(store, "a-1"), piece_of(store, "a-2")], target, None)
    assert refused.value.code == "merge-damaged"
    assert attempt in refused.value.what
    assert target.list_runs() == []


def test_links_in_what_came_from_elsewhere_are_not_followed(shards: Project, tmp_path: Path) -> None:
    shutil.copytree(shards.store, tmp_path / "s")
    store = Store.open(tmp_path / "s", SystemClock())
    attempt = store.load_run("a-1").attempts[0].id
    (store.evidence_directory("a-1", attempt) / "shadow").symlink_to("/etc/shadow")
    os.mkfifo(store.evidence_directory("a-1", attempt) / "fifo")
    target = Store.open(tmp_path / "target", SystemClock())
    merged, _ = merge([piece_of(store, "a-1"), piece_of(store, "a-2")], target, None)
    assert target.find_run("latest") == merged.info.id
    left = {path.name for path in target.run_directory(merged.info.id).rglob("*")}
    assert "evidence.jsonl" in left
    assert not {"shadow", "fifo"} & left


def test_a_store_that_machines_share_gets_the_evidence_too(shards: Project, tmp_path: Path) -> None:
    with serving() as url:
        here, there = (Store.open(tmp_path / name, SystemClock(), url=url) for name in ("here", "there"))
        merged, _ = merge(pieces(shards, "a-1", "a-2"), here, None)
        assert there.load_run(merged.info.id) == merged
        for attempt in merged.attempts:
            assert verify(there.evidence_directory(merged.info.id, attempt.id), attempt.evidence_root).intact
        assert merge(pieces(shards, "a-1", "a-2"), there, None) == (merged, True)
        here.close()
        there.close()


def test_a_shard_has_no_verdict_and_is_no_baseline(shards: Project) -> None:
    store = Store.open(shards.store, SystemClock())
    shard = store.load_run("a-1")
    assert (shard.status, shard.verdict) == ("finished", "inconclusive")
    assert shard.info.shard is not None and shard.info.shard.run_dollars < Decimal(25)
    assert "shard 1/2" in render_markdown(build_report(shard))
    with pytest.raises(SpecError) as refused:
        load_baseline(store, "a-1")
    assert refused.value.code == "baseline-shard"


def test_a_shard_is_resumed_as_the_same_shard(tmp_path: Path) -> None:
    project = project_in(tmp_path / "p", 4)
    prepared = prepare(load_bundle(project.root / "scenario.yaml"), (1, 2))
    store = Store.open(project.store, SystemClock())

    async def until_interrupted() -> None:
        async def stops(call: Call) -> int:
            await controller.interrupt()
            await asyncio.sleep(60)
            return 0

        controller = RunController(store, MemoryBackend({"work": stops}, SEED, isolates=True))
        await controller.reconcile(prepared, "r-1")

    asyncio.run(until_interrupted())
    with pytest.raises(SpecError) as refused:
        make(project, "r-1", (2, 2))
    assert refused.value.code == "resume-changed"
    assert refused.value.hint.endswith("--shard 1/2")
    make(project, "r-1", (1, 2))
    assert store.load_run("r-1").status == "finished"


@pytest.mark.campaign
def test_a_shard_that_did_not_finish_leaves_the_whole_open(tmp_path: Path) -> None:
    project = project_in(tmp_path / "p", 4)
    make(project, "r-1", (1, 2))
    store = Store.open(project.store, SystemClock())
    prepared = prepare(load_bundle(project.root / "scenario.yaml"), (2, 2))

    async def interrupted() -> None:
        controller = RunController(store, MemoryBackend({"work": work}, SEED, isolates=True))
        await controller.interrupt()
        await controller.reconcile(prepared, "r-2")

    asyncio.run(interrupted())
    merged, _ = merge(pieces_in(store), store, None)
    assert (merged.status, merged.verdict, len(merged.attempts)) == ("interrupted", "inconclusive", 2)
    assert "2 of 4 attempts were not made" in merged.notes
    make(project, merged.info.id)
    assert store.load_run(merged.info.id).status == "finished"

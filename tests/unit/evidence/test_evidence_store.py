"""The store, on SQLite files and on a real PostgreSQL."""

from __future__ import annotations

import dataclasses
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

import podctl.evidence.database
from podctl.clock import ManualClock, SystemClock
from podctl.errors import PodctlError
from podctl.evidence.causes import Cause
from podctl.evidence.owner import Owner
from podctl.evidence.records import Tokens
from podctl.evidence.results import (
    AttemptResult,
    CheckResult,
    Comparison,
    DiffEntry,
    GateFinding,
    RunInfo,
    RunResult,
    TicketFlip,
    Variant,
    weakest,
)
from podctl.evidence.schema import metadata
from podctl.evidence.store import Store
from podctl.evidence.store_problems import HEAD, REVISIONS
from podctl.evidence.store_rows import Planned

HOSTILE = "T-1\x00\ud800\\u0041\\ é ‮\x1b[2J"


def info(run: str = "r-1", **values: object) -> RunInfo:
    made = RunInfo(
        id=run,
        scenario="refunds",
        agent_name="careful",
        agent_version="1.2.0",
        agent_digest="d" * 64,
        topology="shop",
        backend="local",
        isolation="bubblewrap",
        sample_digest="s",
        sample_size=2,
        population_size=10,
        strata={"billing": (1, 5), HOSTILE: (1, 5)},
        repeats=1,
        pods=2,
        seed=7,
        started_ns=1_700_000_000_000_000_000,
        settings={"limit": Decimal("1.50"), "name": HOSTILE},
    )
    return dataclasses.replace(made, **values)


def planned(number: int) -> list[Planned]:
    return [Planned(f"{at:04}-1", f"T-{at}", "billing", at, 1) for at in range(number)]


def result(at: int = 0, **values: object) -> AttemptResult:
    made = AttemptResult(f"{at:04}-1", f"T-{at}", "billing", 1, at, Cause.COMPLETED, True)
    return dataclasses.replace(made, **values)


def dead_owner() -> Owner:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    owner = dataclasses.replace(Owner.current(), pid=child.pid, start=stat[19])
    assert owner.alive() is True
    child.communicate(b"\n")
    assert owner.alive() is False
    return owner


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    opened = Store.open(tmp_path / ".podctl", ManualClock(), url=url)
    yield opened
    opened.close()
    if url:
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "DROP TABLE audit, audit_head, audit_checkpoints, approvals, bills, projections, files, tries, attempts, runs, alembic_version"
            )
        engine.dispose()


def test_a_run_comes_back_exactly(store: Store) -> None:
    store.create_run(info(), planned(2), Owner.current())
    entry = DiffEntry("collateral", "db", "t", "update", {"id": 1}, "price", Decimal("1.50"), None, b"\x00", HOSTILE)
    ended = result(
        ticket=HOSTILE,
        detail=HOSTILE,
        checks=(CheckResult("state", "state", False, "no", (entry,)),),
        tokens=Tokens(1, 2, 3, 4, 5),
        dollars=None,
        phases={"clone": 0.25},
        confidence=0.9,
        ended_ns=5,
        evidence_root="a" * 64,
    )
    for attempt in (ended, result(1, cause=Cause.AGENT_TIMED_OUT, passed=False, dollars=Decimal("0.10"))):
        store.start_try("r-1", attempt.id, 1)
        store.finish_try("r-1", attempt.id, 1, attempt, Decimal("0.20"))
    whole = RunResult(
        info(ended_ns=9),
        "finished",
        (ended, result(1, cause=Cause.AGENT_TIMED_OUT, passed=False, dollars=Decimal("0.10"))),
        "fail",
        (GateFinding("pass_rate", "fail", "0.5", "0.9"),),
        Comparison("r-0", "careful 1.1", 2, 0.5, 1.0, (TicketFlip(HOSTILE, "s", "worse", 1, 1, 0, 1),), None, Decimal("0.10")),
        None,
        ("a note", HOSTILE),
    )
    store.finish_run("r-1", whole)
    assert repr(store.load_run("r-1")) == repr(whole)
    assert repr(store.load_attempt("r-1", "0000-1")) == repr(ended)
    (summary,) = store.list_runs()
    assert (summary.info, summary.status, summary.verdict) == (whole.info, "finished", "fail")
    assert (summary.planned, summary.ended, summary.passed) == (2, 2, 1)


def test_a_campaign_s_variants_are_listed_apart_from_what_was_asked_of_the_agent(store: Store) -> None:
    variant = Variant("errors", "errors", 1, {"of": "0000-1"})
    store.create_run(
        info(), [*planned(2), *(Planned(f"0000-{at}", "T-0", "billing", 0, at, variant) for at in (2, 3, 4))], Owner.current()
    )
    for attempt in (
        result(),
        result(id="0000-2", repeat=2, variant=variant),
        result(id="0000-3", repeat=3, variant=variant, passed=False),
    ):
        store.start_try("r-1", attempt.id, 1)
        store.finish_try("r-1", attempt.id, 1, attempt, Decimal(0))
    (summary,) = store.list_runs()
    assert (summary.planned, summary.ended, summary.passed) == (2, 1, 1)
    assert (summary.variants_planned, summary.variants_ended) == (3, 2)


def test_planned_attempts_keep_hostile_ticket_names(store: Store) -> None:
    wanted = Planned("0000-1", HOSTILE, HOSTILE, 0, 1)
    store.create_run(info(), [wanted], Owner.current())
    assert store.planned("r-1")[0].planned == wanted


def test_every_try_s_spend_is_kept(store: Store) -> None:
    store.create_run(info(), planned(2), Owner.current())
    store.start_try("r-1", "0000-1", 1)
    failed = result(cause=Cause.MODEL_PROVIDER_FAILED, passed=False, dollars=Decimal("0.10"), tokens=Tokens(input=10))
    store.finish_try("r-1", "0000-1", 1, failed, Decimal("0.10"))
    store.start_try("r-1", "0000-1", 2)
    store.abandon_try("r-1", "0000-1", 2, dollars=Decimal("0.03"), dollars_upper=Decimal("0.05"), tokens=Tokens(input=5))
    store.start_try("r-1", "0000-1", 3)
    store.finish_try("r-1", "0000-1", 3, result(dollars=Decimal("0.20"), tries=3), Decimal("0.20"))
    spent = store.spent("r-1")
    assert (spent.dollars, spent.dollars_upper, spent.tokens) == (Decimal("0.33"), Decimal("0.35"), Tokens(input=15))
    assert store.load_run("r-1").spent_dollars == store.list_runs()[0].spent_dollars == Decimal("0.33")
    assert [(made.number, made.cause, made.dollars) for made in store.tries("r-1", "0000-1")] == [
        (1, Cause.MODEL_PROVIDER_FAILED, Decimal("0.10")),
        (2, Cause.PODCTL_FAILED, Decimal("0.03")),
        (3, Cause.COMPLETED, Decimal("0.20")),
    ]
    assert store.load_attempt("r-1", "0000-1").tries == 3
    with pytest.raises(PodctlError, match="is not running"):
        store.abandon_try("r-1", "0000-1", 1, dollars=Decimal(0), dollars_upper=Decimal(0))
    assert store.spent("r-1") == spent

    store.start_try("r-1", "0001-1", 1)
    assert store.spent("r-1").dollars is None  # running: not known yet
    store.abandon_try("r-1", "0001-1", 1, dollars=None, dollars_upper=Decimal(1))
    assert (store.spent("r-1").dollars, store.spent("r-1").dollars_upper) == (None, Decimal("1.35"))
    assert store.load_run("r-1").spent_dollars is None
    assert store.list_runs()[0].spent_dollars is None


def test_what_is_left_to_do_is_known_after_a_kill(store: Store) -> None:
    store.create_run(info(), planned(3), dead_owner())
    store.start_try("r-1", "0000-1", 1)
    store.finish_try("r-1", "0000-1", 1, result(), Decimal(0))
    store.start_try("r-1", "0001-1", 1)
    states = store.planned("r-1")
    assert [(state.state, state.tries, state.running_try, state.cause) for state in states] == [
        ("ended", 1, None, Cause.COMPLETED),
        ("running", 1, 1, None),
        ("planned", 0, None, None),
    ]
    assert [state.planned for state in states] == planned(3)
    assert store.load_run("r-1").status == store.list_runs()[0].status == "interrupted"
    assert [attempt.id for attempt in store.load_run("r-1").attempts] == ["0000-1"]
    store.take_over("r-1", Owner.current())
    assert store.load_run("r-1").status == "running"
    store.abandon_try("r-1", "0001-1", 1, dollars=Decimal(0), dollars_upper=Decimal(0))
    assert [state.state for state in store.planned("r-1")] == ["ended", "planned", "planned"]
    assert store.planned("r-1")[1].tries == 1


def test_a_run_is_not_taken_from_a_live_owner(store: Store) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        start = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        store.create_run(info(), planned(1), dataclasses.replace(Owner.current(), pid=child.pid, start=start))
        with pytest.raises(PodctlError) as caught:
            store.take_over("r-1", Owner.current())
        assert caught.value.code == "run-owned"
        assert str(child.pid) in caught.value.cause
    finally:
        child.communicate(b"\n")
    store.take_over("r-1", Owner.current())
    store.take_over("r-1", Owner.current())  # its own already


def test_who_takes_a_run_over_says_what_holds_of_it_from_now_on(store: Store) -> None:
    store.create_run(info(), planned(1), Owner.current())
    store.take_over("r-1", Owner.current(), info=dataclasses.replace(info(), resumed=True))
    assert store.load_info("r-1").resumed
    store.take_over("r-1", Owner.current())
    assert store.load_info("r-1").resumed


def test_controls_of_several_places_are_as_weak_as_the_weakest() -> None:
    assert weakest([{"seccomp": "yes", "cgroups": "yes"}, {"seccomp": "yes", "cgroups": "partly", "more": "yes"}]) == {
        "seccomp": "yes",
        "cgroups": "partly",
    }
    assert weakest([{"seccomp": "partly"}, {"seccomp": "no"}]) == {"seccomp": "no"}
    assert weakest([{"seccomp": "yes"}, {}]) == {}


def test_an_owner_on_another_host_yields_only_to_force(store: Store) -> None:
    store.create_run(info(), planned(1), dataclasses.replace(Owner.current(), host="elsewhere"))
    with pytest.raises(PodctlError) as caught:
        store.take_over("r-1", Owner.current())
    assert "cannot be asked" in caught.value.cause
    store.take_over("r-1", Owner.current(), force=True)


def test_an_owner_before_a_reboot_or_with_a_reused_number_is_dead() -> None:
    here = Owner.current()
    assert here.alive() is True
    assert dataclasses.replace(here, boot_id="another").alive() is False
    assert dataclasses.replace(here, start="1").alive() is False


def test_a_finished_run_is_not_taken_over_but_an_interrupted_one_is(store: Store) -> None:
    store.create_run(info(), [], Owner.current())
    store.finish_run("r-1", RunResult(info(), "interrupted", (), "inconclusive"))
    assert store.load_run("r-1").status == "interrupted"
    store.take_over("r-1", dataclasses.replace(Owner.current(), pid=1))
    store.finish_run("r-1", RunResult(info(), "finished", (), "pass"))
    with pytest.raises(PodctlError) as caught:
        store.take_over("r-1", Owner.current())
    assert caught.value.code == "run-finished"


def test_finishing_keeps_attempts_that_were_graded_again_or_never_begun(store: Store) -> None:
    store.create_run(info(), planned(2), Owner.current())
    store.start_try("r-1", "0000-1", 1)
    store.finish_try("r-1", "0000-1", 1, result(), Decimal(0))
    regraded = result(passed=False, detail="graded again")
    cancelled = result(1, cause=Cause.CANCELLED, passed=False, tries=0)
    store.finish_run("r-1", RunResult(info(), "finished", (regraded, cancelled), "fail"))
    assert store.load_run("r-1").attempts == (regraded, cancelled)
    assert store.list_runs()[0].passed == 0


def test_runs_are_found_by_beginning_or_latest(store: Store) -> None:
    with pytest.raises(PodctlError, match="no run yet"):
        store.find_run("latest")
    for at, run in enumerate(["20250101-aa", "20250101-ab", "20250102-a", "20250102-ab_", "Z%"[:1]]):
        store.create_run(info(run, started_ns=100 - at if run == "Z" else at), [], Owner.current())
    assert store.find_run("latest") == "Z"
    assert store.find_run("20250101-aa") == "20250101-aa"
    assert store.find_run("20250102-a") == "20250102-a"  # exact, though another begins with it
    assert store.find_run("20250102-ab") == "20250102-ab_"
    for name, code in [("2025", "run-ambiguous"), ("", "run-ambiguous"), ("%", "no-such-run"), ("z", "no-such-run")]:
        with pytest.raises(PodctlError) as caught:
            store.find_run(name)
        assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert [summary.info.id for summary in store.list_runs()][:2] == ["Z", "20250102-ab_"]


def test_mistakes_are_said_and_change_nothing(store: Store) -> None:
    store.create_run(info(), planned(1), Owner.current())
    store.start_try("r-1", "0000-1", 1)
    before = (store.planned("r-1"), store.tries("r-1"))
    for code, act in [
        ("run-exists", lambda: store.create_run(info(), [], Owner.current())),
        ("try-exists", lambda: store.start_try("r-1", "0000-1", 1)),
        ("no-such-attempt", lambda: store.start_try("r-1", "0009-1", 1)),
        ("try-not-running", lambda: store.finish_try("r-1", "0000-1", 2, result(), Decimal(0))),
        ("try-not-running", lambda: store.abandon_try("r-1", "0000-1", 2, dollars=None, dollars_upper=Decimal(0))),
        ("no-such-run", lambda: store.finish_run("r-9", RunResult(info("r-9"), "finished", (), "pass"))),
        ("no-such-run", lambda: store.load_run("r-9")),
        ("no-such-run", lambda: store.take_over("r-9", Owner.current())),
        ("no-such-attempt", lambda: store.load_attempt("r-1", "0009-1")),
        ("attempt-not-ended", lambda: store.load_attempt("r-1", "0000-1")),
        ("no-such-attempt", lambda: store.attempt_directory("r-1", "../../..")),
        ("no-such-run", lambda: store.run_directory("..")),
    ]:
        with pytest.raises(PodctlError) as caught:
            act()
        assert caught.value.code == code
    assert (store.planned("r-1"), store.tries("r-1")) == before
    for bad in ("../x", "", "a/b", "r\n"):
        with pytest.raises(ValueError, match="file name"):
            store.create_run(info(bad), [], Owner.current())


def test_files_of_an_earlier_try_are_set_aside(store: Store) -> None:
    store.create_run(info(), planned(1), Owner.current())
    store.start_try("r-1", "0000-1", 1)
    directory = store.attempt_directory("r-1", "0000-1")
    assert directory == store.run_directory("r-1") / "attempts" / "0000-1"
    (directory / "streams").mkdir()
    (directory / "streams" / "gateway.jsonl").write_text("first")
    store.abandon_try("r-1", "0000-1", 1, dollars=None, dollars_upper=Decimal(0))
    store.start_try("r-1", "0000-1", 2)
    assert sorted(path.name for path in directory.iterdir()) == ["tries"]
    assert (directory / "tries" / "1" / "streams" / "gateway.jsonl").read_text() == "first"
    (directory / "stdout").write_text("second")
    with pytest.raises(PodctlError):
        store.start_try("r-1", "0000-1", 2)
    assert (directory / "stdout").read_text() == "second"  # a refused start moves nothing
    store.start_try("r-1", "0000-1", 3)
    assert (directory / "tries" / "2" / "stdout").read_text() == "second"


def test_projections_are_kept_once_and_bills_entered_whole(store: Store) -> None:
    body = {"run": "r-1", "madeNs": 5, "total": HOSTILE}
    assert store.keep_projection("p1", body) is True
    assert store.keep_projection("p1", {**body, "madeNs": 6}) is False
    assert store.kept_projections() == [("p1", body)]
    bill = {"projection": "p1", "what": "total", "period": 1, "entered_ns": 1, "dollars": "5"}
    with pytest.raises(IntegrityError):
        store.enter_bills([bill, {**bill, "projection": "nobody"}])
    assert store.entered_bills() == []
    store.enter_bills([bill, {**bill, "period": 2}])
    store.enter_bills([{**bill, "dollars": "6"}])
    assert [(entered["period"], entered["dollars"]) for entered in store.entered_bills()] == [(1, "6"), (2, "5")]


def test_the_migrations_make_the_tables_that_the_code_uses(store: Store) -> None:
    location = str(Path(podctl.evidence.database.__file__).with_name("migrations"))
    config = Config()
    config.set_main_option("script_location", location)
    script = ScriptDirectory.from_config(config)
    assert tuple(reversed([revision.revision for revision in script.walk_revisions()])) == REVISIONS
    with store._database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, metadata) == []


def test_ten_thousand_attempts_are_quick(tmp_path: Path) -> None:
    store = Store.open(tmp_path, SystemClock())
    store.create_run(info(), planned(10_000), Owner.current())
    finishing: list[float] = []
    for at in range(200):
        store.start_try("r-1", f"{at:04}-1", 1)
        begun = time.perf_counter()
        store.finish_try("r-1", f"{at:04}-1", 1, result(at), Decimal("0.01"))
        finishing.append(time.perf_counter() - begun)
    store.close()
    rows = [("r-1", f"{at:04}-1", 2, 0, 0, "completed", "0.01", "0.01", "{}") for at in range(10_000)]
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.executemany("INSERT INTO tries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("UPDATE attempts SET state = 'ended', result = (SELECT result FROM attempts WHERE id = '0000-1')")
    connection.close()
    store = Store.open(tmp_path, SystemClock())

    def fastest(act) -> float:
        taken = []
        for _ in range(5):
            begun = time.perf_counter()
            act()
            taken.append(time.perf_counter() - begun)
        return min(taken)

    assert fastest(store.list_runs) < 0.2  # 18 ms on an idle machine, where reading every attempt takes half a second
    assert fastest(lambda: store.load_attempt("r-1", "5000-1")) < 0.05
    assert statistics.quantiles(finishing, n=10)[0] < 0.01  # 1 ms on an idle machine; tests share theirs
    assert len(store.load_run("r-1").attempts) == 10_000
    store.close()

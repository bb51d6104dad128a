"""podctl gate and podctl power over runs that are in a store: nothing is run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from example_run import GATE, START_NS, example_run

from podctl.cli.main import podctl
from podctl.clock import SystemClock
from podctl.evidence.results import EarlyStop, RunResult, Shard
from podctl.evidence.store import Store
from podctl.evidence.store_rows import AttemptState, Planned
from podctl.stats.gate import judged

SETTINGS = {"gate": GATE.model_dump(mode="json")}


def keep(store: Store, run: RunResult) -> RunResult:
    planned = [
        AttemptState(Planned(a.id, a.ticket, a.stratum, a.position, a.repeat), "ended", 1, None, a.cause) for a in run.attempts
    ]
    store.take_in(run, planned, [])
    return run


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "s", SystemClock())
    before = keep(
        store,
        example_run(
            version="2.0.3",
            skill=0.9,
            seed=8,
            scale=8,
            quirks=False,
            id="r-1",
            agent_digest="a",
            branch="main",
            settings=SETTINGS,
        ),
    )
    after = example_run(scale=8, quirks=False, id="r-2", agent_digest="b", settings=SETTINGS, started_ns=START_NS + 10**9)
    keep(store, judged(after, GATE, before))
    keep(
        store,
        example_run(repeats=2, quirks=False, id="r-3", agent_digest="b", settings=SETTINGS, started_ns=START_NS + 2 * 10**9),
    )
    return tmp_path / "s"


def podctl_(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(podctl, [*arguments, "--store", str(directory)], standalone_mode=False)


def gate(directory: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = podctl_(directory, "gate", *arguments, "-o", "json")
    assert done.exception is None, done.exception
    return done.return_value, json.loads(done.stdout)


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {finding["name"]: finding["verdict"] for finding in report["findings"]}


def test_a_run_is_judged_again_by_its_own_gate_and_baseline(directory: Path) -> None:
    code, report = gate(directory, "r-2")
    assert code == 100 and report["comparison"]["baselineRun"] == "r-1"
    assert verdicts(report)["regression"] == "fail"
    assert report["comparison"]["attribution"]["strata"]
    store = Store.open(directory, SystemClock())
    assert [finding.name for finding in store.load_run("r-2").findings] == [finding["name"] for finding in report["findings"]]


def test_other_requirements_leave_the_stored_verdict(directory: Path) -> None:
    code, report = gate(directory, "r-2", "--baseline", "main", "--require", "regression=0.5", "--require", "boundary_violations=null",
                        "--require", "pass_rate=0.5", "--require", "cost_per_ticket=null")  # fmt: skip
    assert (code, report["verdict"]) == (0, "pass")
    assert Store.open(directory, SystemClock()).load_run("r-2").verdict == "fail"
    drops = ["--require", "boundary_violations=null", "--require", "regression=null", "--require", "pass_rate=0.9"]
    drops += ["--require", "cost_per_ticket=null", "--require", "seconds_per_ticket=null"]
    assert gate(directory, "r-2", *drops)[0] == 0
    code, report = gate(directory, "r-2", *drops, "--strict")
    assert (code, report["verdict"]) == (5, "inconclusive")
    assert report["findings"][0]["moreTickets"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["r-2", "--baseline", "release"], "no-baseline", "branches with runs: main"),
        (["r-2", "--baseline", "release.json"], "no-baseline", "a certificate has no attempts"),
        (["r-2", "--require", "pass_rates=1"], "usage", "one of pass_rate, "),
        (["r-2", "--require", "pass_rate=2"], "usage", "--require pass_rate: "),
        (["r-2", "--aa"], "gate-no-repeats", "--repeats 2 or more"),
        (["r-2", "--aa", "--baseline", "r-1"], "gate-different", "different agents"),
        (["nothing"], "no-such-run", "podctl get runs"),
    ],
)
def test_what_cannot_be_judged_is_said(directory: Path, arguments: list[str], code: str, said: str) -> None:
    error: Any = podctl_(directory, "gate", *arguments).exception
    assert error.code == code and said in error.render() and error.exit_code == 2


def test_a_run_that_ended_early_and_a_shard(directory: Path) -> None:
    store = Store.open(directory, SystemClock())
    before = store.load_run("r-1")
    short = replace(
        example_run(quirks=False, scale=8, settings=SETTINGS), attempts=example_run(quirks=False, scale=8).attempts[:40]
    )
    short = replace(short, info=replace(short.info, id="r-4", started_ns=START_NS + 3 * 10**9))
    keep(store, judged(short, GATE, before, EarlyStop(24.0, 8, 0, 344, None)))
    code, report = gate(directory, "r-4")
    assert (code, verdicts(report)["regression"]) == (100, "fail")
    error: Any = podctl_(directory, "gate", "r-4", "--baseline", "r-3").exception
    assert error.code == "gate-ended-early"
    keep(store, replace(short, info=replace(short.info, id="r-5", shard=Shard(1, 2, short.info.sample_size))))
    error = podctl_(directory, "gate", "r-5").exception
    assert error.code == "gate-shard"


def test_a_version_against_itself(directory: Path) -> None:
    done = podctl_(directory, "gate", "r-3", "--aa", "--replications", "100")
    assert (
        done.return_value == 0
        and "support-agent 2.1.0 against itself, 100 times (seed 1): 48 tickets drawn again" in done.stdout
    )
    code, value = gate(directory, "r-3", "--aa", "--baseline", "r-2", "--replications", "100", "--seed", "3")
    assert (code, value["kind"], value["seed"], sum(value["verdicts"].values())) == (0, "GateSelfTest", 3, 100)
    assert value["falseFailRate"] <= 0.1


def test_power_before_spending(directory: Path) -> None:
    scenario = str(Path(__file__).parents[2] / "scenarios" / "shop.yaml")
    done = podctl_(
        directory, "power", scenario, "--flips", "0.3", "--margin", "0.1", "--sample", "184", "--baseline-rate", "0.8"
    )
    assert done.return_value == 0 and "184 tickets of 300" in done.stdout
    assert "limits.dollars" in done.stdout
    done = podctl_(directory, "power", scenario, "--flips", "0.3", "--sample", "60", "--dollars", "0.02", "-o", "json")
    value = json.loads(done.stdout)
    assert value["lines"][0]["dollars"] == "1.20" and value["settles"] == pytest.approx(742 * 1.224, abs=2)
    assert "weights: the sample is not in proportion to its strata and tells as much as 49 tickets that are" in value["assumed"]
    error: Any = podctl_(directory, "power", scenario, "--flips", "0.01").exception
    assert error.code == "usage" and "needs at least that share of flips" in error.what

"""The escape suite, run for real; and that it can fail: on sandboxes and roles that lack a protection."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import weak_sandbox

from podctl.backends.base import Finding
from podctl.backends.escape import bench, suite
from podctl.backends.escape.checks import CHECKS, Control, Result, complete, judge, judge_report, kernel_controls
from podctl.backends.escape.level import level
from podctl.backends.escape.traps import planted
from podctl.backends.local import cgroups
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.escape import LocalWorld
from podctl.backends.local.escape_level import ledger
from podctl.backends.local.state import State
from podctl.clock import SystemClock
from podctl.controller.run import RunController, prepare
from podctl.data.connect import connect
from podctl.errors import EnvironmentProblem
from podctl.evidence.store import Store
from podctl.spec.load import load_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def state() -> Iterator[State]:
    """A state directory of the test's own: what it proves is nobody else's business."""
    directory = Path(tempfile.mkdtemp(prefix="pe-", dir="/var/tmp"))
    yield State.open(directory)
    shutil.rmtree(directory)


# ---- the suite itself ----


@pytest.fixture(scope="module")
def run() -> Iterator[dict[str, Any]]:
    """``podctl doctor --escape -o json``, once."""
    directory = Path(tempfile.mkdtemp(prefix="pe-", dir="/var/tmp"))
    done = subprocess.run(
        [sys.executable, "-m", "podctl", "doctor", "--escape", "-o", "json"],
        env={**os.environ, "PODCTL_STATE": str(directory)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.stdout, done.stderr
    yield {
        "items": {item["name"]: item for item in json.loads(done.stdout)["items"]},
        "code": done.returncode,
        "said": done.stderr,
        "state": State.open(directory),
    }
    shutil.rmtree(directory)


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_gets_out(run: dict[str, Any], check: str) -> None:
    item = run["items"][check]
    if check in ("memory-tree", "cpu") and not cgroups.version():
        assert item["state"] == "LIMITATION", item
    elif check in LocalWorld.not_applicable:
        assert item["state"] == "NOT APPLICABLE" and item["detail"], item
    else:
        assert item["state"] == "PASS", item


def test_a_clean_suite_exits_with_0_and_an_unclean_one_with_3(run: dict[str, Any]) -> None:
    bad = [item["name"] for item in run["items"].values() if item["state"] in ("FAIL", "INCONCLUSIVE")]
    assert run["code"] == (3 if bad else 0), run["said"]
    assert ("untrusted agents are refused here" in run["said"]) == bool(bad)


def test_what_it_proved_is_kept_and_printed(run: dict[str, Any]) -> None:
    kept = ledger(run["state"]).kept()
    assert kept is not None
    assert [(result.name, result.state) for result in kept[0]] == [(i["name"], i["state"]) for i in run["items"].values()]
    assert LocalBackend(run["state"]).isolation().endswith("one door; " + level(*kept))


def test_it_leaves_nothing_behind(run: dict[str, Any]) -> None:
    assert run["state"].names() == []
    assert list(run["state"].root.glob("*.secret")) == []
    name = re.search(r"making two pods of run (escape-\w+)", run["said"])
    assert name and list(Path("/var/tmp").glob(f"podctl-{name[1]}-*")) == []


# ---- that it can fail ----


@pytest.fixture(scope="module")
def sound() -> dict[str, Result]:
    directory = Path(tempfile.mkdtemp(prefix="pe-", dir="/var/tmp"))
    try:
        return asyncio.run(weak_sandbox.look(State.open(directory), ""))
    finally:
        shutil.rmtree(directory)


WEAKENED = {
    "network": ("host-loopback", "host-abstract-socket", "only-doors"),
    "seccomp": ("ptrace", "unrecorded", "process-memory", "io-uring", "keyctl", "socket-netlink", "foreign-calls"),
    "proc": ("host-processes",),
    "environment": ("host-environment", "provider-key"),
    "files": ("podctl-state", "podctl-store", "host-path-socket"),
    "descriptors": ("inherited-descriptors",),
}


@pytest.mark.skipif(not Path(weak_sandbox.PYTHON).exists(), reason="needs the system's Python")
@pytest.mark.parametrize("protection", WEAKENED)
def test_a_sandbox_without_a_protection_fails_its_checks(state: State, sound: dict[str, Result], protection: str) -> None:
    results = asyncio.run(weak_sandbox.look(state, protection))
    for name in WEAKENED[protection]:
        if name in CHECKS:
            assert sound[name].state != "FAIL", sound[name]
            assert results[name].state == "FAIL", results[name]


def test_a_role_and_an_attempt_with_too_many_rights_fail_their_checks(state: State) -> None:
    """The agent's role is made a superuser, no service is left out, no tool and no approval asked for, in an otherwise sound pod."""

    async def look() -> tuple[dict[str, Result], int, int]:
        world = LocalWorld(state)
        with tempfile.TemporaryDirectory(prefix="podctl-weak-", dir="/var/tmp") as name:
            async with planted(state.root, Path(name)) as traps, bench.bench(world, "escape-weak", Path(name), traps) as made:
                pod = made.tested
                await pod.end()
                pod.services, pod.tools = (), {"desk": "read"}
                pod.routes = {**pod.routes, "echo": {"GET /word": "read", "POST /paid": "ai-writable"}}
                await pod.begin()
                admin = await connect(world.conninfo(pod.id))
                await admin.execute(f"ALTER ROLE {pod.role} SUPERUSER CONNECTION LIMIT -1".encode())
                await admin.close()
                plan = await made.plan(pod, traps, suite.DECOY)
                report = await made.probe(pod, ["probes_sql", "probes_gateway"], plan)
                forked = suite.said(await made.run("fork", "300", processes=400))["forked"]
                held = suite.said(await made.run("memory", "256", "1", memory=2**30))["kept"]
                return {result.name: result for result in judge_report(report, {})}, forked, held

    results, forked, held = asyncio.run(look())
    failed = {name for name, result in results.items() if result.state == "FAIL"}
    assert {
        "sql-table",
        "sql-column",
        "sql-definer-function",
        "sql-view",
        "sql-set-role",
        "sql-read-only-commit",
        "sql-grant",
        "sql-large-object",
        "sql-copy-program",
        "sql-read-file",
        "sql-create",
        "sql-signals",
        "sql-other-database",
        "sql-connection-flood",
        "gateway-service-list",
        "gateway-tool",
        "gateway-approval",
    } <= failed
    assert not {"sql-superuser", "gateway-forged-key"} & failed
    assert (forked, held) == (300, 256), "with higher limits the programs take more than the suite allows"


def test_a_deny_without_its_control_is_inconclusive() -> None:
    assert judge("dns", False, "", Control(True, "")).state == "PASS"
    assert judge("dns", False, "", Control(True, ""), Control(False, "")).state == "INCONCLUSIVE"
    assert judge("dns", False, "").state == "INCONCLUSIVE"
    assert judge("dns", None, "the probe broke", Control(True, "")).state == "INCONCLUSIVE"
    assert judge("dns", True, "", Control(False, "")).state == "FAIL"


def test_the_host_s_control_counts_as_much_as_the_sandbox_s() -> None:
    report = {"dns": [False, "no name", True, "a name resolves"]}
    assert judge_report(report, {})[0].state == "PASS"
    assert judge_report(report, {"dns": Control(False, "the host resolves nothing")})[0].state == "INCONCLUSIVE"


def test_a_call_the_host_refuses_is_a_control_and_one_made_wrongly_is_not() -> None:
    controls = kernel_controls({"bpf": "EPERM", "mount": "", "perf": "EINVAL"})
    assert [controls[name].works for name in ("bpf", "mount", "perf")] == [True, True, False]


def test_a_check_that_did_not_run_is_inconclusive() -> None:
    results = complete([Result("dns", "PASS", "")], "the pod was lost", {"keeper": "there is none"})
    assert [result.name for result in results] == list(CHECKS)
    assert {result.state for result in results if result.name not in ("dns", "keeper")} == {"INCONCLUSIVE"}
    assert Result("keeper", "NOT APPLICABLE", "there is none") in results


def test_a_name_that_the_gateway_looked_up_is_found_in_its_records() -> None:
    record = '{"path": "//tok.escape.invalid/", "error": "%s"}'
    assert suite.resolved_by_gateway(record % "ClientConnectorDNSError: Name or service not known", "tok")
    assert not suite.resolved_by_gateway(record % "", "tok")


# ---- what follows from a result ----


def _finding(state: State) -> Finding:
    found = asyncio.run(LocalBackend(state).check())
    return next(finding for finding in found if finding.name == "escape suite")


def test_without_a_result_nothing_is_refused(state: State) -> None:
    assert (_finding(state).state, _finding(state).remedy) == ("partly", "podctl doctor --escape")
    assert LocalBackend(state).isolation().endswith("escape suite not run here: podctl doctor --escape")


def test_a_clean_result_is_named_with_its_day_and_version(state: State) -> None:
    ledger(state).keep([Result("dns", "PASS", ""), Result("cpu", "LIMITATION", "")])
    assert _finding(state).state == "yes"
    assert "escape suite: 1 of 1 checks passed, not limited here: cpu (20" in LocalBackend(state).isolation()


@pytest.mark.parametrize("bad", ["FAIL", "INCONCLUSIVE"])
def test_an_untrusted_agent_is_refused_after_an_unclean_result(state: State, tmp_path: Path, bad: Any) -> None:
    ledger(state).keep([Result("dns", "PASS", ""), Result("ptrace", bad, "worked")])
    controller = RunController(Store.open(tmp_path / "store", SystemClock()), LocalBackend(state))
    with pytest.raises(EnvironmentProblem) as caught:
        asyncio.run(controller.reconcile(prepare(load_bundle(_scenario(tmp_path))), "r-1"))
    assert caught.value.code == "not-isolated"
    assert "escape suite" in caught.value.what and f"ptrace {bad}" in caught.value.cause
    assert "podctl doctor --escape" in caught.value.hint


@pytest.mark.parametrize("changed", ["machine", "kernel", "podctl", "uids"])
def test_a_result_of_elsewhere_says_nothing(state: State, changed: str) -> None:
    ledger(state).keep([Result("dns", "FAIL", "")])
    path = state.root / "escape.json"
    told = json.loads(path.read_text())
    told["here"][changed] = "another"
    path.write_text(json.dumps(told))
    assert ledger(state).kept() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"here": 1}', "null"])
def test_a_damaged_result_says_nothing(state: State, text: str) -> None:
    (state.root / "escape.json").write_text(text)
    assert ledger(state).kept() is None


def _scenario(directory: Path) -> Path:
    files = {
        "topology.yaml": "kind: Topology\nname: t\n",
        "tickets.jsonl": '{"id": "1"}\n',
        "tickets.yaml": "kind: Tickets\nname: t\nsource: tickets.jsonl\n",
        "agent/run.sh": "exit 0\n",
        "agent.yaml": "kind: Agent\nname: a\nversion: '1'\ncommand: [/bin/sh, run.sh]\ndirectory: agent\n",
        "boundary.yaml": "kind: Boundary\nname: b\n",
        "scenario.yaml": "kind: Scenario\nname: s\ntopology: topology.yaml\ntickets: tickets.yaml\nagent: agent.yaml\n"
        "boundary: boundary.yaml\nchecks: [{kind: output, name: o, path: status, equals: done}]\n",
    }
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"apiVersion: podctl/v1\n{text}" if name.endswith(".yaml") else text)
    return directory / "scenario.yaml"


def test_the_page_on_isolation_names_every_check_and_no_other() -> None:
    text = (ROOT / "docs" / "isolation.md").read_text()
    page = text[text.index("## Guaranteed") : text.index("## Only if")]
    named = re.findall(r"`([a-z0-9-]+)`", page)
    assert sorted(named) == sorted({*CHECKS, "foreign-calls"})

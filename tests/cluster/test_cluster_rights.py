"""An account that has exactly the role of a runner, under the policies: what it can do, and what it cannot without a right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from both_places import AGENT, TICKETS
from cluster import kubeconfig_of, kubectl
from project import make_project

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("fence")]


def test_a_run_by_an_account_with_the_role_and_nothing_else(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS[:1], scenario={"run": {"pods": 1}})
    own = {"KUBECONFIG": str(kubeconfig_of("podctl-ci", "podctl-system", tmp_path / "kubeconfig"))}
    may = kubectl("auth", "can-i", "get", "secrets", "-A", kubeconfig=Path(own["KUBECONFIG"]))
    assert may.stdout.strip() == "no", "it is not the administrator"
    done = project.podctl("run", "scenario.yaml", "-q", "--backend", "kubernetes", timeout=120, **own)
    assert done.returncode in (0, 100), done.stdout + done.stderr
    assert project.attempts()["1"].passed
    left = project.podctl("gc", "--dry-run", "--backend", "kubernetes", **own)
    assert left.returncode == 0, left.stderr


def test_who_views_may_see_runs_and_who_edits_may_not_start_them() -> None:
    view = json.loads(kubectl("get", "clusterrole", "view", "-o", "json").stdout)["rules"]
    assert {"apiGroups": ["podctl.dev"], "resources": ["testruns"], "verbs": ["get", "list", "watch"]} in view
    edit = json.loads(kubectl("get", "clusterrole", "edit", "-o", "json").stdout)["rules"]
    verbs = {verb for rule in edit if "testruns" in rule["resources"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}

"""The agents on the page about agents are run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import Project, environment_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")


def agent(name: str) -> str:
    found = re.search(rf"<!-- agent: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, f"docs/agents.md has no agent {name}"
    return found[1]


def change(path: Path, **values: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = subprocess.run(
        [sys.executable, "-m", "podctl", "init", str(tmp_path / "p")], env=environment_for({}), capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return Project(tmp_path / "p")


def test_the_python_agent_works_the_tickets_of_a_new_project(project: Project) -> None:
    (project.root / "agent" / "agent.py").write_text(agent("python"))
    change(project.root / "scenario.yaml", sample={"size": 4, "include": ["T-02"]})
    finished = project.podctl("run", "scenario.yaml", "-q")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert {attempt.passed for attempt in project.attempts().values()} == {True}
    (decision,) = project.records("T-02", "decision")
    assert decision["provenance"] == "declared"
    assert [option["chosen"] for option in decision["data"]["decision"]["options"]] == [False, True]


@pytest.mark.campaign
def test_the_shell_agent_sorts_tickets_and_declines_others(project: Project) -> None:
    (project.root / "agent" / "agent.sh").write_text(agent("shell"))
    change(project.root / "agent.yaml", command=["/bin/sh", "/agent/agent.sh"])
    rows = [json.loads(line) for line in (project.root / "tickets.jsonl").read_text().splitlines()][:4]
    rows.append({**rows[0], "id": "T-99", "text": 'A "ticket" of another kind: thanks, order 1!'})
    for row in rows:
        row["reference"] = {"output": {"queue": row["queue"]}}
    (project.root / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checks = [{"kind": "output", "name": "queue", "path": "output.queue", "reference": "queue"}]
    change(project.root / "scenario.yaml", checks=checks, gate={"pass_rate": 0.8})
    finished = project.podctl("run", "scenario.yaml", "-q")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    attempts = project.attempts()
    assert (attempts["T-99"].cause, attempts["T-99"].detail) == ("agent_refused", "no rule for this ticket")
    assert [attempt.ticket for attempt in attempts.values() if not attempt.passed] == ["T-99"]
    assert attempts["T-01"].confidence == 0.8
    (decision,) = project.records("T-03", "decision")
    assert decision["data"]["decision"]["options"] == [{"action": "status", "chosen": True}]


def test_model_clients_and_telemetry_need_no_change(project: Project) -> None:
    (project.root / "agent" / "agent.py").write_text(agent("clients"))
    change(project.root / "agent.yaml", model={"name": "scripted-small"})
    (project.root / "script.yaml").write_text("rules: [{match: 'order (?P<id>\\d+)', reply: 'about order ${id}'}]\n")
    price = {"input": 1, "output": 2}
    change(
        project.root / "scenario.yaml",
        sample={"size": 1, "include": ["T-03"]},
        model={"mode": "scripted", "script": "script.yaml", "prices": {"scripted-small": price}},
        checks=[{"kind": "output", "name": "answers", "path": "output.answers.1", "equals": "about order 3"}],
    )
    finished = project.podctl("run", "scenario.yaml", "-q")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.startswith("SIMULATED")
    answered = [record["data"] for record in project.records("T-03", "model.call") if record["data"]["status"] == 200]
    assert [(call["provider"], call["simulated"]) for call in answered] == [("openai", True), ("anthropic", True)]
    (span,) = project.records("T-03", "span")
    assert (span["data"]["name"], span["data"]["resource"]["service.version"]) == ("plan", "1")
    (decision,) = project.records("T-03", "decision")
    assert decision["data"]["decision"]["confidence"] == 0.5
    assert project.attempts()["T-03"].confidence == 0.5

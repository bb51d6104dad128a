"""`podctl project` on stores with made-up runs, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from project import environment_for
from sampled_run import Kind, run_of

from podctl.cli.project import project_command
from podctl.errors import PodctlError

KINDS = {"easy": Kind(12, 4000), "hard": Kind(10, 1000, 0.6)}
TICKETS = "number,priority,minutes\n1,easy,10\n2,easy,20\n3,hard,90\n4,hard,\n"
LOG = """apiVersion: podctl/v1
kind: Tickets
name: log
source: log.csv
fields: {id: number, stratum: priority}
"""
VOLUME = """apiVersion: podctl/v1
kind: Volume
name: next-year
strata: {easy: 1000, hard: 500}
people: {dollars_per_hour: 60}
pods: {dollars_per_hour: 0.5}
baseline: {tickets: {file: log.yaml, path: minutes, at_most: 1h}}
budget: 100
work: {pods: [2]}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("project")
    run_of(KINDS).stored(directory / ".podctl")
    for name, text in (("log.csv", TICKETS), ("log.yaml", LOG), ("volume.yaml", VOLUME)):
        (directory / name).write_text(text)
    return directory


def podctl(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "podctl", "project", *arguments]
    return subprocess.run(command, cwd=directory, env=environment_for({}), capture_output=True, text=True, timeout=120)


def called(directory: Path, *arguments: str) -> Result:
    """In this process, which is quicker; what `podctl.cli.main.main` prints of an error is the exception's text."""
    return CliRunner().invoke(project_command, [*arguments, "--store", str(directory / ".podctl")])


def test_a_volume_file_gives_every_figure_in_text_and_json(project: Path) -> None:
    shown = podctl(project, "latest", "--volume", "volume.yaml")
    assert shown.returncode == 0, shown.stderr
    first = shown.stdout.splitlines()[0]
    assert first.startswith("support-agent 2.1.0 on 1,500 tickets: $") and "(95 % range), best estimate $" in first
    for part in ("fallback to people", "a resolved ticket", "coverage", "budget    $100", "PODS", "low confidence", "seed 1"):
        assert part in shown.stdout, part
    given = ("latest", "--volume", str(project / "volume.yaml"), "-o", "json")
    value = json.loads(called(project, *given).stdout)
    assert (value["kind"], value["agentName"]) == ("Projection", "support-agent")
    # Minutes of the log, by stratum and no longer than an hour: 15 for easy tickets, 60 for hard ones.
    assert value["baseline"]["hours"] == pytest.approx(1000 * 0.25 + 500 * 1.0)
    assert value["baseline"]["source"] == "minutes of 3 tickets of log.yaml"
    again = json.loads(called(project, *given).stdout)
    assert {**again, "madeNs": 0} == {**value, "madeNs": 0}


def test_a_price_file_says_what_pods_cost_where_the_volume_does_not(tmp_path: Path) -> None:
    made = run_of(KINDS)
    made.attempts[:] = [
        replace(one, models=(), wall_s=36.0, cpu_s=18.0 if number % 2 else 72.0, max_rss=2**29)
        for number, one in enumerate(made.attempts)
    ]
    made.stored(tmp_path / ".podctl")
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "apiVersion: podctl/v1\nkind: Prices\ncompute: {cpu_hour: 0.1, gigabyte_hour: 0.02, cpu: 1, memory: 1Gi}\n"
    )

    def projected(*given: str) -> tuple[dict[str, Any], str]:
        done = called(tmp_path, *given, "-o", "json", "--replications", "1000")
        assert done.exception is None, done.exception
        value = json.loads(done.stdout)
        pods = next(part for part in value["parts"] if part["name"] == "pods")
        return pods, " ".join(value["assumptions"])

    # Every other attempt used two cores instead of the one that is asked for: 1.5 cores on average, and a gigabyte.
    pods, said = projected("--volume", "20000", "--prices", str(prices))
    assert pods["counted"] and pods["dollars"]["value"] == pytest.approx(20000 * 0.01 * 0.17)
    assert f"an hour of a pod costs $0.17, by {prices}" in said
    (tmp_path / "v.yaml").write_text(VOLUME.partition("baseline")[0])
    pods, said = projected("--volume", str(tmp_path / "v.yaml"), "--prices", str(prices))
    assert pods["dollars"]["value"] == pytest.approx(1500 * 0.01 * 0.5)
    assert f"an hour of a pod costs $0.5, by the volume file, and not $0.17 by {prices}" in said
    page = tmp_path / "p.html"
    assert called(tmp_path, "--volume", str(tmp_path / "v.yaml"), "--prices", str(prices), "--html", str(page)).exit_code == 0
    assert "by the volume file, and not $0.17 by" in page.read_text()
    pods, said = projected("--volume", "20000")
    assert (
        not pods["counted"]
        and "neither the volume file nor a price file" in pods["dollars"]["why"]
        and "hour of a pod" not in said
    )


def test_a_number_or_the_population_will_do(project: Path) -> None:
    number = called(project, "--volume", "20000", "-o", "json", "--seed", "3", "--replications", "1000", "--level", "0.9")
    value = json.loads(number.stdout)
    assert (value["volume"]["tickets"], value["seed"], value["level"], value["total"]["level"]) == (20_000, 3, 0.9, 0.9)
    own = json.loads(called(project, "--volume", "population", "-o", "json").stdout)
    assert (own["volume"]["of"], own["volume"]["tickets"]) == ("population", 5000)


@pytest.mark.parametrize(
    ("run", "volume", "said"),
    [
        ("nosuch", "5", "there is no run 'nosuch'"),
        ("latest", "5k", "neither a number of tickets nor a file"),
        ("latest", "9" * 30, "neither a number of tickets nor a file"),
        ("latest", "0", "the volume has no tickets"),
        ("latest", "none.yaml", "no such file: none.yaml"),
        ("latest", "log.yaml", "expected kind: Volume"),
        ("latest", "bad.yaml", "bad.yaml:4:22: the run's population has no stratum `hrad`"),
        ("latest", "text.yaml", "ticket 1: the baseline: expected a number, found 'easy'"),
        ("latest", "lacking.yaml", "no ticket has hours"),
        ("latest", "below.yaml", "ticket 2 has -20, below 0"),
    ],
)
def test_mistakes_are_said_and_nothing_is_projected(
    project: Path, monkeypatch: pytest.MonkeyPatch, run: str, volume: str, said: str
) -> None:
    (project / "bad.yaml").write_text(VOLUME.replace("hard: 500", "hrad: 500, hard: 0"))
    (project / "text.yaml").write_text(VOLUME.replace("path: minutes", "path: priority"))
    (project / "lacking.yaml").write_text(VOLUME.replace("path: minutes", "path: hours"))
    (project / "below.csv").write_text(TICKETS.replace("easy,20", "easy,-20"))
    (project / "below-log.yaml").write_text(LOG.replace("log.csv", "below.csv"))
    (project / "below.yaml").write_text(VOLUME.replace("log.yaml", "below-log.yaml"))
    monkeypatch.chdir(project)
    done = called(project, run, "--volume", volume)
    assert isinstance(done.exception, PodctlError), done.exception
    assert int(done.exception.exit_code) == 2
    assert said in done.exception.render() and not done.stdout


def test_the_volume_is_not_guessed(project: Path) -> None:
    done = called(project, "latest")
    assert done.exit_code == 2 and "--volume" in done.stderr


def test_strict_exits_with_5_where_the_total_is_not_known(project: Path, tmp_path: Path) -> None:
    few = run_of({"easy": Kind(3, 100)}).stored(tmp_path / ".podctl")
    shown = podctl(tmp_path, few.info.id, "--volume", "20000", "--strict")
    assert shown.returncode == 5
    assert "without a range: 3 tickets are too few" in shown.stdout
    assert called(project, "--volume", "20000", "--strict").exit_code == 0

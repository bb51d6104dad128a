"""What `podctl tickets` says of a sample, and how it stands hostile tickets."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import Project
from shared_data import IT_TICKETS, needs_tickets

from podctl.spec.models import Tickets
from podctl.spec.tickets import Sample
from podctl.tickets.drawing import drawn_sample, freeze
from podctl.tickets.mapping import Reading
from podctl.tickets.portrait import Portrait, plain_words, portray
from podctl.tickets.sources import load_population

HEAD = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": "t"}


def portrait(path: Path, rows: list[dict[str, Any]], sample: dict[str, Any], **spec: Any) -> Portrait:
    source = path / "t.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tickets = Tickets.model_validate({**HEAD, "source": source, **spec})
    loaded = load_population(tickets)
    drawn_by = Sample.model_validate(sample)
    return portray(loaded, drawn_by, drawn_sample(loaded.tickets, drawn_by), Reading.of(tickets))


def shop(count: int = 1000) -> list[dict[str, Any]]:
    chance = random.Random(1)
    return [
        {
            "id": f"T-{n}",
            "queue": "refund" if n % 10 == 0 else "status",
            "urgent": {"level": "yes" if n % 10 == 0 and n % 20 else "no"},
            "hours": chance.expovariate(0.1),
            "text": "word " * chance.randrange(1, 40),
        }
        for n in range(count)
    ]


def test_a_design_that_asks_as_much_of_small_strata_is_said_to_be_the_reason(tmp_path: Path) -> None:
    found = portrait(tmp_path, shop(), {"size": 60, "design": "equal"}, fields={"text": "text", "stratum": "queue"})
    assert [(one.name, one.population, one.sample) for one in found.strata] == [("refund", 100, 30), ("status", 900, 30)]
    deviating = {(one.column, one.value): one for one in found.deviating}
    assert set(deviating) == {
        ("queue", "refund"),
        ("queue", "status"),
        ("urgent.level", "yes"),
        ("urgent.level", "no"),
    }
    status = deviating["queue", "status"]
    assert (status.few, status.by_design, round(status.expected), status.sample) == (True, True, 54, 30)
    assert status.weighted_share == pytest.approx(0.9)
    assert all(one.by_design for one in found.deviating)
    words = "\n".join(plain_words(found))
    assert (
        "queue 'status': fewer than in the population, as the design has it: 50.0% of the sample, 90.0% of the population"
        in words
    )


def test_ill_luck_is_told_from_design(tmp_path: Path) -> None:
    """A sample whose tickets somebody chose: long waits only."""
    rows = shop()
    chosen = [row["id"] for row in sorted(rows, key=lambda row: -row["hours"])[:40]]
    found = portrait(tmp_path, rows, {"size": 40, "include": chosen}, fields={"text": "text"})
    worst = found.deviating[0]
    assert (worst.column, worst.by_design) == ("hours", False)
    assert {one.value for one in found.deviating if one.column == "hours" and one.few} == {
        "lowest quarter",
        "second quarter",
        "third quarter",
    }
    words = "\n".join(plain_words(found))
    assert "in 1 stratum every ticket was chosen by hand" in words
    assert "by chance (less than 1 in 1,000)" in words


def test_many_columns_do_not_make_an_honest_sample_suspect(tmp_path: Path) -> None:
    chance = random.Random(4)
    rows = [{"id": f"T{n}", **{f"c{column}": chance.randrange(3) for column in range(50)}} for n in range(300)]
    suspected = sum(bool(portrait(tmp_path, rows, {"size": 60, "seed": seed}).deviating) for seed in range(8))
    assert suspected <= 2


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    rows = [{"id": str(n), "queue": "a" if n < 97 else f"rare{n}", "note": "x" if n == 50 else "y"} for n in range(100)]
    fields = {"stratum": [{"field": "queue"}, {"field": "id", "bins": [1000]}]}
    found = portrait(tmp_path, rows, {"size": 3, "exclude": ["1"]}, fields=fields)
    assert (found.source, found.excluded, found.population) == (100, 1, 99)
    assert found.empty_groups == ("1000 and over",)
    words = "\n".join(plain_words(found))
    assert "3 of 4 strata have no ticket in the sample, 3.0% of the population: rare97 / under 1000" in words
    assert "values of the population's not in the sample: " in words
    assert "declared, and no ticket is in it: 1000 and over." in words


def test_columns_of_many_texts_and_lists_are_left_alone(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "name": f"name {n}", "tags": ["a"], "one": 1, "deep": {"er": {"still": {"x": n % 2}}}} for n in range(50)
    ]
    found = portrait(tmp_path, rows, {"size": 10})
    assert found.compared == 4  # the quarters of id, which are numbers


def test_a_frozen_samples_weights_are_told_to_be_of_then(tmp_path: Path) -> None:
    rows = shop(100)
    frozen = {"size": 10, "frozen": tmp_path / "s.json"}
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = Tickets.model_validate({**HEAD, "source": tmp_path / "t.jsonl"})
    freeze(load_population(spec).tickets, Sample.model_validate(frozen), tmp_path / "s.json")
    assert "had 100" not in "\n".join(plain_words(portrait(tmp_path, rows, frozen)))
    words = "\n".join(plain_words(portrait(tmp_path, [*rows, {**rows[0], "id": "more"}], frozen)))
    assert "the population has 101 tickets and had 100 when the sample was frozen" in words


@needs_tickets
def test_an_honest_sample_of_real_tickets_is_not_suspected() -> None:
    spec = Tickets.model_validate(
        {**HEAD, "source": IT_TICKETS, "id_from": "row", "fields": {"text": "body", "stratum": "category"}}
    )
    loaded = load_population(spec)
    suspected = 0
    for seed in range(6):
        sample = Sample(size=120, seed=seed)
        found = portray(loaded, sample, drawn_sample(loaded.tickets, sample), Reading.of(spec))
        suspected += any(not one.by_design for one in found.deviating)
    assert found.compared > 30
    assert suspected <= 2


# ---- on the command line ----

HOSTILE = "\x1b]0;owned\x07\x1b[2Jred\u202e\r\nforged line"


def test_hostile_tickets_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "queue": f"{HOSTILE}{n % 4}", HOSTILE: HOSTILE if n % 2 else "x", "text": HOSTILE} for n in range(40)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {**HEAD, "source": "t.jsonl", "fields": {"text": "text", "stratum": ["queue", {"field": HOSTILE}]}}
    (tmp_path / "t.yaml").write_text(json.dumps(spec))
    for output in ("table", "json"):
        command = [sys.executable, "-m", "podctl", "tickets", "t.yaml", "--sample", "3", "-o", output]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(c.isprintable() or c == "\n" for c in done.stdout)
        assert "\nforged" not in done.stdout
    assert json.loads(done.stdout)["items"]["sample"] == 3


def test_a_scenario_shows_what_its_run_would_work(tmp_path: Path) -> None:
    here = Project(tmp_path)
    assert here.podctl("init", "p").returncode == 0
    project = Project(tmp_path / "p")
    shown = json.loads(project.podctl("tickets", "scenario.yaml", "--sample", "4", "-o", "json").stdout)["items"]
    planned = project.podctl("plan", "scenario.yaml", "--sample", "4").stdout
    for stratum in shown["strata"]:
        assert f"{stratum['name']}: {stratum['sample']} of {stratum['population']} tickets" in planned
    refused = project.podctl("tickets", "topology.yaml")
    assert refused.returncode == 2
    assert "is a Topology" in refused.stderr
    assert project.podctl("tickets", "nowhere.yaml").returncode == 2


@pytest.mark.campaign
def test_freezing_leaves_what_was_frozen_unless_told(tmp_path: Path) -> None:
    here = Project(tmp_path)
    assert here.podctl("init", "p").returncode == 0
    project = Project(tmp_path / "p")
    scenario = project.root / "scenario.yaml"
    as_it_was = scenario.read_text()
    scenario.write_text(as_it_was.replace("sample: {size: all}", "sample: {size: 5, frozen: absent/sample.json}"))
    assert "no such directory: absent" in project.podctl("tickets", "freeze", "scenario.yaml").stderr
    scenario.write_text(as_it_was)
    assert "does not say where" in project.podctl("tickets", "freeze", "scenario.yaml").stderr
    scenario.write_text(as_it_was.replace("sample: {size: all}", "sample: {size: 5, frozen: sample.json}"))
    assert "podctl tickets freeze" in project.podctl("plan", "scenario.yaml").stderr
    assert project.podctl("tickets", "freeze", "scenario.yaml").returncode == 0
    before = (project.root / "sample.json").read_bytes()
    refused = project.podctl("tickets", "freeze", "scenario.yaml")
    assert (refused.returncode, (project.root / "sample.json").read_bytes()) == (2, before)
    changed = project.podctl("run", "scenario.yaml", "--seed", "9")
    assert changed.returncode == 2
    assert "drawn otherwise" in changed.stderr
    assert project.podctl("tickets", "freeze", "scenario.yaml", "--again").returncode == 0
    assert (project.root / "sample.json").read_bytes() == before
    assert not [path for path in project.root.iterdir() if path.name.endswith(".half")]

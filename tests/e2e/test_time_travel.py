"""Tickets that were resolved long ago, worked again on what they were opened on, and held against what people did then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from audited import audited, done, now
from capturing import Server
from postgres_server import serving
from project import Project


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as url:
        yield Server(url)


def production(server: Server, project: Project) -> tuple[str, list[dict[str, str]]]:
    """The project's shop as it became: three tickets were resolved, and life went on."""
    seed = yaml.safe_load((project.root / "topology.yaml").read_text())["databases"]["shop-db"]["seed"]
    url = server.database((project.root / seed["sql"][0]).read_text() + audited("audit-trigger", ["orders"]))
    texts = ["Please cancel order 1.", "Where is order 3?", "I want to cancel order 8."]
    with psycopg.connect(url, autocommit=True) as session:
        with session.cursor().copy("COPY orders FROM STDIN WITH (FORMAT csv, HEADER true)") as copy:
            copy.write((project.root / seed["csv"]["orders"]).read_text())
        opened = [now(session) for _ in texts]
        done(session, "nora", "UPDATE orders SET status = 'cancelled' WHERE id = 1")
        done(session, "robot", "UPDATE orders SET status = 'shipped' WHERE id = 3")
        done(session, "nora", "UPDATE orders SET status = 'delivered' WHERE id = 8")
        done(session, "nora", "UPDATE orders SET status = 'cancelled' WHERE id = 8")
        resolved = now(session)
        done(session, "robot", "UPDATE orders SET status = 'delivered' WHERE status = 'cancelled'")
        done(session, "robot", "DELETE FROM orders WHERE id = 8")
    return url, [
        {"id": f"T-{number}", "text": text, "queue": "q", "opened": opened[number], "resolved": resolved}
        for number, text in enumerate(texts)
    ]


@pytest.mark.campaign
def test_an_agent_works_on_what_was_and_is_held_against_what_people_did(server: Server, tmp_path: Path) -> None:
    assert Project(tmp_path).podctl("init", "p").returncode == 0
    project = Project(tmp_path / "p")
    url, tickets = production(server, project)
    (project.root / "tickets.jsonl").write_text("".join(json.dumps(ticket) + "\n" for ticket in tickets))
    kind = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": "t", "source": "tickets.jsonl"}
    (project.root / "tickets.yaml").write_text(
        yaml.safe_dump({**kind, "fields": {"text": "text"}, "hide": ["opened", "resolved"]})
    )
    rows = [{"path": "text", "table": "orders", "column": "id", "match": r"order (\d+)"}]
    history = {
        "source": {"kind": "audit-table", "layout": "audit-trigger"},
        "opened": "opened",
        "resolution": {"resolved": "resolved", "actors": {"never": ["robot"]}, "unchanged": "reference"},
    }
    spec = {
        "source": {"url": url},
        "tickets": {"file": "tickets.yaml", "rows": rows},
        "history": history,
    }
    head = {"apiVersion": "podctl/v1", "kind": "Capture", "name": "shop-db", "unmasked": "invented people"}
    (project.root / "capture.yaml").write_text(yaml.safe_dump({**head, **spec}))

    plan = project.podctl("data", "plan", "capture.yaml")
    assert plan.returncode == 0, plan.stderr
    assert "history: 3 of 3 tickets have a reference, 2 changed rows in all; 9 rows were others" in plan.stdout
    made = project.podctl("data", "capture", "capture.yaml", "-o", "captured")
    assert made.returncode == 0, made.stderr

    topology = yaml.safe_load((project.root / "topology.yaml").read_text())
    topology["databases"]["shop-db"]["seed"] = {"captured": "captured"}
    (project.root / "topology.yaml").write_text(yaml.safe_dump(topology))
    scenario = yaml.safe_load((project.root / "scenario.yaml").read_text())
    scenario["checks"] = [{"kind": "state", "ignore_tables": ["audit.*"]}]
    (project.root / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    run = project.podctl("run", "scenario.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    attempts = {attempt.ticket: attempt for attempt in project.run().attempts}
    assert {name: attempt.passed for name, attempt in attempts.items()} == {"T-0": True, "T-1": True, "T-2": True}
    (entry,) = attempts["T-2"].checks[0].diff
    assert (entry.old, entry.new, entry.expected) == ("open", "cancelled", "cancelled")

"""From a live database to a verdict: what production has is captured, and a run on the seed passes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from capturing import Server
from postgres_server import serving
from project import Project
from worked_examples import RETAIL, needs_retail, prepare

from podctl.data.connect import connect
from podctl.data.seed import load_seed
from podctl.spec.load import load_model
from podctl.spec.models import Topology


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as url:
        yield Server(url)


def live(server: Server, project: Project, database: str) -> str:
    """The project's own seed as a live database; the project has no other seed than what is captured from it."""
    path = project.root / "topology.yaml"
    url = server.database()

    async def load() -> None:
        session = await connect(url)
        try:
            await load_seed(session, load_model(path, Topology).databases[database].seed)
            await session.execute("ANALYZE")
        finally:
            await session.close()

    asyncio.run(load())
    topology = yaml.safe_load(path.read_text())
    topology["databases"][database]["seed"] = {"captured": "captured"}
    path.write_text(yaml.safe_dump(topology))
    return url


def capture_file(project: Project, url: str, database: str, **spec: Any) -> None:
    head = {"apiVersion": "podctl/v1", "kind": "Capture", "name": database, "source": {"url": url}}
    (project.root / "capture.yaml").write_text(yaml.safe_dump({**head, "unmasked": "invented people", **spec}))


def _found(value: Any, key: str) -> Any:
    """What stands under ``key``, wherever it is."""
    if isinstance(value, dict):
        return value[key] if key in value else next((f for v in value.values() if (f := _found(v, key)) is not None), None)
    return None


@pytest.mark.campaign
def test_a_project_runs_on_what_was_captured_for_its_tickets(server: Server, tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project.podctl("init", "p").returncode == 0
    project = Project(tmp_path / "p")
    url = live(server, project, "shop-db")
    rows = [{"path": "text", "table": "orders", "column": "id", "match": r"order (\d+)"}]
    capture_file(project, url, "shop-db", tickets={"file": "tickets.yaml", "rows": rows})
    before = project.podctl("validate", "scenario.yaml")
    assert before.returncode == 2 and "no such directory: captured" in before.stderr
    made = project.podctl("data", "capture", "capture.yaml", "-o", "captured")
    assert made.returncode == 0, made.stderr
    run = project.podctl("run", "scenario.yaml", "-q", "--json", "result.json")
    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads((project.root / "result.json").read_text())
    fidelity = {part["name"]: part for part in _found(told, "fidelity")}
    assert fidelity["versions"]["score"] == 1.0, "captured from the same PostgreSQL as serves it"
    assert fidelity["tables"]["facts"]["shop-db.orders"].startswith("12 of ")
    assert "fidelity: 100" in run.stdout
    seed = json.loads((project.root / "captured" / "seed.json").read_text())
    assert [(table["name"], table["rows"]) for table in seed["tables"]] == [("orders", 12)]
    (rows_file,) = (project.root / "captured" / "tables").iterdir()
    rows_file.write_bytes(rows_file.read_bytes().replace(b"open", b"sent"))
    changed = project.podctl("run", "scenario.yaml", "-q")
    assert changed.returncode == 2 and "is not what was captured [seed-changed]" in changed.stderr


@pytest.mark.campaign
@needs_retail
def test_retail_requests_are_resolved_on_the_rows_that_they_need(server: Server, tmp_path: Path) -> None:
    project = prepare("retail", RETAIL, tmp_path / "retail")
    url = live(server, project, "retail-db")
    rows = [
        {"path": "actions.arguments.order_id", "table": "orders", "column": "order_id"},
        {"path": "actions.arguments.user_id", "table": "users", "column": "user_id"},
        {"path": "text", "table": "orders", "column": "order_id", "match": r"#W\d+"},
    ]
    children = [{"table": table, "of": "orders"} for table in ("order_items", "payments", "fulfillments")]
    children += [{"table": table, "of": "users"} for table in ("orders", "payment_methods")]
    tickets = {"file": "tickets.yaml", "sample": {"size": 20}, "rows": rows}
    capture_file(project, url, "retail-db", tickets=tickets, children=children, whole=["products", "variants"])
    made = project.podctl("data", "capture", "capture.yaml", "-o", "captured")
    assert made.returncode == 0, made.stderr
    taken = {table["name"]: table["rows"] for table in json.loads((project.root / "captured/seed.json").read_text())["tables"]}
    assert taken["users"] < 25 < taken["order_items"] < 500 and taken["variants"] == 591
    run = project.podctl("run", "retail-exact.yaml", "-q", "--sample", "20", timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_copy_that_cannot_be_loaded_is_no_seed(server: Server, tmp_path: Path) -> None:
    """An emptied reference breaks a constraint that only PostgreSQL can judge; followed, it does not."""
    project = Project(tmp_path)
    url = server.database(
        """CREATE TABLE nodes (id int PRIMARY KEY, up int REFERENCES nodes, kind text, CHECK ((up IS NULL) = (kind = 'root')));
        INSERT INTO nodes VALUES (1, NULL, 'root'), (2, 1, 'leaf'), (3, 2, 'leaf'), (4, 3, 'leaf');"""
    )
    (tmp_path / "tickets.jsonl").write_text('{"id": "1", "node": 4}')
    (tmp_path / "tickets.yaml").write_text("apiVersion: podctl/v1\nkind: Tickets\nname: t\nsource: tickets.jsonl\n")
    tickets = {"file": "tickets.yaml", "rows": [{"path": "node", "table": "nodes", "column": "id"}]}
    capture_file(project, url, "tree", tickets=tickets)
    refused = project.podctl("data", "capture", "capture.yaml", "-o", "seed")
    assert refused.returncode == 3 and "the copy cannot be loaded [capture-not-loadable]" in refused.stderr
    assert "nodes_check" in refused.stderr and "parents: {follow: " in refused.stderr
    assert not (tmp_path / "seed").exists() and list(tmp_path.glob(".seed*")) == []
    capture_file(project, url, "tree", tickets=tickets, parents={"follow": {"nodes.up": "always"}})
    made = project.podctl("data", "capture", "capture.yaml", "-o", "seed")
    assert made.returncode == 0 and "4 rows of 1 tables" in made.stdout, made.stderr

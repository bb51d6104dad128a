"""A project on a captured and masked seed whose tickets are from another time, to be run on any backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import yaml
from audited import audited, done, now
from capturing import Server
from project import Project, make_project

from podctl.masking.keys import KeyFile

_PRODUCTION = """
CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE items (id int PRIMARY KEY, person_id int NOT NULL REFERENCES people, label text NOT NULL, secret text NOT NULL DEFAULT 'hidden');
INSERT INTO people VALUES (4, 'Zoeline Quartermaine'), (5, 'Bartosz Yilmazer'), (6, 'Ingeborg Abernathy');
INSERT INTO items SELECT 70 + n, 4 + n % 3, 'shelf' FROM generate_series(0, 2) n;
"""
NAMES = ("Quartermaine", "Yilmazer", "Abernathy", "Zoeline", "Bartosz", "Ingeborg")
#: What the agent leaves is right only where the row is what it was when the ticket was opened; it finds it by what text and rows share.
_AGENT = """
import json, os, re
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
try:
    import psycopg
except ImportError:
    import psycopg2 as psycopg
item, name = re.search(r"item (\\d+) of ([A-Za-z]+ [A-Za-z]+) .*", ticket["text"]).groups()
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    cursor = connection.cursor()
    cursor.execute("select p.name from people p join items i on i.person_id = p.id where i.id = %s", (int(item),))
    assert cursor.fetchone() == (name,), "text and rows are masked alike"
    if "look" not in ticket["text"]:
        cursor.execute("update items set label = label || '!' where id = %s", (int(item),))
json.dump({"status": "done", "summary": ""}, open(os.environ["PODCTL_RESULT"], "w"))
"""
_KEYS = {"mask": "id"}
_MASKING = {
    "databases": {
        "main-db": {
            "people": {"id": _KEYS, "name": "name"},
            "items": {"id": _KEYS, "person_id": _KEYS, "label": "keep", "secret": "token"},
        }
    },
    "patterns": {"item": {"match": r"item (\d+)", "mask": "id"}},
    "tickets": {"id": "keep", "fields": {"id": "keep", "text": "text", "opened": "keep", "resolved": "keep", "queue": "keep"}},
}


def travelled(server: Server, directory: Path) -> Project:
    """Captured from a database that went on since: of the four tickets the second one's resolution is another than the agent's,
    and of the fourth nobody knows a reference, so that it is left out."""
    project = make_project(
        directory, agent=_AGENT, tickets=[], scenario={"checks": [{"kind": "state", "ignore_tables": ["audit.*"]}]},
        boundary={"main-db": {"items": {"read": ["id", "person_id", "label"], "update": ["label"]}, "people": {"read": ["id", "name"]}}},
    )  # fmt: skip
    url = server.database(_PRODUCTION + audited("supa-audit", ["people", "items"]))
    (project.root / "tickets.jsonl").write_text("".join(json.dumps(one) + "\n" for one in _lived(url)))
    _write(project, "tickets", "Tickets", source="tickets.jsonl", fields={"text": "text", "stratum": "queue"}, hide=["opened", "resolved"])  # fmt: skip
    _write(project, "masking", "Masking", **_MASKING)
    rows = [{"path": "text", "table": "items", "column": "id", "match": r"item (\d+)"}]
    history = {
        "source": {"kind": "audit-table", "layout": "supa-audit", "actor": "who"},
        "opened": "opened",
        "resolution": {"resolved": "resolved", "actors": {"never": ["robot"]}, "unchanged": "reference"},
    }
    tickets = {"file": "tickets.yaml", "rows": rows}
    _write(project, "capture", "Capture", name="main-db", source={"url": url}, tickets=tickets, history=history, masking="masking.yaml")  # fmt: skip
    key = directory.parent / "keys" / "travelled.key"
    KeyFile(key).make()
    made = project.podctl("data", "capture", "capture.yaml", "-o", "captured", "--key", str(key))
    assert made.returncode == 0, made.stdout + made.stderr
    server.drop(url)
    topology = yaml.safe_load((project.root / "topology.yaml").read_text())
    topology["databases"]["main-db"]["seed"] = {"captured": "captured"}
    (project.root / "topology.yaml").write_text(yaml.safe_dump(topology))
    scenario = yaml.safe_load((project.root / "scenario.yaml").read_text())
    (project.root / "scenario.yaml").write_text(yaml.safe_dump({**scenario, "tickets": "captured/tickets.yaml"}))
    return project


def _lived(url: str) -> list[dict[str, Any]]:
    """What happened after the tickets were opened, and the tickets."""
    with psycopg.connect(url, autocommit=True) as session:
        done(session, "nobody", "UPDATE items SET label = label || ' one'")
        opened = now(session)
        done(session, "nora", "UPDATE items SET label = 'shelf one!' WHERE id = 70")
        done(session, "nora", "UPDATE items SET label = 'attic' WHERE id = 71")
        resolved = now(session)
        done(session, "robot", "UPDATE items SET label = 'sold'")
        done(session, "robot", "DELETE FROM items WHERE id = 70")
    texts = (
        "Mark item 70 of Zoeline Quartermaine please",
        "Mark item 71 of Bartosz Yilmazer please",
        "Only look at item 72 of Ingeborg Abernathy please",
        "Mark item 72 of Ingeborg Abernathy please",
    )
    times = [{"opened": opened, "resolved": resolved}] * 3 + [{"opened": "2001-01-01T00:00:00Z", "resolved": resolved}]
    return [
        {"id": f"T-{n}", "text": text, "queue": "q", **when} for n, (text, when) in enumerate(zip(texts, times, strict=True))
    ]


def _write(project: Project, file: str, kind: str, *, name: str = "travelled", **spec: Any) -> None:
    head = {"apiVersion": "podctl/v1", "kind": kind, "name": name}
    (project.root / f"{file}.yaml").write_text(yaml.safe_dump({**head, **spec}))

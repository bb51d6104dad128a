"""A small run that must end alike wherever its pods are, and what of it is compared."""

from __future__ import annotations

from typing import Any

from project import Project, relabel, ticket

from podctl.evidence.results import AttemptResult

AGENT = """
import json, os, sys, urllib.request
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
seen = json.load(urllib.request.urlopen("http://counter:8080/look"))["seen"]
assert seen == 1, "the service starts anew for each attempt"
try:
    import psycopg
except ImportError:
    import psycopg2 as psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    cursor = connection.cursor()
    if ticket["text"] == "cross":
        cursor.execute("update items set secret = 'x' where id = 1")
    cursor.execute("update items set label = %s where id = %s", (ticket["text"], int(ticket["id"])))
json.dump({"status": "done", "summary": ""}, open(os.environ["PODCTL_RESULT"], "w"))
"""
TICKETS = [
    ticket("1", "right", [relabel(1, "right")]),
    ticket("2", "wrong", [relabel(2, "other")]),
    ticket("3", "cross", [relabel(3, "cross")]),
]


def told(attempt: AttemptResult) -> dict[str, Any]:
    """What must not depend on where an attempt was made."""
    checks = [(check.name, check.passed, list(check.diff)) for check in attempt.checks]
    counts = (attempt.statements, attempt.changes, attempt.http_calls, attempt.boundary_attempts)
    return {"cause": attempt.cause, "passed": attempt.passed, "checks": checks, "counts": counts}


def on_both(project: Project, backend: str, scenario: str, timeout: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """By ticket: on this machine, and elsewhere."""
    found = []
    for where in ("local", backend):
        done = project.podctl("run", scenario, "-q", "--backend", where, timeout=timeout)
        assert done.returncode in (0, 100), done.stdout + done.stderr
        found.append({name: told(attempt) for name, attempt in project.attempts().items()})
    return found[0], found[1]

"""Which changes are a ticket's own, and what is said where nobody can know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from audited import SHOP, audited
from capturing import Server, ask, captured, planned, project

from podctl.capture.planning import Plan
from podctl.capture.problems import CaptureProblem
from podctl.capture.rewinding import Rewound
from podctl.data.captured import CapturedSeedProblem, read_history
from podctl.errors import SpecError
from podctl.masking.keys import KeyFile
from podctl.tickets.past import TicketPast

ORDERS = [{"path": "order", "table": "orders", "column": "id"}]
SEEDED = """
INSERT INTO customers (name) VALUES ('Ada Lovelace'), ('Ben Stone'), ('Chen Li');
INSERT INTO orders (customer_id, status) VALUES (1, 'open'), (2, 'open'), (3, 'open');
INSERT INTO items VALUES (1, 1, 'tea'), (1, 2, 'pot'), (2, 1, 'lamp');
"""


class Life:
    """A database in which things happen, by somebody, at moments."""

    def __init__(self, server: Server, template: str, layout: str) -> None:
        self.url, self.layout = server.copy(template), layout
        self.moments: list[str] = []
        self.does("nobody", SEEDED)

    def now(self) -> str:
        return str(ask(self.url, "SELECT clock_timestamp()")[0][0].isoformat())

    def does(self, who: str, *statements: str) -> None:
        """In one transaction."""
        with psycopg.connect(self.url) as session:
            session.execute("SELECT set_config('app.user', %s, false)", [who])
            for statement in statements:
                session.execute(statement.encode())

    def spec(self, tmp_path: Path, entries: list[dict[str, Any]], **more: Any) -> Path:
        resolution = {"resolved": "resolved", **more.pop("resolution", {})}
        source = {"kind": "audit-table", "layout": self.layout, **more.pop("audit", {})}
        if self.layout == "supa-audit":
            source.setdefault("actor", "who")
        history = {"source": source, "opened": "opened", "resolution": resolution, **more.pop("history", {})}
        given = {"rows": ORDERS, "children": [{"table": "items", "of": "orders"}], **more}
        return project(tmp_path, self.url, entries, history=history, **given)


@pytest.fixture(scope="module", params=["supa-audit", "audit-trigger"])
def template(cluster: Server, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    url = cluster.database(SHOP + audited(request.param))
    yield url, request.param
    cluster.drop(url)


@pytest.fixture
def life(server: Server, template: tuple[str, str]) -> Iterator[Life]:
    life = Life(server, *template)
    yield life
    server.drop(life.url)


def ticket(name: str, order: int, opened: str, resolved: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "order": order, "opened": opened, "resolved": resolved, **more}


def pasts(plan: Plan) -> dict[str, Rewound]:
    assert plan.past is not None
    return plan.past.tickets


def said(one: Rewound) -> tuple[str, str]:
    outcome = one.problem or one.resolution
    assert outcome is not None
    return outcome.kind, outcome.why


def test_what_others_and_service_accounts_do_is_not_the_resolution(life: Life, tmp_path: Path) -> None:
    start = life.now()
    life.does("nora", "UPDATE orders SET status = 'held' WHERE id = 1", "UPDATE customers SET name = 'Adah' WHERE id = 1")
    life.does("robot", "UPDATE orders SET total = 5 WHERE id = 1")
    life.does(
        "nora", "UPDATE orders SET status = 'cancelled' WHERE id = 1", "DELETE FROM items WHERE order_id = 1 AND line = 2"
    )
    life.does("nora", "INSERT INTO items VALUES (1, 9, 'oops')", "DELETE FROM items WHERE line = 9")
    end = life.now()
    life.does("nora", "UPDATE orders SET status = 'closed' WHERE id = 1")
    path = life.spec(tmp_path, [ticket("t", 1, start, end)], resolution={"actors": {"never": ["rob*"]}})
    one = pasts(planned(path))["t"]
    assert one.resolution is not None and one.resolution.kind == "found"
    found = {change.row: (change.op, change.new) for change in one.resolution.changes}
    assert set(found) == {("orders", ("1",)), ("items", ("1", "2"))}  # neither the customer nor what came and went
    op, new = found["orders", ("1",)]
    assert op == "update" and new is not None and new[3:5] == ("cancelled", None)  # the total was the robot's
    assert found["items", ("1", "2")] == ("delete", None)
    everything = life.spec(tmp_path, [ticket("t", 1, start, end)], resolution={"rows": "any"})
    changes = pasts(planned(everything))["t"].resolution
    assert changes is not None and ("customers", ("1",)) in {change.row for change in changes.changes}


def test_a_whole_transaction_comes_with_a_change_of_the_tickets_row(server: Server, tmp_path: Path) -> None:
    template = server.database(SHOP + audited("audit-trigger"))
    life = Life(server, template, "audit-trigger")
    start = life.now()
    life.does("nora", "UPDATE orders SET status = 'held' WHERE id = 1", "UPDATE customers SET name = 'Adah' WHERE id = 1")
    life.does("nora", "UPDATE customers SET name = 'Benno' WHERE id = 2")
    path = life.spec(tmp_path, [ticket("t", 1, start, life.now())], resolution={"transactions": "whole"})
    resolution = pasts(planned(path))["t"].resolution
    assert resolution is not None
    assert [change.row for change in resolution.changes] == [("orders", ("1",)), ("customers", ("1",))]
    server.drop(life.url, template)


def test_a_change_that_may_be_two_tickets_is_nobodys(life: Life, tmp_path: Path) -> None:
    start = life.now()
    life.does("nora", "UPDATE orders SET status = 'held' WHERE id = 1")
    between = life.now()
    life.does("nora", "UPDATE orders SET status = 'cancelled' WHERE id = 1")
    end = life.now()
    tickets = [
        ticket("a", 1, start, end),
        ticket("b", 1, between, end),
        ticket("c", 1, start, between),
        ticket("d", 2, start, end),
    ]
    found = pasts(planned(life.spec(tmp_path, tickets)))
    assert [said(found[name]) for name in "abcd"] == [
        ("ambiguous", "overlap"), ("ambiguous", "overlap"), ("ambiguous", "overlap"), ("nothing", "no-change")
    ]  # fmt: skip
    # A ticket that is not in the sample may have made the change as well.
    alone = life.spec(tmp_path, tickets[:2])
    spec = yaml.safe_load(alone.read_text())
    spec["tickets"]["sample"] = {"size": 1, "include": ["b"]}
    alone.write_text(yaml.safe_dump(spec))
    assert {name: said(one) for name, one in pasts(planned(alone)).items()} == {"b": ("ambiguous", "overlap")}
    apart = life.spec(tmp_path, [ticket("b", 1, between, end), ticket("c", 1, start, between)])
    assert {name: said(one)[0] for name, one in pasts(planned(apart)).items()} == {"b": "found", "c": "found"}


def test_what_others_changed_in_between_makes_it_ambiguous(life: Life, tmp_path: Path) -> None:
    start = life.now()
    life.does("robot", "UPDATE orders SET status = 'held' WHERE id = 1", "INSERT INTO orders (customer_id) VALUES (1)")
    life.does("robot", "INSERT INTO customers (name) VALUES ('new')")
    life.does("nora", "UPDATE orders SET status = 'cancelled' WHERE id IN (1, 4)")
    life.does("nora", "UPDATE orders SET customer_id = 4 WHERE id = 2")
    tickets = [ticket(name, order, start, life.now()) for name, order in (("a", 1), ("b", 4), ("c", 2))]
    found = pasts(planned(life.spec(tmp_path, tickets, resolution={"actors": {"only": ["nora"]}})))
    assert [said(found[name]) for name in "abc"] == [("ambiguous", "mixed")] * 3
    assert (
        found["c"].resolution is not None and "orders.customer_id 4, which somebody else made" in found["c"].resolution.detail
    )


def test_gaps_truncates_and_a_history_that_begins_late(life: Life, tmp_path: Path) -> None:
    long_ago = "2001-01-01T00:00:00Z"
    before = life.now()
    life.does("nora", "UPDATE orders SET status = 'held' WHERE id = 1")
    within = life.now()
    life.does("nobody", "ALTER TABLE orders DISABLE TRIGGER keep_rows", "UPDATE orders SET total = 7 WHERE id = 1",
              "ALTER TABLE orders ENABLE TRIGGER keep_rows")  # fmt: skip
    life.does("nora", "UPDATE orders SET status = 'cancelled' WHERE id = 1")
    after = life.now()
    life.does("nora", "UPDATE orders SET status = 'closed' WHERE id = 1")
    tickets = [ticket(str(n), 1, opened, life.now()) for n, opened in enumerate((long_ago, before, within, after))]
    found = {name: said(pasts(planned(life.spec(tmp_path, [one])))[name]) for one in tickets for name in [one["id"]]}
    assert found == {"0": ("unknown", "older"), "1": ("found", ""), "2": ("unknown", "gap"), "3": ("found", "")}
    complete = life.spec(tmp_path, [tickets[0]], history={"since": "2000-01-01T00:00:00Z"})
    assert pasts(planned(complete))["0"].problem is None
    life.does("nobody", "TRUNCATE items")
    assert said(pasts(planned(life.spec(tmp_path, [tickets[1]])))["1"]) == ("unknown", "truncated")
    assert said(pasts(planned(life.spec(tmp_path, [tickets[1]], children=[])))["1"]) == ("found", "")


def test_columns_that_the_history_has_not(life: Life, tmp_path: Path) -> None:
    start = life.now()
    life.does("nora", "UPDATE orders SET status = 'held' WHERE id = 1")
    end = life.now()
    life.does("nobody", "ALTER TABLE orders ADD COLUMN priority int DEFAULT 3, DROP COLUMN paid")
    one = ticket("t", 1, start, end)
    plan = planned(life.spec(tmp_path, [one]))
    assert said(pasts(plan)["t"]) == ("unknown", "columns") and plan.past is not None
    assert plan.past.notes == ["the history of orders has columns that it has no more: paid"]
    ignoring = planned(life.spec(tmp_path, [one], history={"ignore": ["orders.priority"]}))
    assert said(pasts(ignoring)["t"]) == ("found", "")
    (then,) = pasts(ignoring)["t"].then.values()
    assert then is not None and then[3] == "open" and then[-1] == "3"


def test_rows_that_are_gone_come_back_with_what_they_refer_to(server: Server, life: Life, tmp_path: Path) -> None:
    start = life.now()
    life.does("nora", "UPDATE orders SET status = 'cancelled' WHERE id = 1")
    end = life.now()
    life.does(
        "robot",
        "DELETE FROM orders WHERE id = 1",
        "DELETE FROM customers WHERE id = 1",
        "INSERT INTO customers VALUES (9, 'x')",
    )
    life.does("robot", "INSERT INTO orders (id, customer_id) VALUES (1, 9)", "UPDATE items SET sku = 'z' WHERE order_id = 2")
    seed = tmp_path / "seed"
    captured(life.spec(tmp_path, [ticket("t", 1, start, end), ticket("u", 2, end, end)]), seed)
    known = read_history(seed)
    assert known is not None and known["t"].resolution == "found"
    assert [(change["op"], change["new"]["status"]) for change in known["t"].changes] == [("update", "cancelled")]
    copy = server.loaded(seed)
    assert ask(copy, "SELECT customer_id FROM orders WHERE id = 1") == [(9,)]
    rewind(copy, known["t"])
    assert ask(copy, "SELECT o.status, c.name FROM orders o JOIN customers c ON c.id = o.customer_id ORDER BY o.id") == [
        ("open", "Ada Lovelace"), ("open", "Ben Stone")
    ]  # fmt: skip
    assert ask(copy, "SELECT order_id, trim(sku) FROM items ORDER BY 1, 2") == [(1, "pot"), (1, "tea"), (2, "lamp")]
    (seed / "history.jsonl").write_text("{}\n")
    with pytest.raises(CapturedSeedProblem, match=r"history\.jsonl is not what was captured"):
        read_history(seed)


def rewind(url: str, past: TicketPast) -> None:
    import asyncio

    from podctl.data.connect import connect
    from podctl.data.states import apply_state

    async def apply() -> None:
        session = await connect(url)
        try:
            await apply_state(session, past.state)
        finally:
            await session.close()

    asyncio.run(apply())


def test_rows_without_a_history_cannot_go_with_those_that_were_not_there(server: Server, tmp_path: Path) -> None:
    template = server.database(SHOP + audited("supa-audit", ["orders"]))
    life = Life(server, template, "supa-audit")
    start = life.now()
    life.does("nora", "INSERT INTO orders (customer_id) VALUES (1)", "INSERT INTO items VALUES (4, 1, 'new')")
    path = life.spec(tmp_path, [ticket("t", 4, start, life.now())])
    assert said(pasts(planned(path))["t"]) == ("unknown", "uncovered")
    server.drop(life.url, template)


def test_states_and_references_are_masked_as_the_seed_is(
    server: Server, life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = life.now()
    life.does("nora", "UPDATE customers SET name = 'Ada Byron' WHERE id = 1", "UPDATE orders SET status = 'held' WHERE id = 1")
    life.does("nora", "UPDATE customers SET tags = '{new}' WHERE id = 2")
    end = life.now()
    life.does("robot", "UPDATE customers SET name = 'Ada King' WHERE id = 1", "DELETE FROM items WHERE order_id = 1")
    numbers = {"mask": "id"}
    customers = {"id": numbers, "name": "name", "tags": "erase", "version": "keep"}
    columns = dict.fromkeys(("follows", "status", "total", "extra", "paid", "at"), "keep")
    orders = {"id": numbers, "customer_id": numbers, **columns, "follows": numbers}
    items = {"order_id": numbers, "line": "keep", "sku": "keep", "data": "keep"}
    policy = {"apiVersion": "podctl/v1", "kind": "Masking", "name": "p"}
    tables = {"customers": customers, "orders": orders, "items": items}
    fields = {"id": numbers, "order": numbers, "customer": numbers, "opened": "keep", "resolved": "keep"}
    rules = {"databases": {"shop": tables}, "tickets": {"id": "id", "fields": fields}}
    (tmp_path / "masking.yaml").write_text(yaml.safe_dump({**policy, **rules}))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    KeyFile.of("p", None).make()
    rows = [*ORDERS, {"path": "customer", "table": "customers", "column": "id"}]
    both = [ticket("ticket-one", 1, start, end, customer=1), ticket("ticket-two", 2, start, end, customer=2)]
    captured(life.spec(tmp_path, both, rows=rows, masking="masking.yaml", leave_out=["audit.*"]), tmp_path / "seed")
    written = (tmp_path / "seed" / "history.jsonl").read_text()
    assert not any(name in written for name in ("Ada Lovelace", "Ada Byron", "Ada King", "ticket-one"))
    known = read_history(tmp_path / "seed")
    tickets = [json.loads(line) for line in (tmp_path / "seed" / "tickets.jsonl").read_text().splitlines()]
    assert known is not None
    erased, past = sorted((known[ticket["id"]] for ticket in tickets), key=lambda one: one.resolution)
    assert (erased.resolution, erased.why) == ("ambiguous", "masked")
    copy = server.loaded(tmp_path / "seed")
    rewind(copy, past)
    changed = {change["table"]: change for change in past.changes}
    for table in ("customers", "orders"):
        assert (changed[table]["key"]["id"],) in ask(copy, f"SELECT id::text FROM {table}")
    (name,) = ask(copy, f"SELECT name FROM customers WHERE id = {changed['customers']['key']['id']}")
    assert changed["customers"]["old"]["name"] == name[0] != changed["customers"]["new"]["name"]


def refused(life: Life, tmp_path: Path, **more: Any) -> str:
    one = ticket("t", 1, more.pop("opened", life.now()), life.now())
    with pytest.raises((SpecError, CaptureProblem)) as caught:
        captured(life.spec(tmp_path, [one], **more), tmp_path / "seed")
    assert not (tmp_path / "seed").exists()
    return f"{caught.value.code}: {caught.value}"


def test_mistakes_are_told(server: Server, life: Life, tmp_path: Path) -> None:
    assert refused(life, tmp_path, audit={"table": "audit.nowhere"}).startswith("history-missing")
    assert refused(life, tmp_path, opened="2026-03-01T10:00:00").startswith("history-zone")
    assert refused(life, tmp_path, opened="yesterday").startswith("capture-path")
    life.does("nora", *["UPDATE orders SET total = 1 WHERE id = 1"] * 5)
    past = "2001-01-01T00:00:00Z"
    assert refused(life, tmp_path, opened=past, history={"changes": 3}).startswith("history-size")
    life.does("nora", "ALTER TABLE orders ALTER COLUMN status DROP DEFAULT, ALTER COLUMN status TYPE int USING 1")
    assert "orders holds what its columns cannot hold" in refused(life, tmp_path, opened=past)
    name = "audit.record_version" if life.layout == "supa-audit" else "audit.logged_actions"
    user = f"reader_{life.layout.replace('-', '_')}"
    life.does("nobody", f"CREATE ROLE {user} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
    url = server.of(life.url.split("?")[0].rpartition("/")[2], user)
    denied = refused(life, tmp_path, source={"url": url}, leave_out=["audit.*"])
    assert denied.startswith("history-permission") and f"{user} may not read the audit table {name}" in denied


def test_a_history_needs_tickets(server: Server, tmp_path: Path) -> None:
    history = {"source": {"kind": "audit-table", "layout": "supa-audit"}, "opened": "opened"}
    with pytest.raises(SpecError, match="history: is of tickets, and none are named"):
        planned(project(tmp_path, server.url, history=history))


def test_a_moment_without_a_zone_is_read_in_the_one_that_is_said(life: Life, tmp_path: Path) -> None:
    life.does("nora", "UPDATE orders SET status = 'held' WHERE id = 1")
    (local,) = ask(life.url, "SELECT (clock_timestamp() AT TIME ZONE 'America/New_York')::text")[0]
    life.does("nora", "UPDATE orders SET status = 'cancelled' WHERE id = 1")
    (later,) = ask(life.url, "SELECT (clock_timestamp() AT TIME ZONE 'America/New_York')::text")[0]
    path = life.spec(tmp_path, [ticket("t", 1, local, later)], history={"timezone": "America/New_York"})
    resolution = pasts(planned(path))["t"].resolution
    assert resolution is not None and [change.old and change.old[3] for change in resolution.changes] == ["held"]
    elsewhere = life.spec(tmp_path, [ticket("t", 1, local, later)], history={"timezone": "UTC"})
    assert said(pasts(planned(elsewhere))["t"]) == ("unknown", "older")


def test_what_is_written_names_no_value_of_production(life: Life, tmp_path: Path) -> None:
    start = life.now()
    life.does("nora", "UPDATE orders SET status = 'cancelled' WHERE id = 1")
    end = life.now()
    captured(life.spec(tmp_path, [ticket("a", 1, start, end), ticket("b", 1, start, end)]), tmp_path / "seed")
    manifest = json.loads((tmp_path / "seed" / "seed.json").read_text())
    assert manifest["history"]["resolutions"] == {"ambiguous": 2}
    entries = [json.loads(line) for line in (tmp_path / "seed" / "history.jsonl").read_text().splitlines()]
    entries = [one for one in entries if "ticket" in one]
    assert [(one["why"], one["table"], "detail" in one) for one in entries] == [("overlap", "orders", False)] * 2

"""What rows were: random histories of a real database, rewound to each moment and gone through again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from audited import SHOP, TABLES, audited, wal2json
from capturing import Server, captured, dump_programs, project
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from podctl.capture.planning import Plan, opened
from podctl.data.captured import read_history
from podctl.data.connect import connect
from podctl.data.states import apply_state
from podctl.tickets.past import TicketPast, read_past

Snapshot = dict[str, list[tuple[Any, ...]]]

_SMALL = st.integers(1, 6)
_STEPS = st.one_of(
    st.tuples(st.just("INSERT INTO customers (name, tags) VALUES ('{}', '{{a,\"b c\"}}')"), _SMALL),
    st.tuples(
        st.just("INSERT INTO orders (customer_id, total, extra, paid) VALUES ({}, 10.50, '{{\"a\": [1, null]}}', {} > 3)"),
        _SMALL,
        _SMALL,
    ),
    st.tuples(st.just("INSERT INTO orders (customer_id, follows) VALUES ({}, {})"), _SMALL, _SMALL),
    st.tuples(st.just("INSERT INTO items VALUES ({}, {}, 'ab', '\\x00ff')"), _SMALL, _SMALL),
    st.tuples(
        st.just("UPDATE customers SET name = E'tab\\t{}\\\\', tags = NULL, version = version + 1 WHERE id = {}"), _SMALL, _SMALL
    ),
    st.tuples(st.just("UPDATE customers SET id = {} WHERE id = {}"), _SMALL, _SMALL),
    st.tuples(st.just("UPDATE orders SET status = 's{}', total = total + 1, paid = NOT paid WHERE id = {}"), _SMALL, _SMALL),
    st.tuples(st.just("UPDATE orders SET follows = {}, customer_id = {} WHERE id = {}"), _SMALL, _SMALL, _SMALL),
    st.tuples(st.just("UPDATE items SET sku = NULL, line = line + {} WHERE order_id = {}"), _SMALL, _SMALL),
    st.tuples(st.just("DELETE FROM orders WHERE id = {}"), _SMALL),
    st.tuples(st.just("DELETE FROM items WHERE order_id = {} AND line = {}"), _SMALL, _SMALL),
    st.tuples(st.just("DELETE FROM customers WHERE id = {}"), _SMALL),
)
_HISTORIES = st.lists(st.lists(_STEPS, min_size=1, max_size=4), min_size=2, max_size=12)


def rows(session: psycopg.Connection[Any]) -> Snapshot:
    return {table: session.execute(f"SELECT * FROM {table} t ORDER BY t::text".encode()).fetchall() for table in TABLES}


def live_through(url: str, history: list[list[tuple[Any, ...]]]) -> list[tuple[str, Snapshot]]:
    """Moments before, between and after the transactions, each with what there was."""
    moments = []
    with psycopg.connect(url, autocommit=True) as session:

        def look() -> None:
            moments.append((str(session.execute("SELECT clock_timestamp()").fetchone()[0].isoformat()), rows(session)))  # type: ignore[index]

        session.execute("INSERT INTO customers (name) VALUES ('first'), ('second')")
        session.execute("INSERT INTO orders (customer_id) VALUES (1), (2)")
        look()
        for steps in history:
            with session.transaction():
                for statement, *values in steps:
                    try:
                        with session.transaction():
                            session.execute(statement.format(*values).encode())
                    except psycopg.IntegrityError:
                        pass  # the database says no, as production's would
            look()
    return moments


def past_of(plan: Plan) -> dict[str, TicketPast]:
    """What a seed would know, unmasked."""
    assert plan.past is not None
    for table in plan.past.tables:
        plan.past.mask(table, bytes)
    return read_past(plan.past.lines({}))


def rewound(url: str, past: TicketPast) -> tuple[Snapshot, Snapshot]:
    """A database in the ticket's state, and after its resolution was gone through again."""

    async def rewind() -> None:
        session = await connect(url)
        try:
            await apply_state(session, past.state)
        finally:
            await session.close()

    asyncio.run(rewind())
    with psycopg.connect(url, autocommit=True) as session:
        before = rows(session)
        with session.transaction():
            session.execute("SET LOCAL session_replication_role = replica")
            # Keys that change hands are free before they are taken.
            for change in sorted(past.changes, key=lambda change: ["delete", "update", "insert"].index(change["op"])):
                go_through(session, change)
        for table, column, of in (
            ("orders", "customer_id", "customers"),
            ("orders", "follows", "orders"),
            ("items", "order_id", "orders"),
        ):
            orphans = f"SELECT count(*) FROM {table} c WHERE {column} IS NOT NULL AND NOT EXISTS (SELECT FROM {of} p WHERE p.id = c.{column})"
            assert session.execute(orphans.encode()).fetchone() == (0,)
        return before, rows(session)


def go_through(session: psycopg.Connection[Any], change: Any) -> None:
    table, where = sql.Identifier(change["table"]), sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in change["key"].items()
    )  # fmt: skip
    columns = sql.SQL(", ").join(map(sql.Identifier, change["new"]))
    values = sql.SQL(", ").join(map(sql.Literal, change["new"].values()))
    statements = {
        "insert": sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table, columns, values),
        "update": sql.SQL("UPDATE {} SET ({}) = ROW({}) WHERE {}").format(table, columns, values, where),
        "delete": sql.SQL("DELETE FROM {} WHERE {}").format(table, where),
    }
    assert session.execute(statements[change["op"]]).rowcount == 1


def history(source: str, url: str, directory: Path) -> dict[str, Any]:
    """What a capture file says of the ways in which a past is kept; a change log is written."""
    found = {"kind": "audit-table", "layout": source}
    if source.startswith("wal2json"):
        wal2json(url, directory / "changes.jsonl", int(source[-1]))
        found = {"kind": "change-log", "file": "changes.jsonl", "format": "wal2json"}
    return {
        "source": found,
        "opened": "opened",
        "resolution": {"resolved": "resolved", "rows": "any", "unchanged": "reference"},
    }


@pytest.fixture(scope="module")
def template(cluster: Server) -> Iterator[dict[str, str]]:
    made = {layout: cluster.database(SHOP + audited(layout)) for layout in ("supa-audit", "audit-trigger")}
    yield made
    cluster.drop(*made.values())


@pytest.mark.parametrize(
    "kept_in",
    ["wal2json 2", *(pytest.param(kept, marks=pytest.mark.campaign) for kept in ("supa-audit", "audit-trigger", "wal2json 1"))],
)
@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(lived=_HISTORIES, data=st.data())
def test_every_moment_is_found_again_and_what_followed(
    server: Server, template: dict[str, str], tmp_path: Path, kept_in: str, lived: list[list[tuple[Any, ...]]], data: st.DataObject
) -> None:  # fmt: skip
    url = server.copy(template.get(kept_in, template["audit-trigger"]))
    moments = live_through(url, lived)
    opened_at = data.draw(st.integers(0, len(moments) - 1))
    resolved_at = data.draw(st.integers(opened_at, len(moments) - 1))
    ticket = {"id": "t", "opened": moments[opened_at][0], "resolved": moments[resolved_at][0]}
    path = project(tmp_path, url, [ticket], whole=["customers", "orders", "items"], history=history(kept_in, url, tmp_path))
    with opened([path], dump_programs()) as (source,):
        past = past_of(source.plan())["t"]
    assert past.problem == "" and past.resolution == "found"
    copy = server.copy(url)
    before, after = rewound(copy, past)
    server.drop(copy, url)
    assert before == moments[opened_at][1]
    assert after == moments[resolved_at][1]


@pytest.mark.campaign
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(lived=_HISTORIES, data=st.data())
def test_of_a_subset_too_every_row_is_what_it_was(
    server: Server, template: dict[str, str], tmp_path: Path, lived: list[list[tuple[Any, ...]]], data: st.DataObject
) -> None:
    url = server.copy(template["supa-audit"])
    moments = live_through(url, lived)
    numbers = [data.draw(st.integers(0, len(moments) - 1)) for _ in range(3)]
    orders = [data.draw(st.integers(1, 4)) for _ in numbers]
    tickets = [
        {"id": f"t{n}", "order": order, "opened": moments[at][0], "resolved": moments[-1][0]}
        for n, (at, order) in enumerate(zip(numbers, orders, strict=True))
    ]
    path = project(
        tmp_path,
        url,
        tickets,
        rows=[{"path": "order", "table": "orders", "column": "id"}],
        children=[{"table": "items", "of": "orders"}],
        whole=["customers"],
        history=history("supa-audit", url, tmp_path),
    )
    captured(path, tmp_path / "seed", replace=True)
    known = read_history(tmp_path / "seed")
    assert known is not None
    for n, (at, order) in enumerate(zip(numbers, orders, strict=True)):
        copy = server.loaded(tmp_path / "seed")
        assert known[f"t{n}"].problem == ""
        found, _ = rewound(copy, TicketPast(known[f"t{n}"].state))
        then = moments[at][1]
        for table in TABLES:
            was = {row[:2] if table == "items" else row[0]: row for row in then[table]}
            for row in found[table]:
                before = was[row[:2] if table == "items" else row[0]]
                # A reference that may be empty is so where its row was not taken.
                assert row == before or (table == "orders" and row == (*before[:2], None, *before[3:]))
        assert [row[0] for row in found["orders"] if row[0] == order] == [row[0] for row in then["orders"] if row[0] == order]
        assert [row for row in found["items"] if row[0] == order] == [row for row in then["items"] if row[0] == order]
        server.drop(copy)
    server.drop(url)

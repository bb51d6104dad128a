"""Any schema, any rows, any tickets: the copy has exactly the rows that the rules name, and every reference in it holds."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from capturing import Server, ask, captured, project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: A row's key, and a second one that is unique too and may be referred to instead.
Row = dict[str, int | None]


@dataclass
class Reference:
    """``child.column`` -> ``parent``; by ``(k, column)``, which two references may share, when it is composite."""

    child: int
    parent: int
    column: str
    needed: bool
    composite: bool
    by_other_key: bool
    cap: int | None = None  # declared under children with this cap
    follow: str | None = None


@dataclass
class World:
    tables: int
    references: list[Reference]
    rows: dict[int, list[Row]] = field(default_factory=dict)
    named: dict[int, set[int]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    depth: int = 1

    def script(self) -> str:
        lines = []
        for table in range(self.tables):
            own = [one for one in self.references if one.child == table]
            columns = [f", {one.column} int{' NOT NULL' if one.needed else ''}" for one in own]
            lines.append(
                f"CREATE TABLE t{table} (id int PRIMARY KEY, k int NOT NULL, o int UNIQUE, UNIQUE (k, id){''.join(columns)});"
            )
        for table, rows in self.rows.items():
            for row in rows:
                values = ", ".join("NULL" if value is None else str(value) for value in row.values())
                lines.append(f"INSERT INTO t{table} ({', '.join(row)}) VALUES ({values});")
        for one in self.references:
            columns, to = (f"k, {one.column}", "k, id") if one.composite else (one.column, "o" if one.by_other_key else "id")
            lines.append(f"ALTER TABLE t{one.child} ADD FOREIGN KEY ({columns}) REFERENCES t{one.parent} ({to});")
        return "\n".join(lines)

    def parent_of(self, row: Row, one: Reference) -> int | None:
        value = row[one.column]
        if value is None or not one.by_other_key:
            return value
        return next(parent["id"] for parent in self.rows[one.parent] if parent["o"] == value)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 4))
    references = []
    for number in range(draw(st.integers(1, 7))):
        composite = draw(st.booleans())
        needed = draw(st.booleans())
        references.append(
            Reference(
                draw(st.integers(0, count - 1)),
                draw(st.integers(0, count - 1)),
                f"r{number}",
                needed,
                composite,
                not composite and draw(st.booleans()),
                draw(st.none() | st.integers(1, 3)),
                None if needed else draw(st.sampled_from([None, None, "always", "never"])),
            )
        )
    world = World(count, references, depth=draw(st.integers(0, 2)))
    size = draw(st.integers(1, 6))
    for table in range(count):
        rows = []
        for number in range(size):
            row: Row = {"id": number, "k": 0, "o": 100 + number}
            for one in references:
                if one.child == table:
                    target = draw(st.integers(0, size - 1)) if one.needed else draw(st.none() | st.integers(0, size - 1))
                    row[one.column] = target if target is None or not one.by_other_key else 100 + target
            rows.append(row)
        world.rows[table] = rows
        world.named[table] = draw(st.sets(st.integers(0, size - 1), max_size=2))
    if not any(world.named.values()):
        world.named[0] = {0}
    world.whole = draw(st.sets(st.integers(0, count - 1), max_size=1))
    return world


def expected(world: World, capped: dict[tuple[int, int, int], set[int]]) -> dict[int, set[int]]:
    """The least rows closed under the rules, by trying again until nothing is new; ``capped``: who got which children."""
    far = 99
    near: dict[int, dict[int, int]] = {table: defaultdict(lambda: far) for table in range(world.tables)}
    for table in range(world.tables):
        for row in world.named[table] | ({one["id"] for one in world.rows[table]} if table in world.whole else set()):  # type: ignore[operator]
            near[table][row] = 0
    changed = True
    while changed:
        changed = False
        for number, one in enumerate(world.references):
            for row in world.rows[one.child]:
                hops, parent = near[one.child][int(row["id"] or 0)], world.parent_of(row, one)
                if hops == far or parent is None or one.follow == "never":
                    continue
                then = hops if one.needed else hops + 1
                if (one.needed or one.follow == "always" or then <= world.depth) and then < near[one.parent][parent]:
                    near[one.parent][parent], changed = then, True
            for parent, hops in list(near[one.parent].items()):
                if one.cap is None or hops == far or one.parent in world.whole or one.child in world.whole:
                    continue
                for child in capped.get((number, one.parent, parent), set()):
                    if hops < near[one.child][child]:
                        near[one.child][child], changed = hops, True
    return {table: {row for row, hops in found.items() if hops != far} for table, found in near.items()}


def check(server: Server, world: World) -> None:
    url = server.database(world.script())
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        rows = [{"path": f"t{table}", "table": f"t{table}", "column": "id"} for table, ids in world.named.items() if ids]
        ticket = {"id": "1", **{f"t{table}": sorted(ids) for table, ids in world.named.items() if ids}}
        follow = {f"t{one.child}.{one.column}": one.follow for one in world.references if one.follow}
        children = [
            {"table": f"t{one.child}", "of": f"t{one.parent}", "columns": ["k", one.column] if one.composite else [one.column], "cap": one.cap}
            for one in world.references
            if one.cap
        ]  # fmt: skip
        path = project(
            place,
            url,
            [ticket],
            rows=rows,
            parents={"depth": world.depth, "follow": follow},
            children=children,
            whole=[f"t{table}" for table in world.whole],
        )
        captured(path, place / "seed")
        copy = server.loaded(place / "seed")  # adding the references proves that each holds
    taken = {table: {row[0]: row for row in ask(copy, f"SELECT * FROM t{table}")} for table in range(world.tables)}
    capped = {}
    for number, one in enumerate(world.references):
        for parent in taken[one.parent] if one.cap else ():
            of = {int(row["id"] or 0) for row in world.rows[one.child] if world.parent_of(row, one) == parent}
            there = of & taken[one.child].keys()
            if one.parent not in world.whole and one.child not in world.whole:
                assert len(there) >= min(one.cap or 0, len(of))
            capped[number, one.parent, parent] = there if len(of) <= (one.cap or 0) else set()
    least = expected(world, capped)
    most = expected(world, {key: set(taken[world.references[key[0]].child]) & {
        int(row["id"] or 0) for row in world.rows[world.references[key[0]].child]
        if world.parent_of(row, world.references[key[0]]) == key[2]
    } for key in capped})  # fmt: skip
    for table in range(world.tables):
        assert least[table] <= taken[table].keys() <= most[table], (table, least, {t: set(r) for t, r in taken.items()}, most)
        for row in world.rows[table]:
            kept = taken[table].get(int(row["id"] or 0))
            if kept is not None:
                for name, was, now in zip(row, row.values(), kept, strict=True):
                    lost = [one for one in world.references if one.child == table and one.column == name]
                    if now != was:
                        assert now is None and lost and world.parent_of(row, lost[0]) not in taken[lost[0].parent]
    server.drop(url, copy)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(world=worlds())
def test_a_capture_has_the_rows_that_its_rules_name_and_every_reference_in_it_holds(server: Server, world: World) -> None:
    check(server, world)


@pytest.mark.campaign
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds())
def test_a_long_run_of_the_same(server: Server, world: World) -> None:
    check(server, world)

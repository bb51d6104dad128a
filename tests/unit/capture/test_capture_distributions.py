"""How near the rows taken are to all of their table: distances that are right, and nothing of any value."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from capturing import Server, captured, project

from podctl.capture.distributions import CATEGORIES, likeness, looks
from podctl.capture.schema import Column, Edge, Table
from podctl.data.captured import CapturedLikeness, CapturedSeed
from podctl.masking.keys import KeyFile

ORDERS = """
CREATE TABLE regions (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, region int REFERENCES regions, tier text NOT NULL, price numeric(9,2), at timestamptz, mail text,
    note text, doc jsonb, gone text);
INSERT INTO regions SELECT generate_series(1, 5);
INSERT INTO orders SELECT g, 1 + g % 5, CASE WHEN g % 4 = 0 THEN 'gold' ELSE 'plain' END, g, now() - g * interval '1 hour',
    CASE WHEN g % 2 = 0 THEN 'zoe' || g || '@corp.example' END, repeat(md5(g::text), 9), '{}', 'x'
FROM generate_series(1, 2000) g;
"""


def sampled(look: str, there: list[str | None], here: list[str | None]) -> CapturedLikeness:
    return likeness({"c": look}, [(value,) for value in there], [(value,) for value in here])  # type: ignore[dict-item]


def test_numbers_are_as_far_apart_as_their_distribution_functions() -> None:
    hundred = [str(n) for n in range(100)]
    for look in ("numbers", "moments"):
        assert sampled(look, hundred, [str(n) for n in range(50, 100)]).columns["c"].apart == 0.5
        assert sampled(look, hundred, [str(n) for n in range(200, 300)]).columns["c"].apart == 1.0
        assert sampled(look, hundred, hundred).columns["c"].apart == 0.0
    odd = sampled("numbers", [*hundred, "NaN", "Infinity"], ["NaN", "5"]).columns["c"]
    assert odd.apart == pytest.approx(0.9406, abs=1e-3) and odd.by == "order"


def test_categories_are_apart_by_what_would_have_to_change() -> None:
    found = sampled("words", ["a"] * 75 + ["b"] * 25, ["b"] * 5 + ["c"] * 5).columns["c"]
    assert (found.apart, found.by, found.nulls_there) == (0.75, "shares", 0.0)
    many = [str(n) for n in range(CATEGORIES + 1)]
    assert sampled("words", many, many).columns == {}
    nulls = sampled("nulls", [None, "", "", ""], [None, ""]).columns["c"]
    assert (nulls.nulls_there, nulls.nulls_here, nulls.apart) == (0.25, 0.5, None)


def test_chance_puts_as_few_rows_apart_as_the_page_says() -> None:
    rnd = random.Random(7)
    there = [str(rnd.random()) for _ in range(2000)]
    found = [sampled("numbers", there, rnd.sample(there, 30)).columns["c"].apart or 0.0 for _ in range(200)]
    assert 0.13 < sum(found) / len(found) < 0.17


def test_keys_references_and_masked_columns_are_not_looked_at() -> None:
    columns = [Column(name, "integer") for name in ("id", "region", "price", "salary", "gone")]
    edges = [Edge("orders", ("region",), "regions", ("id",))]
    table = Table(
        "public", "orders", "orders", (*columns, Column("tags", "text[]"), Column("at", "date", nullable=False)), ("id",)
    )
    known = {"id": True, "region": True, "price": True, "salary": False, "tags": True, "at": True}
    assert looks(table, edges, known) == {
        "id": "nulls", "region": "nulls", "price": "numbers", "salary": "nulls", "tags": "nulls", "at": "moments"
    }  # fmt: skip


def taken(seed: CapturedSeed) -> CapturedLikeness:
    (table,) = (table for table in seed.tables if table.name == "orders")
    assert table.likeness is not None
    return table.likeness


def test_a_seed_says_how_like_its_table_it_is_and_no_value(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.database(ORDERS + "ANALYZE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    KeyFile.of("p", None).make()
    ids = {"mask": "id"}
    rules = {"id": ids, "region": ids, "tier": "keep", "price": "keep", "at": "keep", "mail": "email", "note": "keep",
             "doc": "keep", "gone": "erase"}  # fmt: skip
    policy = {"apiVersion": "podctl/v1", "kind": "Masking", "name": "p", "databases": {"shop": {"orders": rules, "regions": {"id": ids}}}}  # fmt: skip
    (tmp_path / "masking.yaml").write_text(yaml.safe_dump(policy))
    rows = [{"path": "order", "table": "orders", "column": "id"}]
    found = {}
    for name, numbers in (("even", range(1, 2001, 17)), ("first", range(1, 101)), ("gold", range(4, 404, 4))):
        entries = [{"id": str(n), "order": n} for n in numbers]
        path = project(tmp_path, url, entries, rows=rows, masking="masking.yaml")
        spec = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**spec, "tickets": {**spec["tickets"], "unmasked": "numbers alone"}}))
        found[name] = taken(captured(path, tmp_path / name))
    assert {(one.there, one.here) for one in found.values()} == {(2000, 118), (2000, 100)}
    assert found["even"].columns.keys() == {"tier", "price", "at", "mail", "doc"}
    apart = {name: {column: one.apart for column, one in like.columns.items()} for name, like in found.items()}
    assert max(apart["even"][name] or 0 for name in ("tier", "price", "at")) < 0.05
    assert apart["first"]["price"] == apart["first"]["at"] == 0.95 and apart["first"]["tier"] == 0.0
    assert apart["gold"]["tier"] == 0.75 and (found["gold"].columns["mail"].nulls_there, found["gold"].columns["mail"].nulls_here) == (0.5, 0.0)  # fmt: skip
    assert all(one.columns["mail"].apart is None for one in found.values())
    written = (tmp_path / "gold" / "seed.json").read_text()
    assert "corp.example" not in written and '"gold"' not in written.replace(str(tmp_path), "")

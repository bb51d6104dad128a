"""What is known of how like production a pod is: each rule of its score, and what two runs are told to differ in."""

from __future__ import annotations

from typing import Any

import pytest

from podctl.data.captured import CapturedSeed
from podctl.evidence.results import FidelityPart
from podctl.pods.fidelity import TOLD, fidelity
from podctl.spec.models import Topology
from podctl.stats.fidelity import differences, score

SHA = "0" * 64


def seed(tables: list[dict[str, Any]], version: str = "18.3", engine: str = "postgresql") -> CapturedSeed:
    whole = {"schema": "public", "columns": ("id",), "there_is": "counted"}
    return CapturedSeed.model_validate(
        {
            "format": 1,
            "podctl": "0",
            "name": "orders",
            "engine": engine,
            "engine_version": version,
            "encoding": "UTF8",
            "taken_at": "2026-03-01T00:00:00Z",
            "before": SHA,
            "after": SHA,
            "tables": [{**whole, **table} for table in tables],
            "digest": SHA,
        }
    )


def topology(**services: dict[str, Any]) -> Topology:
    databases = {"orders": {"name": "orders"}, "old": {"name": "old", "mode": "left-out", "reason": "nobody asks it"}}
    return Topology.model_validate(
        {"apiVersion": "podctl/v1", "kind": "Topology", "name": "t", "databases": databases, "services": services}
    )


def parts(*arguments: Any) -> dict[str, FidelityPart]:
    return {part.name: part for part in fidelity(*arguments)}


def test_services_count_by_what_stands_in_for_them() -> None:
    found = parts(
        topology(
            api={"command": ["x"]},
            mail={"mode": "stubbed", "routes": [{"path": "/"}]},
            pay={"mode": "left-out", "reason": "not ours"},
        ),
        {},
        {},
        None,
    )
    assert found["services"].score == pytest.approx(0.5)
    assert list(found["services"].facts.items()) == [
        ("pay", "left out: not ours"),
        ("mail", "stubbed with 1 recorded answer"),
        ("api", "mirrored"),
    ]


def test_of_what_somebody_filled_by_hand_nobody_can_tell() -> None:
    found = parts(topology(), {}, {}, None)
    assert found["databases"].facts["orders"] == "filled from files that somebody made"
    assert found["databases"].score == 0.0, "of the one that is left out something is known"
    assert set(found) == {"databases"}


@pytest.mark.parametrize(
    ("engine", "there", "here", "expected"),
    [
        ("postgresql", "18.3", "18.1", 1.0),
        ("postgresql", "15.4 (Debian 15.4-1)", "18.1", 0.5),
        ("sqlite", "3.40", "18.1", 0.0),
        ("postgresql", "18.3", "", None),
    ],
)
def test_a_server_is_alike_by_engine_and_major_version(engine: str, there: str, here: str, expected: float | None) -> None:
    servers = {"orders": here} if here else {}
    part = parts(topology(), {"orders": seed([], there, engine)}, servers, None)["versions"]
    assert part.score == expected
    assert there in part.facts["orders"] and (here or "not known here") in part.facts["orders"]


def test_a_table_is_there_when_it_has_rows_and_references_by_those_that_kept_them() -> None:
    tables = [
        {"name": "orders", "rows": 100, "there": 10_000, "nulled": {"coupon": 25, "agent": 0}},
        {"name": "lines", "rows": 0, "there": 9},
        {"name": "unused", "rows": 0, "there": 0},
        {"name": "guessed", "rows": 1, "there": 7, "there_is": "estimated"},
    ]
    found = parts(topology(), {"orders": seed(tables)}, {}, None)
    assert found["tables"].score == pytest.approx(2 / 3)
    assert found["tables"].facts == {
        "orders.lines": "0 of 9 rows",
        "orders.orders": "100 of 10,000 rows",
        "orders.guessed": "1 of about 7 rows",
    }
    assert found["references"].facts == {"orders.orders.coupon": "25 of 100 rows lost it"}
    assert found["references"].score == pytest.approx(0.75)
    assert found["clock"].score is None and "2026-03-01" in found["clock"].facts["orders"]


def test_distributions_count_what_is_further_apart_and_few_rows_are_not_judged() -> None:
    column = {"nulls_there": 0.0, "nulls_here": 0.0}
    columns = {
        "price": {**column, "apart": 0.3, "by": "order"},
        "tier": {"nulls_there": 0.1, "nulls_here": 0.6, "apart": 0.2, "by": "shares"},
        "mail": {"nulls_there": 0.25, "nulls_here": 0.25},
    }
    tables = [
        {"name": "orders", "likeness": {"there": 2000, "here": 30, "columns": columns}},
        {"name": "few", "likeness": {"there": 2000, "here": 29, "columns": {"price": columns["price"]}}},
        {"name": "whole"},
    ]
    part = parts(topology(), {"orders": seed(tables)}, {}, None)["distributions"]
    assert part.score == pytest.approx((0.7 + 0.5 + 1.0) / 3)
    assert part.facts == {
        "orders.orders.tier": "values 20 % apart, null 10 % there, 60 % here, by samples of 30 and 2,000 rows",
        "orders.orders.price": "values 30 % apart, by samples of 30 and 2,000 rows",
        "orders.orders.mail": "null 25 % there, 25 % here, by samples of 30 and 2,000 rows",
        "orders.few.price": "values 30 % apart, by samples of 29 and 2,000 rows",
    }


def test_configuration_counts_the_lines_of_the_import() -> None:
    def item(status: str, key: str) -> dict[str, str]:
        return {"status": status, "subject": "api", "key": key, "why": "" if status != "left out" else "no such thing here"}

    items = [item("imported", "image"), item("changed", "replicas"), item("left out", "logging"), item("imported", "ports")]
    part = parts(topology(), {}, {}, items)["configuration"]
    assert part.score == pytest.approx(2.5 / 4)
    assert part.facts == {
        "lines imported": "2",
        "lines changed": "1",
        "lines left out": "1",
        "api logging": "left out: no such thing here",
    }


def test_many_tables_are_told_worst_first_and_the_others_counted() -> None:
    tables = [{"name": f"t{at}", "rows": int(at != 70), "there": 5} for at in range(TOLD + 50)]
    facts = parts(topology(), {"orders": seed(tables)}, {}, None)["tables"].facts
    assert next(iter(facts)) == "orders.t70"
    assert len(facts) == TOLD + 1 and list(facts)[-1] == "and 50 more"


def test_the_whole_is_the_mean_of_what_is_known() -> None:
    assert score([FidelityPart("a", 1.0, {}), FidelityPart("b", 0.5, {}), FidelityPart("c", None, {})]) == pytest.approx(0.75)
    assert score([FidelityPart("c", None, {})]) is None


def test_two_runs_are_told_apart_part_by_part() -> None:
    before = [
        FidelityPart("services", 1.0, {"api": "mirrored", "mail": "mirrored"}),
        FidelityPart("clock", None, {"o": "then"}),
    ]
    after = [FidelityPart("services", 0.5, {"api": "mirrored", "mail": "stubbed"}), FidelityPart("clock", None, {"o": "then"})]
    assert list(differences(before, before)) == []
    assert list(differences(before, after)) == [
        "the test pods differ in services: mail: mirrored in the baseline, stubbed in this run"
    ]
    many = [FidelityPart("tables", 1.0, {f"t{at}": "1 of 2 rows" for at in range(9)})]
    (told,) = differences([FidelityPart("tables", 1.0, {})], many)
    assert told.count("not there in the baseline") == 3 and told.endswith("and 6 more")
    assert list(differences([], many)) == ["nothing is known of how like production the test pods of the baseline were"]

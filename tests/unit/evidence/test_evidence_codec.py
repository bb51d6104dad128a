"""Results survive JSON exactly, whatever an agent put into a row."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.codec import from_json, to_json
from podctl.evidence.owner import Owner
from podctl.evidence.results import AttemptResult, DiffEntry, RunInfo, RunResult, Variant

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.decimals(allow_nan=False)
    | st.binary(max_size=8)
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC)).map(lambda value: value.replace(fold=0))
    | st.dates()
    | st.times().map(lambda value: value.replace(fold=0))
    | st.uuids()
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$", "v", "a", "\x00"]) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
diffs = st.builds(
    DiffEntry, key=st.dictionaries(st.text(max_size=4), anything, max_size=2), old=anything, new=anything, expected=anything
)
st.register_type_strategy(DiffEntry, diffs)
st.register_type_strategy(
    Variant,
    st.builds(Variant, data=st.dictionaries(st.text(max_size=4), anything, max_size=3)),
)
infos = st.builds(RunInfo, settings=st.dictionaries(st.text(max_size=4), anything, max_size=3))


@settings(max_examples=150, deadline=None)
@given(diffs)
def test_any_row_value_comes_back(entry: DiffEntry) -> None:
    assert from_json(DiffEntry, json.loads(json.dumps(to_json(entry)))) == entry


@settings(max_examples=40, deadline=None)
@given(st.builds(RunResult, info=infos, attempts=st.lists(st.from_type(AttemptResult), max_size=2).map(tuple)))
def test_a_whole_run_result_comes_back(result: RunResult) -> None:
    back = from_json(RunResult, json.loads(json.dumps(to_json(result))))
    # Equality would not see 1.50 become 1.5, nor True become 1, and NaN is equal to nothing.
    assert repr(back) == repr(result)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("1.50"), {"$": "decimal", "v": "1.50"}),
        (b"\x00\xff", {"$": "bytes", "v": "00ff"}),
        (datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), {"$": "datetime", "v": "2025-01-02T03:04:05+00:00"}),
        (datetime.date(2025, 1, 2), {"$": "date", "v": "2025-01-02"}),
        (uuid.UUID(int=1), {"$": "uuid", "v": "00000000-0000-0000-0000-000000000001"}),
        ({"$": "decimal", "v": "no number"}, {"$": "object", "v": {"$": "decimal", "v": "no number"}}),
    ],
)
def test_what_json_has_no_word_for_is_tagged(value: Any, written: Any) -> None:
    assert to_json(DiffEntry("intended", "db", "t", "insert", {}, new=value))["new"] == written


def test_a_value_nested_beyond_reason_is_named_instead() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    text = json.dumps(to_json(DiffEntry("intended", "db", "t", "insert", {}, new=deep)))
    assert "nested too deeply" in text


def test_older_and_newer_shapes_are_read() -> None:
    value = to_json(Owner(1, "2", "b", "h"))
    assert from_json(Owner, {**value, "unheard_of": 1}) == Owner(1, "2", "b", "h")
    entry = to_json(DiffEntry("missing", "db", "t", "delete", {"id": 1}))
    del entry["actor"], entry["column"]
    assert from_json(DiffEntry, entry) == DiffEntry("missing", "db", "t", "delete", {"id": 1})
    with pytest.raises(TypeError):
        from_json(Owner, {"pid": 1})

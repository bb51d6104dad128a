from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.grading.values import same, shown

DEEP: list[Any] = []
for _ in range(50_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("expected", "actual", "kind"),
    [
        (None, None, None), (True, True, None), ("true", True, None), ("f", False, "bool"),
        (1.5, "1.50", None), ("1.5", "1.50", "number"), (10, "10", None), ("10", 10, None), (Decimal("1.10"), 1.1, None),
        (10, "10", "text"), (0.1, "0.1", "number"), ("NaN", "NaN", "number"), (2**70, str(2**70), None), ("1e2", 100, None),
        ("2025-01-01T00:00:00Z", "2025-01-01 00:00:00+00", "timestamptz"), ("2025-01-01T02:00:00+02:00", "2025-01-01 00:00:00+00", "timestamptz"),
        (datetime(2025, 1, 1, tzinfo=UTC), "2025-01-01 00:00:00+00", None), (date(2025, 1, 1), "2025-01-01", "date"),
        ("2025-01-01", "2025-01-01 00:00:00", "timestamp"), ("infinity", "infinity", "timestamp"),
        ({"a": 1.0, "b": [1, None]}, {"b": [1, None], "a": 1}, "json"), ('{"a": 1}', {"a": 1}, "json"), ([1], [1.0], None),
        ("x", "x", None), ("x", "x", "json"), (DEEP, DEEP, "json"),
        (["x", "b c", None, 'q"\\', ""], r'{x,"b c",NULL,"q\"\\",""}', "text"), ([1, 2.5], "{1,2.50}", "text"), ([], "{}", "text"),
        ([[1, 2], [3, 4]], "[0:1][1:2]={{1,2},{3,4}}", "text"), ([True, False], "{t,f}", "text"), (["NULL"], '{"NULL"}', "text"),
    ],
)  # fmt: skip
def test_the_same_value_in_another_spelling(expected: Any, actual: Any, kind: str | None) -> None:
    assert same(expected, actual, kind)


@pytest.mark.parametrize(
    ("expected", "actual", "kind"),
    [
        (None, "", None), ("", None, None), (None, False, None), (0, None, "integer"), (1, True, None), (False, 0, None), ("yes", True, None),
        (1.5, "1.51", None), ("7", "007", None), ("7", "007", "text"), ("1.5", "1.50", "text"), ("1.5", "1.50", None),
        ("x", 1, None), (1, "x", "number"), ("1_0", 10, None), ("٣", 3, None), (9007199254740993, 9007199254740992, None),
        ("2025-01-01T00:00:01Z", "2025-01-01 00:00:00+00", "timestamptz"), ("a", "b", "timestamp"),
        ({"a": True}, {"a": 1}, "json"), ({"a": "1"}, {"a": 1}, "json"), ([1, 2], [2, 1], "json"), ({"a": 1}, {"a": 1, "b": None}, "json"),
        (["a"], "{a,b}", "text"), (["NULL"], "{NULL}", "text"), ([None], '{"NULL"}', "text"), (["a"], "{a", "text"), (["a"], "a}", "text"),
        (["a"], "{a}}", "text"), ([["a"]], "{a}", "text"), (["a"], "{{a}}", "text"), ([], "", "text"), (DEEP, "{{}}", "text"),
        ([], {}, "json"), ([None], [0], "json"), ("x ", "x", None), ("X", "x", "text"), (1e999, "1e9999999999999", None),
    ],
)  # fmt: skip
def test_different_values(expected: Any, actual: Any, kind: str | None) -> None:
    assert not same(expected, actual, kind)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANY = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


@given(ANY, ANY, st.sampled_from([None, "integer", "number", "bool", "json", "timestamp", "date", "text"]))
def test_comparing_anything_is_symmetric_and_never_fails(one: Any, other: Any, kind: str | None) -> None:
    assert same(one, other, kind) == same(other, one, kind)


@given(st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_a_number_is_what_its_text_spells(value: Any) -> None:
    assert same(value, str(value))
    assert same(str(value), value, "number")


@given(ANY)
def test_a_shown_value_is_one_short_printable_line(value: Any) -> None:
    assert shown(value).isprintable()
    assert len(shown(value)) <= 200


def test_escapes_cannot_reach_the_terminal() -> None:
    assert shown("a\x1b[2Jb\n\u202e\x9b") == '"a\\u001b[2Jb\\n\\u202e\\u009b"'
    assert shown(DEEP)

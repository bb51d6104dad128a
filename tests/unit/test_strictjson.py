"""JSON is read strictly: as `json.loads` reads it where every reader would, and else refused with a reason."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.strictjson import NotJson, read_json

DEEPEST, DIGITS = 4, 40

WHOLE = ["0", "-0", "7", "-12", "9" * 40, "-" + "9" * 40, "9" * 41, "-" + "9" * 41, "1" * 5000]
FRACTIONS = [
    "0.0",
    "-0.0e9",
    "1.5",
    "1E400",
    "-1e400",
    "1e-400",
    "0e-400",
    "0.000e-999",
    "5e-324",
    "2e-324",
    "2e308",
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "1.",
    ".5",
    "+1",
]
TEXTS = [
    r'"a"',
    r'"\u0061"',
    '"é"',
    r'"\ud83d\ude00"',
    r'"\ud83d"',
    r'"\ude00\ud83d"',
    '"\ud83d"',
    '"\x00"',
    '"\\"',
    "'a'",
    '""',
]

scalars = st.sampled_from([*WHOLE, *FRACTIONS, *TEXTS, "null", "true", "nil"]) | st.text(max_size=3).map(json.dumps)
keys = st.sampled_from(TEXTS) | st.text(max_size=2).map(json.dumps)


def within(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(keys, inner).map(":".join), max_size=3)
    return st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]") | pairs.map(
        lambda each: f"{{{','.join(each)}}}"
    )


class Pairs(list[tuple[str, Any]]):
    """An object as it is written."""


class Whole(str):
    """A whole number as it is written."""


def doubtful(value: Any, outside: int = 0) -> bool:
    """Whether another reader could take it otherwise; ``outside``: objects and lists around it."""
    if isinstance(value, Pairs):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or doubtful([*names, *(one for _, one in value)], outside)
    if isinstance(value, list):
        return outside == DEEPEST or any(doubtful(one, outside + 1) for one in value)
    if isinstance(value, Whole):
        return len(value.removeprefix("-")) > DIGITS
    if isinstance(value, Decimal):
        return not math.isfinite(float(value)) or (value != 0 and float(value) == 0)
    return isinstance(value, str) and value.encode("utf-16", "surrogatepass").decode("utf-16", "ignore") != value


@settings(max_examples=400, deadline=None)
@given(st.recursive(scalars, within, max_leaves=8), st.none() | st.tuples(st.integers(0, 60), st.sampled_from(' ,"\\[0\ufeff')))
def test_it_reads_what_json_reads_and_refuses_what_is_doubtful(text: str, put: tuple[int, str] | None) -> None:
    if put is not None:
        text = text[: put[0]] + put[1] + text[put[0] :]
    try:
        written = json.loads(text, object_pairs_hook=Pairs, parse_int=Whole, parse_float=Decimal, parse_constant=Decimal)
    except ValueError:
        written = None
    if (written is None and text.strip() != "null") or doubtful(written):
        with pytest.raises(NotJson) as refused:
            read_json(text, deepest=DEEPEST, digits=DIGITS)
        assert str(refused.value).isprintable()
    else:
        assert repr(read_json(text, deepest=DEEPEST, digits=DIGITS)) == repr(json.loads(text))


@settings(max_examples=100)
@given(st.binary(max_size=40))
def test_no_bytes_break_it(data: bytes) -> None:
    try:
        assert repr(read_json(data)) == repr(json.loads(data.decode("utf-8")))
    except NotJson:
        pass


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ('{"a": 1, "\\u0061": 2}', "has the key 'a' twice"),
        ('{"\\u001b[2J": 1, "\\u001b[2J": 2}', r"has the key '\x1b[2J' twice"),
        ("[NaN]", "holds NaN, which JSON does not have"),
        ("-Infinity", "holds -Infinity, which JSON does not have"),
        ("[1e999]", "holds a number out of range"),
        ("[1e-999]", "holds a number out of range"),
        ("1" * 1_000_000, "holds a number of more than 40 digits"),
        ('"\\ud800"', "holds half of a surrogate pair"),
        ('{"\\udfff": 1}', "holds half of a surrogate pair"),
        ("[" * 65 + "]" * 65, "is nested deeper than 64 levels"),
        ("[" * 200_000, "is nested deeper than 64 levels"),
        ('{"a":' * 100_000, "is nested deeper than 64 levels"),
        ("", "is not JSON: Expecting value at line 1 column 1"),
        ("{} {}", "is not JSON: Extra data at line 1 column 4"),
        (b'"\xff"', "is not UTF-8 at byte 1"),
        (b" " * 1_001, "is larger than 1,000 bytes"),
    ],
)
def test_what_is_refused_is_told_why(data: str | bytes, why: str) -> None:
    with pytest.raises(NotJson) as refused:
        read_json(data, most=1_000 if isinstance(data, bytes) else None)
    assert str(refused.value) == why


def test_what_is_within_every_bound_is_read() -> None:
    deep = "[" * 64 + "1" * 40 + "]" * 64
    assert read_json(deep, most=len(deep)) == json.loads(deep)

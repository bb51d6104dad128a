from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.grading.problems import ResultProblem
from podctl.grading.result import MAX_BYTES, MAX_DEPTH, parse_result


def nested(levels: int) -> bytes:
    # the object, its output and then lists: levels in all
    return b'{"status": "done", "output": {"a": ' + b"[" * (levels - 2) + b"]" * (levels - 2) + b"}}"


@pytest.mark.parametrize(
    "data",
    [
        b'{"status": "done"}',
        b' {"status": "refused", "summary": "\xc3\xa9", "output": {"n": 1.5, "deep": [[{}]]}, "confidence": 1, "more": null}\n',
        b'{"status": "failed", "confidence": null}',
        b'{"status": "done", "output": {"n": ' + b"9" * 40 + b"}}",
        nested(MAX_DEPTH),
    ],
)
def test_a_result_is_read(data: bytes) -> None:
    assert parse_result(data) == json.loads(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"status": "done"', "is not JSON"),
        (b'{"status": "done"} {}', "is not JSON: Extra data"),
        (b'\xef\xbb\xbf{"status": "done"}', "is not JSON"),
        (b'{"status": "done", "a": "\xff"}', "is not UTF-8 at byte 25"),
        (b'{"status": "done", "a": NaN}', "holds NaN"),
        (b'{"status": "done", "a": -Infinity}', "holds -Infinity"),
        (b'{"status": "done", "a": 1e999}', "out of range"),
        (b'{"status": "done", "a": ' + b"9" * 41 + b"}", "more than 40 digits"),
        (b'{"status": "done", "status": "failed"}', "has the key 'status' twice"),
        (b'{"status": "done", "output": {"\\u001b": 1, "\\u001b": 2}}', "twice"),
        (b'{"status": "done", "a": "\\ud800"}', "surrogate"),
        (b'{"status": "done", "\\udfff": 1}', "surrogate"),
        (nested(MAX_DEPTH + 1), "nested deeper"),
        (b"[" * 200_000, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b'{"status": "done", "a": "' + b"x" * MAX_BYTES + b'"}', "is larger than"),
        (b"{}", "has no status"),
        (b'{"status": "Done"}', "has no status"),
        (b'{"status": ["done"]}', "has no status"),
        (b'{"status": "done", "summary": 1}', "summary"),
        (b'{"status": "done", "output": []}', "output"),
        (b'{"status": "done", "confidence": 1.01}', "confidence"),
        (b'{"status": "done", "confidence": true}', "confidence"),
        (b'{"status": "done", "confidence": "0.5"}', "confidence"),
    ],
)
def test_what_is_not_a_result_is_refused_with_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(ResultProblem) as caught:
        parse_result(data)
    assert reason in caught.value.what
    assert caught.value.what.isprintable()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        assert isinstance(parse_result(data), dict)
    except ResultProblem:
        pass

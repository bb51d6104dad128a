"""PURE: reading an agent's result.json, which is hostile input."""

from __future__ import annotations

import json
from typing import Any

from podctl.grading.problems import ResultProblem

MAX_BYTES = 2**20
MAX_DEPTH = 50
MAX_DIGITS = 40
STATUSES = ("done", "refused", "failed")


def parse_result(data: bytes) -> dict[str, Any]:
    """The object in result.json as docs/agents.md defines it. Raises `ResultProblem` with a one-line reason."""
    if len(data) > MAX_BYTES:
        raise ResultProblem(f"is larger than {MAX_BYTES} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise ResultProblem(f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ResultProblem(f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise ResultProblem(f"is nested deeper than {MAX_DEPTH} levels") from error
    if not isinstance(value, dict):
        raise ResultProblem("is not a JSON object")
    _check_depth_and_text(value)
    _check_contract(value)
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ResultProblem(f"holds a number of more than {MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ResultProblem("holds a number out of range")
    return value


def _constant(text: str) -> Any:
    raise ResultProblem(f"holds {text}, which JSON does not have")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ResultProblem(f"has the key {ascii(twice)[:80]} twice")
    return value


def _check_depth_and_text(value: Any) -> None:
    # Without recursion, so that the depth of hostile input cannot matter here.
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and any("\ud800" <= char <= "\udfff" for char in item):
                raise ResultProblem("holds half of a surrogate pair")
        level = below
        if not level:
            return
    raise ResultProblem(f"is nested deeper than {MAX_DEPTH} levels")


def _check_contract(value: dict[str, Any]) -> None:
    if value.get("status") not in STATUSES:
        raise ResultProblem(f"has no status that is one of {', '.join(STATUSES)}")
    if not isinstance(value.get("summary", ""), str):
        raise ResultProblem("has a summary that is not text")
    if not isinstance(value.get("output", {}), dict):
        raise ResultProblem("has an output that is not an object")
    confidence = value.get("confidence")
    if confidence is None:
        return
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise ResultProblem("has a confidence that is not a number from 0 to 1")

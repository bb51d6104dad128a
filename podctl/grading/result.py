"""PURE: reading an agent's result.json, which is hostile input."""

from __future__ import annotations

from typing import Any

from podctl.grading.problems import ResultProblem
from podctl.strictjson import NotJson, read_json

MAX_BYTES = 2**20
MAX_DEPTH = 50
STATUSES = ("done", "refused", "failed")


def parse_result(data: bytes) -> dict[str, Any]:
    """The object in result.json as docs/agents.md defines it. Raises `ResultProblem` with a one-line reason."""
    try:
        value = read_json(data, most=MAX_BYTES, deepest=MAX_DEPTH)
    except NotJson as why:
        raise ResultProblem(str(why)) from None
    if not isinstance(value, dict):
        raise ResultProblem("is not a JSON object")
    _check_contract(value)
    return value


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

"""Decision records, ``podctl.decision/v1``: what an agent says it chose between, and why.

An agent's word: bounded, kept as said, always marked as declared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from podctl.evidence.calls import items, mapping
from podctl.evidence.records import Record
from podctl.evidence.safe import well_formed

SCHEMA = "podctl.decision/v1"
MAX_LINE = 64 * 1024
_TEXT = 4096  # characters of a string
_ITEMS = 64  # entries of a list, keys of an object
_DEEPEST = 8
_BASES = ("self_report", "logprob", "vote", "calibrated")


class DecisionProblem(ValueError):
    """The object is not a decision; the message says why."""


def parse_decision(value: Any) -> dict[str, Any]:
    """The decision with every known field of its known type, and bounded. Fields it does not have are left out;
    unknown ones, and those of a wrong type, are under ``extra``.

    Raises `DecisionProblem` when it is no object, names another schema, or its confidence is not from 0 to 1.
    """
    if not isinstance(value, dict):
        raise DecisionProblem("a decision is a JSON object")
    schema = value.get("schema", value.get("apiVersion", SCHEMA))
    if schema != SCHEMA:
        raise DecisionProblem(f"the schema is {_text(schema)[:60]!r}, not {SCHEMA!r}")
    extra = _bounded(value["extra"]) if isinstance(value.get("extra"), dict) else {}
    decision: dict[str, Any] = {"schema": SCHEMA}
    known_first = sorted(value.items(), key=lambda pair: pair[0] not in _FIELDS)
    for name, item in known_first[:_ITEMS]:
        if name in ("schema", "apiVersion", "extra") or item is None:
            continue
        read = _FIELDS.get(name)
        found = read(item) if read else None
        if found is None:
            extra[_text(name)] = _bounded(item)
        else:
            decision[name] = found
    decision["provenance"] = "declared"
    if extra:
        decision["extra"] = extra
    return decision


def parse_decision_lines(content: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Decisions of a file with one JSON object a line, and one line about each that is none. A last line without an
    end, left by a kill, counts when it is whole."""
    decisions, problems = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise DecisionProblem(f"longer than {MAX_LINE} bytes")
            decisions.append(parse_decision(json.loads(line)))
        except (ValueError, RecursionError) as error:
            cause = str(error) if isinstance(error, DecisionProblem) else "not valid JSON"
            problems.append(f"decision line {number}: {cause}")
    return decisions, problems


def with_unsupported(records: Iterable[Record]) -> list[Record]:
    """The records; a decision that cites spans which the attempt does not have names them under ``unsupported``."""
    told = list(records)
    known = {str(record.data.get("span_id")) for record in told if record.kind in ("span", "tool.call")}
    return [_with_unsupported(record, known) if record.kind == "decision" else record for record in told]


def _with_unsupported(record: Record, known: Collection[str]) -> Record:
    decision = mapping(record.data.get("decision"))
    cited = [decision.get("span_id"), *items(decision.get("evidence"))]
    cited += [mapping(feature).get("source_span") for feature in items(decision.get("features"))]
    missing = [span for span in dict.fromkeys(str(span) for span in cited if span) if span not in known]
    return replace(record, data={**record.data, "unsupported": missing}) if missing else record


def _text(value: Any) -> str:
    shown = value if isinstance(value, str) else str(value)[:_TEXT] if isinstance(value, int | float) else type(value).__name__
    return well_formed(shown[:_TEXT])


def _bounded(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) and abs(value) < 2**63 else _number_text(value)
    if depth >= _DEEPEST:
        return "<nested too deeply>"
    if isinstance(value, dict):
        return {_text(name): _bounded(item, depth + 1) for name, item in list(value.items())[:_ITEMS]}
    if isinstance(value, list):
        return [_bounded(item, depth + 1) for item in value[:_ITEMS]]
    return _text(value)


def _number_text(value: int | float) -> str:
    return str(value) if isinstance(value, float) else f"an integer of {value.bit_length()} bits"


def _id(value: Any) -> str | None:
    return _text(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _confidence(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DecisionProblem("confidence is not a number from 0 to 1")
    return float(value)


def _one_of(allowed: tuple[str, ...]) -> Callable[[Any], str | None]:
    return lambda value: value if isinstance(value, str) and value in allowed else None


def _object(value: Any) -> dict[str, Any] | None:
    return dict(_bounded(value)) if isinstance(value, dict) else None


def _objects(value: Any) -> list[dict[str, Any]] | None:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    return [dict(_bounded(item)) for item in value[:_ITEMS]]


def _ids(value: Any) -> list[str] | None:
    found = [_id(item) for item in value[:_ITEMS]] if isinstance(value, list) else [None]
    return None if None in found else [item for item in found if item is not None]


#: field -> its value, or None when it is of a wrong type.
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "id": _id,
    "span_id": _id,
    "ticket": _id,
    "kind": _id,
    "features": _objects,
    "similar": _objects,
    "options": _objects,
    "confidence": _confidence,
    "confidence_basis": _one_of(_BASES),
    "policy": _object,
    "evidence": _ids,
    "provenance": _one_of(("declared",)),  # an agent cannot make its word more than that
}

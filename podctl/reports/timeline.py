"""What happened in one attempt, as rows a person reads from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from podctl.evidence import processes
from podctl.evidence.calls import in_order, without_answered_starts
from podctl.evidence.decisions import with_unsupported
from podctl.evidence.processes import with_whole_processes
from podctl.evidence.records import KINDS, Layer, Record
from podctl.reports.text import pairs_text, value_text, visible
from podctl.stats.units import dollars, plural, seconds

Tone = Literal["neutral", "change", "good", "warn", "bad", "boundary"]


@dataclass(frozen=True)
class TimelineRow:
    """``seconds`` since the attempt began; ``title`` and ``detail`` are plain text that an agent may have written."""

    seconds: float
    actor: str
    layer: Layer
    title: str
    detail: str = ""
    tone: Tone = "neutral"
    minor: bool = False  # first to go where there is no room


def timeline(records: Iterable[Record]) -> list[TimelineRow]:
    """Rows in the order of time. Records cut for their size keep their row and say so."""
    ordered = with_unsupported(with_whole_processes(without_answered_starts(in_order(records))))
    if not ordered:
        return []
    start = next((r.t for r in ordered if r.kind == "attempt.start"), ordered[0].t)
    rows = []
    for record in ordered:
        title, detail, tone = _describe(record)
        if record.provenance == "declared":
            title += " (declared)"
        at = (record.t - start) / 1e9
        minor = record.kind == "process.start" and "pid" in record.data
        rows.append(TimelineRow(at, record.actor, KINDS[record.kind], title, detail, tone, minor))
    return rows


Described = tuple[str, str, Tone]


def _describe(record: Record) -> Described:
    if "truncated" in record.data:
        return record.kind, f"{record.data['truncated']} bytes, cut", "neutral"
    describe = _KINDS.get(record.kind)
    return describe(record.data) if describe else (record.kind, pairs_text(record.data), "neutral")


def _attempt_start(data: dict[str, Any]) -> Described:
    return f"began ticket {_text(data.get('ticket'))}", f"pod {_text(data.get('pod'))}", "neutral"


def _attempt_end(data: dict[str, Any]) -> Described:
    cause = str(data.get("cause", "unknown"))
    return f"ended: {_text(cause.replace('_', ' '))}", _text(data.get("detail")), "good" if cause == "completed" else "bad"


def _process_start(data: dict[str, Any]) -> Described:
    command = _text(processes.command_line(data, 200), 200)
    if "pid" not in data:
        return f"started {_text(data.get('name'))}", command, "neutral"
    title = f"process {_text(data.get('pid'))} {_text(processes.name(data), 60)}".rstrip()
    if "exit_code" in data:
        title += f", {_text(processes.ending(data))}" + _ms(data)
    return title, command, "neutral"


def _process_exec(data: dict[str, Any]) -> Described:
    title = f"process {_text(data.get('pid'))} became {_text(processes.name({**data, 'name': None}), 60)}"
    return title, _text(processes.command_line(data, 200), 200), "neutral"


def _process_exit(data: dict[str, Any]) -> Described:
    good = data.get("exit_code") == 0 and not data.get("signal")
    title = f"{_text(data.get('name'))} ended, {_text(processes.ending(data))}"
    return title + _ms(data), "", "neutral" if good else "bad"


def _sql(data: dict[str, Any]) -> Described:
    error = data.get("error")
    title = f"SQL on {_text(data.get('database'))}" + (f" failed: {_text(error)}" if error else "")
    return title, _text(data.get("statement"), 240) + _ms(data), "warn" if error else "neutral"


def _row_change(data: dict[str, Any]) -> Described:
    old, new = _mapping(data.get("old")), _mapping(data.get("new"))
    if data.get("op") == "update":
        changed = [name for name in new if old.get(name) != new[name]]
        detail = "; ".join(f"{name}: {value_text(old.get(name), 60)} → {value_text(new[name], 60)}" for name in changed[:8])
    else:
        detail = pairs_text(new or old)
    key = pairs_text(_mapping(data.get("key")), 80)
    return f"{_text(data.get('op'))} {_text(data.get('database'))}.{_text(data.get('table'))} {key}", detail, "change"


def _http(data: dict[str, Any]) -> Described:
    status = data.get("status")
    failed = isinstance(status, int) and status >= 400
    title = f"{_text(data.get('method'))} {_text(data.get('service'))} {_text(data.get('path'))}"
    return title, f"status {_text(status)}" + _ms(data), "warn" if failed else "neutral"


def _model(data: dict[str, Any]) -> Described:
    tokens = sum(n for n in _mapping(data.get("tokens")).values() if isinstance(n, int))
    parts = [plural(tokens, "token"), _cost(data.get("dollars"))]
    calls = [str(_mapping(call).get("name", call)) for call in _items(data.get("tool_calls"))]
    if calls:
        parts.append("asks for " + _text(", ".join(calls)))
    if data.get("simulated"):
        parts.append("simulated")
    error = data.get("error")
    if error:
        parts.insert(0, _text(error))
    return f"model {_text(data.get('model'))}", ", ".join(parts) + _ms(data), "warn" if error else "neutral"


def _tool(data: dict[str, Any]) -> Described:
    arguments = data.get("arguments")
    text = pairs_text(arguments) if isinstance(arguments, dict) else _text(arguments)
    return f"tool {_text(data.get('tool'))}", f"{text} → {_text(data.get('result'))}" + _ms(data), "neutral"


def _boundary(data: dict[str, Any]) -> Described:
    title = f"boundary: {_text(data.get('target'))} by {_text(data.get('via'))}, refused"
    return title, _text(data.get("detail"), 200), "boundary"


def _refused(data: dict[str, Any]) -> Described:
    return f"gateway refused {_text(data.get('what'))}", _text(data.get("reason"), 200), "warn"


def _span(data: dict[str, Any]) -> Described:
    return f"span {_text(data.get('name'))}", pairs_text(_mapping(data.get("attributes"))), "neutral"


def _log(data: dict[str, Any]) -> Described:
    severity = str(data.get("severity", ""))
    tone: Tone = "warn" if severity.upper().startswith(("WARN", "ERR", "FATAL")) else "neutral"
    return f"log {_text(severity)}", _text(data.get("body"), 240), tone


def _decision(data: dict[str, Any]) -> Described:
    decision = _mapping(data.get("decision"))
    options = [_mapping(option) for option in _items(decision.get("options"))]
    chosen = next((_text(o.get("action")) for o in options if o.get("chosen")), "")
    rejected = [
        f"not {_text(o.get('action'), 60)}: {_text(o.get('rejected_because'), 100)}"
        for o in options
        if not o.get("chosen") and o.get("rejected_because")
    ]
    confidence = decision.get("confidence")
    stated = [f"confidence {_text(confidence)}"] if confidence is not None else []
    missing = [_text(span, 40) for span in _items(data.get("unsupported"))]
    cited = [f"cites what is not in the evidence: {', '.join(missing[:4])}"] if missing else []
    title = f"decided {_text(decision.get('kind'))}" + (f": {chosen}" if chosen else "")
    return title, "; ".join(cited + stated + rejected[:4]), "warn" if missing else "neutral"


def _usage(data: dict[str, Any]) -> Described:
    wall = data.get("wall_s")
    time = seconds(wall) if isinstance(wall, int | float) else "unknown"
    count = processes.counted(data)
    return "used", f"{time} of wall time, {_cost(data.get('dollars'))}" + (f", {count}" if count else ""), "neutral"


def _text(value: object, limit: int = 120) -> str:
    return "" if value is None else visible(str(value), limit)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _ms(data: dict[str, Any]) -> str:
    ms = data.get("ms")
    return f", {seconds(ms / 1000)}" if isinstance(ms, int | float) else ""


def _cost(value: object) -> str:
    try:
        amount = None if value is None else Decimal(str(value))
    except InvalidOperation:
        amount = None
    return "cost unknown" if amount is None or not amount.is_finite() else dollars(amount)


_KINDS: dict[str, Callable[[dict[str, Any]], Described]] = {
    "attempt.start": _attempt_start,
    "attempt.end": _attempt_end,
    "process.start": _process_start,
    "process.exec": _process_exec,
    "process.exit": _process_exit,
    "sql.statement": _sql,
    "row.change": _row_change,
    "http.call": _http,
    "model.call": _model,
    "tool.call": _tool,
    "boundary.attempt": _boundary,
    "gateway.refused": _refused,
    "span": _span,
    "log": _log,
    "decision": _decision,
    "usage": _usage,
}

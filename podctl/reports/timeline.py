"""What happened in one attempt, as rows of a page that a person reads from top to bottom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from podctl.evidence.calls import items, mapping, number
from podctl.evidence.events import describe
from podctl.evidence.records import KINDS, Layer, Record
from podctl.evidence.trace import told
from podctl.reports.text import visible

Tone = Literal["neutral", "change", "good", "warn", "bad", "boundary"]

_LINE = 140  # characters of each further line


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
    """Rows in the order of time, in the words of ``podctl trace``."""
    shown, began = told(records)
    return [_row(record, began) for record in shown]


def _row(record: Record, began: int) -> TimelineRow:
    said = describe(record)
    declared = " (declared)" if record.provenance == "declared" else ""
    return TimelineRow(
        seconds=(record.t - began) / 1e9,
        actor=record.actor,
        layer=KINDS[record.kind],
        title=f"{said.label} {said.text}{declared}",
        detail="; ".join(visible(line, _LINE) for line in said.more),
        tone=_tone(record.kind, record.data),
        minor=record.kind == "process.start" and "pid" in record.data,
    )


def _tone(kind: str, data: dict[str, Any]) -> Tone:
    match kind:
        case "attempt.end":
            return "good" if data.get("cause") == "completed" else "bad"
        case "process.exit":
            return "neutral" if data.get("exit_code") == 0 and not data.get("signal") else "bad"
        case "boundary.attempt" | "honeytoken" | "decoy.call" | "scan.finding" | "fault":
            return "boundary"
        case "row.change":
            return "change"
        case "gateway.refused":
            return "warn"
        case "http.call":
            return "warn" if (number(data.get("status")) or 0) >= 400 or data.get("error") else "neutral"
        case "tools.listed":
            looked_at = data.get("changed") or any(mapping(tool).get("findings") for tool in items(data.get("tools")))
            return "warn" if looked_at or data.get("error") else "neutral"
        case "log":
            return "warn" if str(data.get("severity", "")).upper().startswith(("WARN", "ERR", "FATAL")) else "neutral"
        case _:
            return "warn" if data.get("error") or data.get("unsupported") else "neutral"

"""One attempt as a timeline that a person can follow, and what it changed as a diff; plain, printable text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from podctl.evidence.calls import Totals, in_order, totals, without_answered_starts
from podctl.evidence.decisions import with_unsupported
from podctl.evidence.events import Said, describe, listed, money, text, tokens_text
from podctl.evidence.identity import Identity
from podctl.evidence.processes import with_whole_processes
from podctl.evidence.records import KINDS, Layer, Record
from podctl.evidence.results import AttemptResult, DiffEntry
from podctl.evidence.safe import fitted, printable_value

_MARKED = frozenset(
    {"boundary.attempt", "gateway.refused", "honeytoken", "decoy.call", "scan.finding", "fault", "approval.refused"}
)
_COUNTED = (
    ("model.call", "model call", "model calls"),
    ("http.call", "HTTP call", "HTTP calls"),
    ("sql.statement", "statement", "statements"),
    ("row.change", "row change", "row changes"),
    ("tool.call", "tool call", "tool calls"),
    ("decision", "decision", "decisions"),
    ("boundary.attempt", "attempt across the boundary", "attempts across the boundary"),
    ("gateway.refused", "refusal", "refusals"),
    ("approval.proposed", "proposal", "proposals"),
    ("honeytoken", "honeytoken let out", "honeytokens let out"),
    ("fault", "injected fault", "injected faults"),
    ("scan.finding", "finding in what it left", "findings in what it left"),
    ("decoy.call", "decoy called", "decoys called"),
)


@dataclass(frozen=True)
class Event:
    """``seconds`` since the attempt's start; ``marked`` is for what a reader must not miss."""

    seconds: float
    actor: str
    kind: str
    layer: Layer
    said: Said
    declared: bool
    marked: bool


@dataclass(frozen=True)
class Timeline:
    """``hidden`` counts the events that a filter left out; ``totals`` are of all."""

    identity: Identity
    events: tuple[Event, ...]
    hidden: int
    totals: Totals


def timeline(
    records: Iterable[Record], identity: Identity, *, layers: Collection[str] = (), kinds: Collection[str] = ()
) -> Timeline:
    """By time. A layer or kind that is named keeps only its events; a kind may be given as its first part (``sql``)."""
    ordered = in_order(records)
    shown, start = told(ordered)
    events = [_event(record, start) for record in shown if _wanted(record, layers, kinds)]
    return Timeline(identity, tuple(events), len(shown) - len(events), totals(ordered))


def told(records: Iterable[Record]) -> tuple[list[Record], int]:
    """What a reader is told, by time, one record for what two or more say of the same thing; and when the attempt began, in ns."""
    ordered = in_order(records)
    began = next((record.t for record in ordered if record.kind == "attempt.start"), ordered[0].t if ordered else 0)
    return with_unsupported(with_whole_processes(without_answered_starts(ordered))), began


def _wanted(record: Record, layers: Collection[str], kinds: Collection[str]) -> bool:
    if layers and KINDS.get(record.kind, "execution") not in layers:
        return False
    return not kinds or any(record.kind == kind or record.kind.startswith(f"{kind}.") for kind in kinds)


def _event(record: Record, start: int) -> Event:
    return Event(
        seconds=(record.t - start) / 1e9,
        actor=text(record.actor, 40),
        kind=record.kind,
        layer=KINDS.get(record.kind, "execution"),
        said=describe(record),
        declared=record.provenance != "observed",
        marked=record.kind in _MARKED,
    )


def render_text(timeline: Timeline, width: int = 100) -> str:
    """Lines of at most ``width`` characters (at least 60): a head, the events, phases and totals."""
    width = max(60, width)
    lines = [*_head(timeline.identity), ""]
    actors = max((len(event.actor) for event in timeline.events), default=0)
    column = min(actors, 24)
    for event in timeline.events:
        lines += _event_lines(event, column)
    if not timeline.events:
        lines.append("no events" if not timeline.hidden else "no events of the layers and kinds asked for")
    if timeline.hidden:
        lines.append(f"({timeline.hidden:,} other events not shown)")
    lines += ["", *_foot(timeline.totals)]
    return "\n".join(fitted(line, width) for line in lines) + "\n"


def _head(identity: Identity) -> list[str]:
    agent = f"{text(identity.agent_name)} {text(identity.agent_version)}"
    digest = f" ({text(identity.agent_digest[:12])})" if identity.agent_digest else ""
    where = listed(
        f"scenario {text(identity.scenario)}" if identity.scenario else "",
        f"pod {text(identity.pod)}" if identity.pod else "",
        f"boundary {text(identity.policy)}" if identity.policy else "",
    )
    lines = [
        f"attempt {text(identity.attempt)} of run {text(identity.run)}, ticket {text(identity.ticket)}",
        f"agent {agent}{digest}",
    ]
    if where:
        lines.append(where)
    if identity.spiffe:
        lines.append(text(identity.spiffe))
    if identity.passed is not None:
        cause = "" if identity.cause is None else f", {identity.cause.value.replace('_', ' ')}"
        lines.append(("passed" if identity.passed else "failed") + cause)
    return lines


def _event_lines(event: Event, column: int) -> list[str]:
    mark = "!!" if event.marked else "  "
    declared = " [declared]" if event.declared else ""
    front = f"{mark} {_offset(event.seconds):>10}  {event.actor:<{column}}  {event.said.label:<8}  "
    # Later lines begin under the first one's text, so that no text can pass for an event.
    indent = f"{mark} {'':>10}  {'':<{column}}  {'':<8}    "
    return [f"{front}{event.said.text}{declared}", *(f"{indent}{line}" for line in event.said.more)]


def _offset(seconds: float) -> str:
    if abs(seconds) < 60:
        return f"{seconds:+.3f}s"
    minutes, rest = divmod(abs(seconds), 60)
    return f"{'-' if seconds < 0 else '+'}{minutes:.0f}m{rest:06.3f}s"


def _foot(found: Totals) -> list[str]:
    lines = []
    if found.phases:
        lines.append("phases  " + ", ".join(f"{text(name)} {seconds:.2f} s" for name, seconds in found.phases.items()))
    counts = listed(
        *(f"{count:,} {one if count == 1 else many}" for kind, one, many in _COUNTED if (count := found.counts.get(kind)))
    )
    wall = "" if found.wall_s is None else f"{found.wall_s:.2f} s"
    calls = found.counts.get("model.call", 0)
    known = tokens_text(found.tokens if calls > found.untold else None)
    unknown = f"tokens of {found.untold:,} more unknown" if calls > found.untold > 0 else ""
    spent = listed(known, unknown, money(found.dollars)) if calls else ""
    simulated = "simulated" if found.simulated else ""
    if counts:
        lines.append(f"counts  {counts}")
    return [*lines, f"totals  {listed(wall, spent, simulated)}" if wall or spent else "totals  nothing was measured"]


_SIGNS = {"insert": "+", "update": "~", "delete": "-"}
_ORDER = {"forbidden": 0, "collateral": 1, "missing": 2, "intended": 3}


def render_diff(result: AttemptResult) -> str:
    """Row by row, grouped by table: what changed, what should have and did not, what should not have and did."""
    entries = list({_identity(entry): entry for check in result.checks for entry in check.diff}.values())
    if not entries:
        return "no row differs from what the ticket's reference says, and none was changed\n"
    tables: dict[tuple[str, str], list[DiffEntry]] = {}
    for entry in entries:
        tables.setdefault((entry.database, entry.table), []).append(entry)
    lines = []
    for (database, table), of_table in sorted(tables.items()):
        lines.append(f"{text(database)}.{text(table)}")
        rows: dict[str, list[DiffEntry]] = {}
        for entry in of_table:
            rows.setdefault(f"{_SIGNS[entry.op]} {_key(entry)}", []).append(entry)
        for row, of_row in rows.items():
            lines += _row_lines(row, sorted(of_row, key=lambda entry: _ORDER[entry.class_]))
    return "\n".join(lines) + "\n"


def _identity(entry: DiffEntry) -> str:
    return repr(replace(entry, actor=""))


def _key(entry: DiffEntry) -> str:
    return " ".join(f"{text(name)}={printable_value(value)}" for name, value in entry.key.items()) or "(row without a key)"


def _row_lines(row: str, entries: list[DiffEntry]) -> list[str]:
    lines = []
    if not any(entry.column == "" for entry in entries):
        lines.append(f"  {row}")
    for entry in entries:
        told = listed(_CLASSES[entry.class_], f"by {text(entry.actor)}" if entry.actor else "")
        if entry.column:
            lines.append(f"      {text(entry.column)}: {_change(entry)}  [{told}]")
            continue
        lines.append(f"  {row}  [{told}]")
        lines += [f"      {line}" for line in _whole_row(entry)]
    return lines


_CLASSES = {
    "intended": "as expected",
    "missing": "missing",
    "collateral": "not asked for",
    "forbidden": "FORBIDDEN",
}


def _change(entry: DiffEntry) -> str:
    if entry.class_ == "missing" and entry.new is None:
        return f"not changed, expected {printable_value(entry.expected)}"
    change = f"{printable_value(entry.old)} → {printable_value(entry.new)}"
    if entry.op == "insert":
        change = printable_value(entry.new)
    differs = entry.expected is not None and entry.expected != entry.new
    return f"{change}, expected {printable_value(entry.expected)}" if differs else change


def _whole_row(entry: DiffEntry) -> list[str]:
    found = entry.old if entry.op == "delete" else entry.new
    here = found if isinstance(found, dict) else {}
    expected = entry.expected if isinstance(entry.expected, dict) else {}
    if entry.class_ == "missing":
        return [f"{text(name)}: expected {printable_value(value)}" for name, value in expected.items()]
    lines = []
    for name in {**here, **expected}:
        value = printable_value(here[name]) if name in here else "nothing"
        differs = name in expected and (name not in here or expected[name] != here[name])
        lines.append(f"{text(name)}: {value}" + (f", expected {printable_value(expected[name])}" if differs else ""))
    return lines

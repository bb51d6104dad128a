"""From a Capture file and its source to what would be taken."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podctl.capture.engine import Engine, Moment
from podctl.capture.named import Naming, by_paths, by_references
from podctl.capture.opening import open_engine
from podctl.capture.postgres_schema import DumpPrograms
from podctl.capture.problems import CaptureProblem
from podctl.capture.rewinding import Rewinding
from podctl.capture.rules import Mistake, Rules, resolve
from podctl.capture.worklist import Rowid, Subset, lands, subset
from podctl.errors import SpecError
from podctl.spec.capture import Capture
from podctl.spec.load import load_model
from podctl.spec.models import Tickets
from podctl.spec.problems import SpecMistakes, printable
from podctl.spec.source import Item, read
from podctl.tickets.drawing import drawn_sample
from podctl.tickets.sources import load_tickets
from podctl.tickets.types import Ticket

Said = Callable[[str], None]
#: Snapshots of a busy cluster that are taken before they count as apart.
_TRIES = 50


@dataclass(frozen=True)
class Unmatched:
    """Values that tickets name rows by and that no row has; ``tickets`` are those that name one of them."""

    what: str
    column: str
    values: int
    tickets: int


@dataclass(frozen=True)
class Plan:
    """What a capture takes. ``there``: table -> (rows, whether they are an estimate)."""

    rules: Rules
    subset: Subset
    tickets: int
    sample: str
    unmatched: tuple[Unmatched, ...] = ()
    there: Mapping[str, tuple[int | None, bool]] = field(default_factory=dict)
    drawn: Sequence[Ticket] = field(default=(), repr=False)
    past: Rewinding | None = field(default=None, repr=False)

    def taken(self, table: str) -> int | None:
        """Rows that are taken, None where that is not known: a whole table of which there is no estimate."""
        rows = self.subset.taken.get(table, set())
        return self.there[table][0] if rows is None else len(rows)

    def why(self, table: str) -> str:
        """How the rows of a table came, for people."""
        if table in self.rules.whole:
            return "whole"
        ways = ["named by tickets"] if self.subset.named.get(table) else []
        for (edge, how), flow in self.subset.flows.items():
            if flow.rows and table == lands((edge, how)):
                ways.append(f"parents by {edge.label}" if how == "parent" else f"children by {edge.label}")
        return "; ".join(ways)


@dataclass(frozen=True)
class Opened:
    """A Capture file with its source. ``together``: how near the snapshots of several are to one another, as `begin_together` says."""

    path: Path
    spec: Capture
    engine: Engine
    tickets: Sequence[Ticket]
    sample: str
    everybody: Sequence[Ticket]
    taken_at: str
    together: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, said: Said = lambda _: None) -> Plan:
        """What would be taken, found by its keys alone. Raises `SpecMistakes`, `CaptureProblem`."""
        return _plan(self, said)


@contextmanager
def opened(paths: Sequence[Path], programs: DumpPrograms) -> Iterator[list[Opened]]:
    """Each file's source with its snapshot begun, all at one moment where that can be had.

    Raises `SpecError` for a mistake in a file, `CaptureProblem` for a source that cannot be read.
    """
    specs = [load_model(path, Capture) for path in paths]
    names = [spec.name for spec in specs]
    if len(names) != len(set(names)):
        raise SpecError("two captures have the same name", code="capture-names", unchanged="nothing was read")
    tickets = [_tickets(spec) for spec in specs]
    with ExitStack() as stack:
        engines = []
        for path, spec in zip(paths, specs, strict=True):
            seed = spec.tickets.sample.seed if spec.tickets else 1
            engines.append(open_engine(spec.source, programs, seed, path.absolute().parent))
            stack.callback(engines[-1].close)
        together = begin_together(engines)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for engine in engines:
            engine.read()
        yield [
            Opened(path, spec, engine, *drawn, now, together)
            for path, spec, engine, drawn in zip(paths, specs, engines, tickets, strict=True)
        ]


def begin_together(engines: Sequence[Engine]) -> dict[str, Any]:
    """Begin every snapshot; facts of how close they are, empty for one alone.

    Databases of one PostgreSQL cluster get theirs of the very same moment: snapshots are taken anew until they are equal.
    """
    moments = [engine.begin() for engine in engines]
    for _ in range(_TRIES):
        if len(engines) < 2 or not _apart(moments):
            break
        moments = [engine.begin() for engine in engines]
    if len(engines) < 2:
        return {}
    one = len({moment.clock for moment in moments}) == 1 and bool(moments[0].clock)
    gap = max(moment.unix for moment in moments) - min(moment.unix for moment in moments)
    return {"sources": len(engines), "same_moment": one and not _apart(moments), "apart_ms": round(gap * 1000, 1)}


def _apart(moments: Sequence[Moment]) -> bool:
    states: dict[str, set[str]] = {}
    for moment in moments:
        if moment.clock:
            states.setdefault(moment.clock, set()).add(moment.state)
    return any(len(found) > 1 for found in states.values())


def _plan(source: Opened, said: Said) -> Plan:
    spec, engine, tickets = source.spec, source.engine, source.tickets
    rules, mistakes = resolve(spec, engine.schema)
    if mistakes:
        raise _at_their_place(source.path, mistakes)
    engine.secure(rules)
    named, unmatched = _named(spec, engine, rules, tickets)
    past = None
    if spec.history is not None:
        said("reading the history")
        past = Rewinding(spec, engine, rules, source.everybody, tickets)
    if not named and not rules.whole and (past is None or not past.own):
        raise CaptureProblem(
            "nothing would be taken",
            code="capture-empty",
            cause="no table is taken whole, and no ticket names a row",
            hint="say under tickets.rows how tickets name rows, or under whole which tables are taken as they are",
        )
    said("following references")
    found = subset(rules, engine.rows, named) if past is None else past.subset(named)
    if past is not None:
        past.settle()
    there = {name: (table.rows, True) for name, table in rules.tables.items()}
    for name in rules.whole:
        rows = there[name][0]
        limit = rules.table_rows.get(name, rules.rows)
        if rows is None or rows > 0.8 * limit:
            there[name] = (engine.rows.count(name), False)
            whole_fits(name, there[name][0] or 0, rules)
    _all_fits(found, {name: there[name][0] or 0 for name in rules.whole}, rules)
    return Plan(rules, found, len(tickets), source.sample, tuple(unmatched), there, tickets, past)


def _all_fits(found: Subset, whole: Mapping[str, int], rules: Rules) -> None:
    if found.rows + sum(whole.values()) > rules.rows:
        largest = sorted(whole, key=lambda name: -whole[name])[:3]
        raise CaptureProblem(
            f"the capture would take more than {rules.rows:,} rows (budget.rows)",
            code="capture-budget",
            cause=f"{found.rows:,} rows for tickets, and tables taken whole: "
            + ", ".join(f"{name} {whole[name]:,}" for name in largest)
            + (", …" if len(whole) > 3 else ""),
            unchanged="nothing was made",
            hint="take fewer tables whole, or raise budget.rows",
        )


def whole_fits(table: str, rows: int, rules: Rules) -> None:
    limit = rules.table_rows.get(table, rules.rows)
    if rows > limit:
        which = f"budget.tables.{table}" if table in rules.table_rows else "budget.rows"
        raise CaptureProblem(
            f"{table} is to be taken whole and has {rows:,} rows, more than {which} allows ({limit:,})",
            code="capture-budget",
            unchanged="nothing was made",
            hint=f"take {table} from whole:, or raise {which}",
        )


def _tickets(spec: Capture) -> tuple[Sequence[Ticket], str, Sequence[Ticket]]:
    """The sample, its digest, and where a history is read, everybody with what agents do not see."""
    if spec.tickets is None:
        if spec.history is not None:
            raise SpecError("history: is of tickets, and none are named", code="history-tickets", hint="add tickets: {file: …}")
        return (), "", ()
    file = load_model(spec.tickets.file, Tickets)
    drawn = drawn_sample(load_tickets(file), spec.tickets.sample)
    everybody = load_tickets(file.model_copy(update={"hide": ()})) if spec.history else []
    return drawn.tickets, drawn.digest, everybody


def _named(
    spec: Capture, engine: Engine, rules: Rules, tickets: Sequence[Ticket]
) -> tuple[dict[str, list[Rowid]], list[Unmatched]]:
    if spec.tickets is None:
        return {}, []
    named: dict[str, list[Rowid]] = {}
    unmatched = []
    by_path = by_paths(tickets, spec.tickets.rows)
    namings = list(by_path)
    if spec.tickets.references:
        namings += [one for one in by_references(tickets, spec.name, rules.edges) if _is_there(one, rules)]
    for naming in namings:
        table = rules.tables[naming.table.removeprefix("public.")].shown
        if not naming.values:
            raise _names_nothing(naming, tickets)
        values = list(naming.values)
        found = engine.rows.named(table, naming.columns, values)
        if not found and naming in by_path and spec.history is None:
            raise _matches_nothing(naming, table)
        named.setdefault(table, []).extend(row for _, row in found)
        missing = set(range(len(values))) - {position for position, _ in found}
        if missing:
            whose = {ticket for position in missing for ticket in naming.values[values[position]]}
            unmatched.append(Unmatched(naming.what, f"{table}.{', '.join(naming.columns)}", len(missing), len(whose)))
    return named, unmatched


def _is_there(naming: Naming, rules: Rules) -> bool:
    """Whether a reference's rows can be looked for; a slip in it is `podctl run`'s to tell."""
    table = rules.tables.get(naming.table)
    return table is not None and bool(naming.values) and all(table.column(name) for name in naming.columns)


def _names_nothing(naming: Naming, tickets: Sequence[Ticket]) -> CaptureProblem:
    first = tickets[0]
    fields = ", ".join(list(dict.fromkeys(["id", "text", *first.fields]))[:14])
    return CaptureProblem(
        f"no ticket has a value at {printable(naming.what, 60)!r}, by which tickets.rows names rows of {naming.table}",
        code="capture-path",
        cause=printable(f"looked into {len(tickets)} tickets; the first has {fields}", 400),
        unchanged="nothing was read",
        hint="mend the path, or the pattern under match",
    )


def _matches_nothing(naming: Naming, table: str) -> CaptureProblem:
    some = ", ".join(repr(printable(" ".join(value), 40)) for value in list(naming.values)[:3])
    return CaptureProblem(
        f"no row of {table} is named by any ticket: {naming.what} holds nothing that is in {', '.join(naming.columns)}",
        code="capture-path",
        cause=f"{len(naming.values)} values were looked for, such as {some}",
        unchanged="nothing was made",
        hint="check the column, or use match to take the key out of the value",
    )


def _at_their_place(path: Path, mistakes: Sequence[Mistake]) -> SpecMistakes:
    document = read(path)

    def at(place: Sequence[str | int]) -> Any:
        item: Item = document.root
        mark = item.at
        for key in place:
            if isinstance(key, int) and item.items and key < len(item.items):
                item = item.items[key]
                mark = item.at
            elif isinstance(key, str) and item.entries and key in item.entries:
                mark, item = item.entries[key]
        return mark if item.entries or item.items else item.at

    return SpecMistakes(
        sorted((document.problem(at(one.place), one.message, one.hint) for one in mistakes), key=lambda one: one.at)
    )


def edge_facts(plan: Plan) -> Iterator[dict[str, Any]]:
    """Each reference that rows came by or were cut at, as plain values."""
    lost = {edge.label: len(rows) for edge, rows in plan.subset.nulled}
    for table, count in sorted(plan.subset.named.items()):
        yield {"edge": "tickets", "kind": "named", "to": table, "rows": count}
    for (edge, how), flow in sorted(plan.subset.flows.items(), key=lambda item: (item[0][1], item[0][0].label)):
        kind = "children" if how == "children" else edge.follow
        fact = {
            "edge": edge.label,
            "kind": kind,
            "declared": edge.declared,
            "to": lands((edge, how)),
            "rows": flow.rows,
            "found": flow.found,
        }
        if how == "children":
            fact |= {"beyond_cap": flow.beyond, "indexed": edge.indexed}
        yield fact
    for label, count in sorted(lost.items()):
        yield {"edge": label, "kind": "emptied", "rows": count}

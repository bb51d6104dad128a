"""From a Capture file to what would be taken, and from there to a captured seed."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from podctl import __version__
from podctl.capture.building import building
from podctl.capture.engine import Engine
from podctl.capture.masked import Masker, RowMasking
from podctl.capture.named import Naming, by_paths, by_references
from podctl.capture.opening import open_engine
from podctl.capture.postgres_schema import DumpPrograms
from podctl.capture.problems import CaptureProblem
from podctl.capture.rules import Mistake, Rules, resolve
from podctl.capture.worklist import Rowid, Subset, lands, subset
from podctl.data.captured import AFTER, BEFORE, DIGEST, FORMAT, MANIFEST, CapturedSeed, CapturedTable, contents_digest
from podctl.faults import point
from podctl.spec.capture import Capture
from podctl.spec.load import load_model
from podctl.spec.models import Tickets
from podctl.spec.problems import SpecMistakes, printable
from podctl.spec.source import Item, read
from podctl.tickets.sample import draw
from podctl.tickets.sources import load_tickets
from podctl.tickets.types import Ticket

Said = Callable[[str], None]


class Trial(Protocol):
    """Loads a captured seed into a PostgreSQL, which is the proof that it can be."""

    def build(self, seed: Path) -> Path:
        """What came of it: files that are searched with the seed. Raises `CaptureProblem`."""
        ...

    def remove(self) -> None:
        """Take what was built away again: raw values were found, or nobody knows that there are none."""
        ...


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


def plan_capture(path: Path, programs: DumpPrograms, said: Said = lambda _: None) -> tuple[Plan, Engine]:
    """What would be taken, found by its keys alone, and the source with its snapshot, for the caller to close.

    Raises `SpecError` for a mistake in the file or in what it names, `CaptureProblem` for a source that cannot be read.
    """
    spec = load_model(path, Capture)
    tickets, sample = _tickets(spec)
    engine = open_engine(spec.source, programs, spec.tickets.sample.seed if spec.tickets else 1)
    try:
        return _plan(path, spec, engine, tickets, sample, said), engine
    except BaseException:
        engine.close()
        raise


def _plan(path: Path, spec: Capture, engine: Engine, tickets: Sequence[Ticket], sample: str, said: Said) -> Plan:
    rules, mistakes = resolve(spec, engine.schema)
    if mistakes:
        raise _at_their_place(path, mistakes)
    engine.secure(rules)
    named, unmatched = _named(spec, engine, rules, tickets)
    if not named and not rules.whole:
        raise CaptureProblem(
            "nothing would be taken",
            code="capture-empty",
            cause="no table is taken whole, and no ticket names a row",
            hint="say under tickets.rows how tickets name rows, or under whole which tables are taken as they are",
        )
    said("following references")
    found = subset(rules, engine.rows, named)
    there = {name: (table.rows, True) for name, table in rules.tables.items()}
    for name in rules.whole:
        rows = there[name][0]
        limit = rules.table_rows.get(name, rules.rows)
        if rows is None or rows > 0.8 * limit:
            there[name] = (engine.rows.count(name), False)
            _whole_fits(name, there[name][0] or 0, rules)
    return Plan(rules, found, len(tickets), sample, tuple(unmatched), there, tickets)


def _whole_fits(table: str, rows: int, rules: Rules) -> None:
    limit = rules.table_rows.get(table, rules.rows)
    if rows > limit:
        which = f"budget.tables.{table}" if table in rules.table_rows else "budget.rows"
        raise CaptureProblem(
            f"{table} is to be taken whole and has {rows:,} rows, more than {which} allows ({limit:,})",
            code="capture-budget",
            unchanged="nothing was made",
            hint=f"take {table} from whole:, or raise {which}",
        )


def _tickets(spec: Capture) -> tuple[Sequence[Ticket], str]:
    if spec.tickets is None:
        return (), ""
    drawn = draw(load_tickets(load_model(spec.tickets.file, Tickets)), spec.tickets.sample)
    return drawn.tickets, drawn.digest


def _named(
    spec: Capture, engine: Engine, rules: Rules, tickets: Sequence[Ticket]
) -> tuple[dict[str, list[Rowid]], list[Unmatched]]:
    if spec.tickets is None:
        return {}, []
    named: dict[str, list[Rowid]] = {}
    unmatched = []
    namings = by_paths(tickets, spec.tickets.rows)
    if spec.tickets.references:
        namings += [one for one in by_references(tickets, spec.name) if _is_there(one, rules)]
    for naming in namings:
        table = rules.tables[naming.table.removeprefix("public.")].shown
        if not naming.values:
            raise _names_nothing(naming, tickets)
        values = list(naming.values)
        found = engine.rows.named(table, naming.columns, values)
        if not found:
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


def write_seed(
    plan: Plan, engine: Engine, spec: Capture, target: Path, masking: RowMasking, trial: Trial | None = None, *, replace: bool, said: Said = lambda _: None
) -> CapturedSeed:  # fmt: skip
    """The captured seed in ``target``, or nothing.

    Raises `CaptureProblem`, `SpecError` when ``target`` may not be used, and what ``masking`` and ``trial`` raise.
    """
    names = sorted(plan.rules.tables)
    maskers = masking.maskers([plan.rules.tables[name] for name in _with_rows(plan)], plan.rules.edges)
    with building(target, MANIFEST, replace=replace) as directory:
        said("reading the definition")
        definition = engine.definition(plan.rules, directory, spec.leave_out_extensions)
        (directory / "tables").mkdir(mode=0o700)
        tables = {name: _without_rows(plan, name) for name in names}
        for name, masker in maskers.items():
            said(f"copying {name}")
            file = f"tables/{names.index(name) + 1:04}.copy"
            tables[name] = _write_table(plan, engine, tables[name], name, directory, file, masker, spec.value_bytes)
            point("capture.copied")
        if spec.tickets:
            for name, content in masking.tickets(plan.drawn, load_model(spec.tickets.file, Tickets)).items():
                _write(directory / name, content)
        engine.refuse_changed(plan.rules)
        scripts = {BEFORE: definition.before, AFTER: definition.after}
        digests = {name: _write(directory / name, text) for name, text in scripts.items()}
        manifest = _manifest(plan, engine, spec, definition.not_mirrored, tuple(tables.values()), dict(masking.facts), digests)
        _write(
            directory / MANIFEST, json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True) + "\n"
        )
        _write(directory / DIGEST, manifest.digest + "\n")
        source = {"name": spec.name, "engine": manifest.engine, "version": manifest.engine_version}
        facts = {"source": source, "seed": manifest.digest, "rows": {name: one.rows for name, one in tables.items()}}
        try:
            built = [trial.build(directory)] if trial else []
            said("searching for raw values")
            masking.attest(directory, built, facts)
        except BaseException:
            if trial:
                trial.remove()
            raise
    return manifest


def _with_rows(plan: Plan) -> list[str]:
    taken = plan.subset.taken
    return [name for name in sorted(plan.rules.tables) if name in taken and (taken[name] is None or taken[name])]


def _without_rows(plan: Plan, name: str) -> CapturedTable:
    table = plan.rules.tables[name]
    there, estimated = plan.there[name]
    columns = tuple(one.name for one in table.stored)
    is_ = "estimated" if estimated else "counted"
    return CapturedTable(schema=table.schema, name=table.name, columns=columns, there=there, there_is=is_)


def _write_table(
    plan: Plan, engine: Engine, table: CapturedTable, name: str, directory: Path, file: str, masker: Masker, largest: int
) -> CapturedTable:  # fmt: skip
    rows = plan.subset.taken[name]
    nulled = [(edge, lost) for edge, lost in plan.subset.nulled if edge.child == name]
    digest, count, size = hashlib.sha256(), 0, 0
    with _created(directory / file) as stream:
        for chunk, lines in engine.rows.chunks(name, None if rows is None else sorted(rows), nulled, largest):
            done = masker(chunk)
            digest.update(done)
            stream.write(done)
            count += lines
            size += len(done)
            if rows is None and count > plan.rules.rows:
                _whole_fits(name, count, plan.rules)
    if rows is not None and count != len(rows):
        raise CaptureProblem(
            f"{len(rows):,} rows of {name} were found, and {count:,} came",
            code="capture-rows-lost",
            cause="the source did not keep its snapshot",
            unchanged="nothing was made",
            hint="capture again; if it stays so, please report it",
        )
    known: dict[str, Any] = {"there": count, "there_is": "counted"} if rows is None else {}
    lost = {edge.label: len(lost) for edge, lost in nulled}
    found = {"file": file, "rows": count, "bytes": size, "sha256": digest.hexdigest(), "why": plan.why(name), "nulled": lost}
    return table.model_copy(update={**found, **known})


def _manifest(
    plan: Plan, engine: Engine, spec: Capture, gone: Mapping[str, str], tables: tuple[CapturedTable, ...], masked: dict[str, str], scripts: Mapping[str, str]
) -> CapturedSeed:  # fmt: skip
    facts = engine.facts
    return CapturedSeed(
        format=FORMAT,
        podctl=__version__,
        name=spec.name,
        engine=facts.engine,
        engine_version=facts.version,
        encoding=facts.encoding,
        locale=facts.locale,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        before=scripts[BEFORE],
        after=scripts[AFTER],
        tables=tables,
        edges=tuple(edge_facts(plan)),
        tickets={
            "count": plan.tickets,
            "sample": plan.sample,
            "unmatched": [asdict(one) for one in plan.unmatched],
        },
        masking=masked,
        not_mirrored={
            **engine.schema.not_mirrored,
            **gone,
            **{f"table {name}": "left out" for name in sorted(plan.rules.left_out)},
        },
        extensions={name: version for name, version in facts.extensions.items() if name not in spec.leave_out_extensions},
        dangling=plan.subset.dangling,
        digest=contents_digest(scripts[BEFORE], scripts[AFTER], tables, masked),
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


@contextmanager
def _created(path: Path) -> Iterator[Any]:
    with path.open("xb", buffering=1 << 20) as stream:
        path.chmod(0o600)
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _write(path: Path, text: str) -> str:
    """sha256 of what was written."""
    data = text.encode()
    with _created(path) as stream:
        stream.write(data)
    return hashlib.sha256(data).hexdigest()

"""From what would be taken to a captured seed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from podctl import __version__
from podctl.capture.building import building
from podctl.capture.distributions import likeness, looks
from podctl.capture.engine import Engine
from podctl.capture.masked import Masker, RowMasking
from podctl.capture.planning import Opened, Plan, Said, edge_facts, whole_fits
from podctl.capture.problems import CaptureProblem
from podctl.data.captured import (
    AFTER,
    BEFORE,
    DIGEST,
    FORMAT,
    HISTORY,
    MANIFEST,
    CapturedHistory,
    CapturedLikeness,
    CapturedSeed,
    CapturedTable,
    contents_digest,
)
from podctl.data.catalog import shown_name
from podctl.faults import point
from podctl.spec.load import load_model
from podctl.spec.models import Tickets


class Trial(Protocol):
    """Loads a captured seed into a PostgreSQL, which is the proof that it can be."""

    def build(self, seed: Path) -> Path:
        """What came of it: files that are searched with the seed. Raises `CaptureProblem`."""
        ...

    def remove(self) -> None:
        """Take what was built away again: raw values were found, or nobody knows that there are none."""
        ...


@dataclass(frozen=True)
class Order:
    """One seed to be made: of what, where, masked how, tried how."""

    source: Opened
    plan: Plan
    target: Path
    masking: RowMasking
    trial: Trial | None = None


def write_seeds(orders: Sequence[Order], *, replace: bool, said: Said = lambda _: None) -> list[CapturedSeed]:
    """Every captured seed in its place, or none of them.

    Raises `CaptureProblem`, `SpecError` when a target may not be used, and what masking and trial raise.
    """
    with ExitStack() as stack:
        directories = [stack.enter_context(building(order.target, MANIFEST, replace=replace)) for order in orders]
        seeds = [_copy(order, directory, said) for order, directory in zip(orders, directories, strict=True)]
        # What is left to do takes a while, and production has no part in it.
        for order in orders:
            order.source.engine.close()
        for order, directory, seed in zip(orders, directories, seeds, strict=True):
            _prove(order, directory, seed, said)
    return seeds


def _copy(order: Order, directory: Path, said: Said) -> CapturedSeed:
    plan, engine, spec, masking = order.plan, order.source.engine, order.source.spec, order.masking
    names = sorted(plan.rules.tables)
    with_rows = _with_rows(plan)
    in_files = sorted({*with_rows, *(plan.past.tables if plan.past else ())})
    maskers = masking.maskers([plan.rules.tables[name] for name in in_files], plan.rules.edges)
    said("reading the definition")
    definition = engine.definition(plan.rules, directory, spec.leave_out_extensions)
    (directory / "tables").mkdir(mode=0o700)
    tables = {name: _without_rows(plan, name) for name in names}
    for name, masker in maskers.items():
        said(f"copying {name}")
        file = f"tables/{names.index(name) + 1:04}.copy"
        if name in with_rows:
            table = _write_table(plan, engine, tables[name], name, directory, file, masker, spec.value_bytes)
            tables[name] = table.model_copy(update={"likeness": _likeness(plan, engine, name, masking)})
        if plan.past:
            plan.past.mask(name, masker)
        point("capture.copied")
    if spec.tickets:
        for name, content in masking.tickets(plan.drawn, load_model(spec.tickets.file, Tickets)).items():
            _write(directory / name, content)
    engine.refuse_changed(plan.rules)
    scripts = {BEFORE: definition.before, AFTER: definition.after}
    digests = {name: _write(directory / name, text) for name, text in scripts.items()}
    manifest = _manifest(plan, order.source, definition.not_mirrored, tuple(tables.values()), dict(masking.facts), digests)
    if plan.past:
        sha256 = _write_lines(directory / HISTORY, plan.past.lines(masking.ids))
        manifest = manifest.model_copy(update={"history": CapturedHistory(sha256=sha256, **plan.past.facts())})
    _write(directory / MANIFEST, json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True) + "\n")
    _write(directory / DIGEST, manifest.digest + "\n")
    return manifest


def _prove(order: Order, directory: Path, seed: CapturedSeed, said: Said) -> None:
    source = {"name": seed.name, "engine": seed.engine, "version": seed.engine_version}
    rows = {shown_name(table.schema_name, table.name): table.rows for table in seed.tables}
    try:
        built = [order.trial.build(directory)] if order.trial else []
        said("searching for raw values")
        order.masking.attest(directory, built, {"source": source, "seed": seed.digest, "rows": rows})
    except BaseException:
        if order.trial:
            order.trial.remove()
        raise


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
                whole_fits(name, count, plan.rules)
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


def _likeness(plan: Plan, engine: Engine, name: str, masking: RowMasking) -> CapturedLikeness | None:
    table, rows = plan.rules.tables[name], plan.subset.taken[name]
    columns = looks(table, plan.rules.edges, masking.known(table))
    sampled = engine.samples(name, columns, list(rows)) if rows and columns else None
    return None if sampled is None else likeness(columns, *sampled)


def _manifest(
    plan: Plan, source: Opened, gone: Mapping[str, str], tables: tuple[CapturedTable, ...], masked: dict[str, str], scripts: Mapping[str, str]
) -> CapturedSeed:  # fmt: skip
    engine, spec = source.engine, source.spec
    facts = engine.facts
    return CapturedSeed(
        format=FORMAT,
        podctl=__version__,
        name=spec.name,
        engine=facts.engine,
        engine_version=facts.version,
        encoding=facts.encoding,
        locale=facts.locale,
        taken_at=source.taken_at,
        together=dict(source.together),
        before=scripts[BEFORE],
        after=scripts[AFTER],
        tables=tables,
        edges=tuple(edge_facts(plan)),
        tickets={
            "count": plan.tickets,
            "sample": plan.sample,
            "unmatched": [asdict(one) for one in plan.unmatched],
            **({"unmasked": spec.tickets.unmasked} if spec.tickets and spec.tickets.unmasked else {}),
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


@contextmanager
def _created(path: Path) -> Iterator[Any]:
    with path.open("xb", buffering=1 << 20) as stream:
        path.chmod(0o600)
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _write(path: Path, text: str) -> str:
    """sha256 of what was written."""
    return _write_lines(path, [text])


def _write_lines(path: Path, lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    with _created(path) as stream:
        for line in lines:
            data = line.encode()
            digest.update(data)
            stream.write(data)
    return digest.hexdigest()

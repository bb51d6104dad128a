"""What a chaos campaign does beside an agent in its databases, when the gateway says that the moment has come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from podctl.backends.base import Backend, Exit, PodDatabase
from podctl.data.disturb import (
    LATER_MS,
    MARK,
    PATIENCE_MS,
    RIVAL,
    Busy,
    Migrated,
    Target,
    migrate,
    patient,
    run_migration,
    why,
    write_as_rival,
)
from podctl.errors import SpecError
from podctl.evidence.log import RecordWriter
from podctl.evidence.results import FaultsMet, Variant
from podctl.gateway.contract import Totals
from podctl.gateway.trigger import ELSEWHERE
from podctl.grading.disturbed import as_before, without_rival
from podctl.grading.sqlref import expected_changes
from podctl.runs import skew
from podctl.runs.damage import repeated_work
from podctl.spec.boundary import TableRule
from podctl.spec.bundle import Bundle
from podctl.spec.topology import databases
from podctl.tickets.types import Ticket

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Release = Callable[[], Awaitable[None]]


def is_faulted(variant: Variant | None) -> bool:
    return variant is not None and "faults" in variant.data


class Disturbance:
    """The faults of one attempt. Order: `prepare`, then `strike` at most once while the agent works, `end`, `graded`, `met`."""

    def __init__(self, variant: Variant, backend: Backend, pod: str, bundle: Bundle, ticket: Ticket) -> None:
        self._bundle = bundle
        self._ticket = ticket
        self._handles: dict[str, PodDatabase] = {name: backend.database(pod, name) for name in databases(bundle.topology)}
        self._fault: Mapping[str, Any] | None = next((one for one in variant.data["faults"] if one["kind"] in ELSEWHERE), None)
        self._clock: Mapping[str, Any] | None = next((one for one in variant.data["faults"] if one["kind"] == "clock"), None)
        self._targets: dict[str, list[Target]] = {}
        self._counts: Counter[str] = Counter()
        self._damage: list[str] = []
        self._migrated: Migrated | None = None
        self._striking: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def environment(self) -> dict[str, str]:
        """What an agent with another clock has in its environment."""
        return {} if self._clock is None else skew.environment(float(self._clock["offset"]))

    def look_at_clock(self, exit_: Exit, writer: RecordWriter) -> None:
        """Whether the agent's program saw the other time: a fault that did not come to be says nothing."""
        if self._clock is None:
            return
        why_not = skew.why_not(exit_, self._bundle.agent.directory)
        if why_not:
            self._note(writer, f"the agent's clock was right: {why_not}")
            return
        self._counts["clock"] += 1
        what = f"its clock was {self._clock['offset']:+,g} s off"
        writer.append("fault", "podctl", {"name": self._clock["name"], "kind": "clock", "door": "agent", "what": what})

    async def prepare(self) -> None:
        """Learn which rows the ticket is about, before anybody is in the databases. Raises `GraderProblem`."""
        if self._fault is None or self._fault["kind"] != "rival":
            return
        wanted = set(self._fault["tables"])
        for change in await expected_changes(self._ticket.reference, self._handles) or ():
            if change.op != "insert" and (not wanted or f"{change.database}.{change.table}" in wanted):
                rule = self._bundle.boundary.rights(change.database).get(change.table)
                first = frozenset(rule.update) if rule is not None and isinstance(rule.update, tuple) else frozenset()
                target = Target(change.table, change.key, frozenset(change.values), first)
                self._targets.setdefault(change.database, []).append(target)

    def strike(self, writer: RecordWriter, release: Release) -> None:
        """The agent's next call is held: do it, and ``release`` that call."""
        if self._fault is not None and self._striking is None:
            act = self._rival if self._fault["kind"] == "rival" else self._migration
            self._striking = asyncio.create_task(self._do(act, writer, release))

    async def end(self) -> None:
        """The agent has ended: nobody needs to keep rows locked. Raises `SpecError` for a migration that cannot be applied."""
        self._over.set()
        if self._striking is not None:
            await self._striking

    async def _do(
        self, act: Callable[[RecordWriter, Release], Awaitable[None]], writer: RecordWriter, release: Release
    ) -> None:
        try:
            await act(writer, release)
        finally:
            await release()

    # ---- a rival ----

    async def _rival(self, writer: RecordWriter, release: Release) -> None:
        for name, targets in self._targets.items():
            connection = await self._handles[name].beside()
            try:
                await self._write(connection, name, targets, writer, release)
            except psycopg.Error as error:
                self._note(writer, f"the rival could not write in {name}: {why(error)}")
            finally:
                await connection.close()

    async def _write(
        self, connection: Connection, name: str, targets: Sequence[Target], writer: RecordWriter, release: Release
    ) -> None:
        assert self._fault is not None
        hold, catalog = self._fault["hold"], self._handles[name].catalog
        await patient(connection, PATIENCE_MS)
        try:
            done = await write_as_rival(connection, catalog, targets, hold is not None)
        except Busy:
            # The agent itself has a lock on the row: it has to go on before anybody else can write there.
            await release()
            await patient(connection, LATER_MS)
            try:
                done = await write_as_rival(connection, catalog, targets, hold is not None)
            except Busy:
                self._note(writer, f"the rival could not write in {name}: the agent kept its rows locked")
                return
        for what in done:
            self._tell(writer, name, what if hold is None else f"{what}, locked for {hold:g} s")
        if hold is not None and done:
            await release()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), float(hold))
        await connection.execute("COMMIT")

    # ---- a migration ----

    async def _migration(self, writer: RecordWriter, release: Release) -> None:
        assert self._fault is not None
        name = self._fault["database"] or next(iter(self._handles))
        connection = await self._handles[name].beside()
        try:
            await patient(connection, PATIENCE_MS)
            try:
                self._migrated = await self._change(connection, name)
            except Busy:
                await release()
                await patient(connection, LATER_MS)
                self._migrated = await self._change(connection, name)
            self._tell(writer, name, self._migrated.what)
        except Busy:
            self._note(writer, f"the migration of {name} found no moment without the agent's locks")
        except (psycopg.Error, LookupError, OSError) as error:
            raise SpecError(
                f"the fault {self._fault['name']} could not be made in {name}",
                code="chaos-migration",
                cause=why(error),
                unchanged="the run was ended; its finished attempts are kept",
                hint="name another table or column, or mend the SQL",
            ) from error
        finally:
            await connection.close()

    async def _change(self, connection: Connection, name: str) -> Migrated:
        assert self._fault is not None
        if self._fault.get("script") is not None:
            return await run_migration(connection, self._fault["script"], self._fault["sql"])
        table, column = self._place(name)
        return await migrate(connection, self._handles[name].catalog, self._fault["change"], table, column)

    def _place(self, name: str) -> tuple[str, str]:
        """The table and column that the fault names, else the first that the agent may update, else the first that it may write."""
        assert self._fault is not None
        rights: Mapping[str, TableRule] = self._bundle.boundary.rights(name)
        writable = [table for table, rule in rights.items() if rule.update] or [t for t, rule in rights.items() if rule.insert]
        table = self._fault["table"] or (writable[0] if writable else "")
        columns = rights[table].update if table in rights else ()
        first = columns[0] if isinstance(columns, tuple | list) and columns else ""
        if not first:
            known = next((one for one in self._handles[name].catalog.tables.values() if one.shown == table), None)
            first = next((one.name for one in known.columns if not one.key), "") if known else ""
        return table, self._fault["column"] or first

    # ---- what is said of it ----

    def _tell(self, writer: RecordWriter, name: str, what: str) -> None:
        assert self._fault is not None
        self._counts[self._fault["kind"]] += 1
        told = {"name": self._fault["name"], "kind": self._fault["kind"], "door": name, "what": what}
        writer.append("fault", "podctl", told)

    def _note(self, writer: RecordWriter, body: str) -> None:
        writer.append("log", "podctl", {"severity": "WARN", "body": body})

    def graded(self, changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The changes as they are graded: without the rival's, with columns called as they were."""
        if self._migrated is not None:
            changes = as_before(changes, self._migrated.renamed, self._migrated.added)
        if any(change.get("user") == RIVAL for change in changes):
            changes, lost = without_rival(changes, RIVAL, MARK)
            self._damage += lost
        return changes

    def met(self, totals: Totals, directory: Path) -> FaultsMet:
        counts = Counter(totals.faults) + self._counts
        return FaultsMet(dict(counts), round(totals.fault_s, 3), (*self._damage, *repeated_work(directory)))

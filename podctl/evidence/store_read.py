"""What a store says of its runs: read here alone, through SQLAlchemy or, where only looking is wanted, through SQLite itself.

Loading SQLAlchemy takes longer than most answers: commands that only look begin with `open_to_read`.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from podctl.clock import Clock
from podctl.errors import ExitCode
from podctl.evidence import codec
from podctl.evidence.audit_entries import MOST
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, Comparison, GateFinding, RunInfo, RunResult
from podctl.evidence.store_problems import HEAD, StoreProblem, in_words, no_attempt, no_run
from podctl.evidence.store_rows import AttemptSummary, Question, RunSummary, decimal, known_dollars, status_of, variant_of
from podctl.evidence.store_text import loaded, storable

#: Tickets whose attempts are read at once by `StoreReader.each_attempt`.
_PART = 1_000
#: Entries of the audit log that are read at once.
_ROWS = 10_000
#: Seconds to wait for a writer before giving up.
WAIT_S = 10.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

#: The rows of one statement in SQL that both SQLite and PostgreSQL know; ``:name`` stands for a parameter.
Query = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True)
class StorePlace:
    """Where a store is: a directory, or a PostgreSQL database that machines share, and a directory for files of it here."""

    directory: Path
    url: str | None = None


class StoreReader:
    """Every method raises `StoreProblem` for what a user may meet, and reads from one consistent state."""

    def __init__(self, directory: Path, reading: Callable[[], AbstractContextManager[Query]]) -> None:
        self.directory = directory
        self._reading = reading

    def has_run(self, run: str) -> bool:
        with self._reading() as query:
            return bool(query("SELECT 1 FROM runs WHERE id = :run", run=run))

    def load_run(self, run: str) -> RunResult:
        """A run that has not finished comes with the attempts that have ended and what was spent so far."""
        with self._reading() as query:
            head = _head(query, run)
            ended = query("SELECT result FROM attempts WHERE run = :run AND state = 'ended' ORDER BY position, repeat", run=run)
        return replace(head, attempts=tuple(_result(text) for (text,) in ended))

    def load_head(self, run: str) -> RunResult:
        """As `load_run`, without its attempts."""
        with self._reading() as query:
            return _head(query, run)

    def each_attempt(self, run: str) -> Iterator[AttemptResult]:
        """Those that have ended, in order; a part is read at a time, so of a run under way what ends meanwhile may be among them."""
        after = -1
        while True:
            with self._reading() as query:
                # By position, which is a ticket's: its repeats come together.
                some = query(
                    "SELECT position, result FROM attempts WHERE run = :run AND state = 'ended' AND position > :after"
                    " AND position <= :until ORDER BY position, repeat",
                    run=run,
                    after=after,
                    until=after + _PART,
                )
                left = query(
                    "SELECT min(position) FROM attempts WHERE run = :run AND state = 'ended' AND position > :until",
                    run=run,
                    until=after + _PART,
                )
            yield from (_result(text) for _, text in some)
            if left[0][0] is None:
                return
            after = left[0][0] - 1

    def load_info(self, run: str) -> RunInfo:
        """Of a large run much quicker than `load_run`."""
        with self._reading() as query:
            found = query("SELECT info FROM runs WHERE id = :run", run=run)
        if not found:
            raise no_run(run)
        return codec.from_json(RunInfo, json.loads(found[0][0]))

    def load_attempt(self, run: str, attempt: str) -> AttemptResult:
        with self._reading() as query:
            found = query("SELECT state, result FROM attempts WHERE run = :run AND id = :id", run=run, id=attempt)
        if not found:
            raise no_attempt(run, attempt)
        state, result = found[0]
        if state != "ended":
            what = f"attempt {attempt} of run {run} has not ended"
            raise StoreProblem(what, code="attempt-not-ended", cause=f"it is {state}")
        return _result(result)

    def planned_tickets(self, run: str) -> list[str]:
        """Each once, in the order of the run, whether its attempts were made or not."""
        with self._reading() as query:
            rows = query("SELECT ticket, min(position) FROM attempts WHERE run = :run GROUP BY ticket ORDER BY 2, 1", run=run)
        return [loaded(ticket) for ticket, _ in rows]

    def list_attempts(self, run: str) -> list[AttemptSummary]:
        """Those that have ended, in order; of a large run much quicker than `load_run`."""
        with self._reading() as query:
            if not query("SELECT 1 FROM runs WHERE id = :run", run=run):
                raise no_run(run)
            rows = query(
                "SELECT id, ticket, stratum, passed, cause, wall_s, dollars, result, variant FROM attempts"
                " WHERE run = :run AND state = 'ended' ORDER BY position, repeat",
                run=run,
            )
        return [
            AttemptSummary(
                attempt,
                loaded(ticket),
                loaded(stratum),
                bool(passed),
                Cause(cause),
                wall_s,
                decimal(dollars),
                json.loads(result).get("boundary_attempts", 0),
                variant_of(variant),
            )
            for attempt, ticket, stratum, passed, cause, wall_s, dollars, result, variant in rows
        ]

    def find_attempt(self, run: str, name: str, repeat: int) -> AttemptResult | None:
        """The ended attempt with the id ``name``, or the ``repeat``-th on the ticket ``name``."""
        with self._reading() as query:
            found = query(
                "SELECT result FROM attempts WHERE run = :run AND state = 'ended'"
                " AND (id = :name OR (ticket = :ticket AND repeat = :repeat)) ORDER BY position, repeat LIMIT 1",
                run=run,
                name=name,
                ticket=storable(name),
                repeat=repeat,
            )
        return _result(found[0][0]) if found else None

    def list_runs(self) -> list[RunSummary]:
        """Newest first."""
        with self._reading() as query:
            rows = query("SELECT id, info, status, owner, verdict, spent_dollars FROM runs ORDER BY started_ns DESC, id DESC")
            counts = query(
                "SELECT run, variant IS NULL, state, passed, count(*) FROM attempts GROUP BY run, variant IS NULL, state, passed"
            )
            spent = {
                run: _dollars(query, run) if status == "running" else decimal(dollars)
                for run, _info, status, _owner, _verdict, dollars in rows
            }
        summed: dict[str, Counter[str]] = {row[0]: Counter() for row in rows}
        for run, plain, state, passed, number in counts:
            totals, of = summed[run], "" if plain else "variants_"
            totals[f"{of}planned"] += number
            totals[f"{of}ended"] += number if state == "ended" else 0
            totals["passed"] += number if plain and state == "ended" and passed else 0
        names = ("planned", "ended", "passed", "variants_planned", "variants_ended")
        return [
            RunSummary(
                codec.from_json(RunInfo, json.loads(info)),
                status_of(status, owner),
                verdict,
                spent[run],
                **{name: summed[run][name] for name in names},
            )
            for run, info, status, owner, verdict, _dollars_text in rows
        ]

    def tallies(self) -> dict[str, list[tuple[int, int]]]:
        """Run -> (passed, of) of each ticket, over plain attempts that count; of many runs quick."""
        counting = ", ".join(f"'{cause.value}'" for cause in Cause if cause.counts)
        with self._reading() as query:
            rows = query(
                "SELECT run, sum(CASE WHEN passed THEN 1 ELSE 0 END), count(*) FROM attempts"
                f" WHERE state = 'ended' AND variant IS NULL AND cause IN ({counting}) GROUP BY run, ticket"
            )
        found: dict[str, list[tuple[int, int]]] = {}
        for run, passed, of in rows:
            found.setdefault(run, []).append((int(passed), int(of)))
        return found

    def find_run(self, name: str) -> str:
        """The id of the run that ``name`` begins, or of the ``latest``."""
        with self._reading() as query:
            newest = "SELECT id FROM runs {} ORDER BY started_ns DESC, id DESC"
            if name == "latest":
                rows = query(newest.format("") + " LIMIT 1")
            else:
                rows = query(newest.format("WHERE substr(id, 1, :length) = :name"), length=len(name), name=name)
        found = [run for (run,) in rows]
        if name in found or (len(found) == 1 and name):
            return name if name in found else found[0]
        if not found:
            raise no_run(name)
        listed = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise StoreProblem(
            f"{name!r} begins the ids of {len(found)} runs",
            code="run-ambiguous",
            cause=listed,
            hint="give more of the id",
            exit_code=ExitCode.USAGE,
        )

    def cut_off(self) -> str | None:
        """The latest run, when its podctl died before it finished."""
        with self._reading() as query:
            found = query("SELECT id, status, owner FROM runs ORDER BY started_ns DESC, id DESC LIMIT 1")
        cut = [run for run, status, owner in found if status == "running" and status_of(status, owner) == "interrupted"]
        return cut[0] if cut else None

    def kept_projections(self) -> list[tuple[str, dict[str, Any]]]:
        """(id, JSON form) of every projection that was kept, oldest first."""
        with self._reading() as query:
            found = query("SELECT id, body FROM projections ORDER BY made_ns, id")
        return [(name, json.loads(body)) for name, body in found]

    def entered_bills(self) -> list[dict[str, Any]]:
        """Bills as they were given to `Store.enter_bills`, by projection and period."""
        with self._reading() as query:
            return [json.loads(body) for (body,) in query("SELECT body FROM bills ORDER BY projection, what, period")]

    # ---- the audit log --------------------------------------------------------------

    def audit_head(self) -> tuple[str, int, str]:
        """The log's name, its size, and its frontier in hexadecimal."""
        with self._reading() as query:
            found = query("SELECT origin, size, peaks FROM audit_head")
        if len(found) != 1:
            raise StoreProblem("the store's audit log has no head", code="audit-damaged", cause=f"there are {len(found)}")
        return found[0][0], found[0][1], found[0][2]

    def audit_rows(self, run: str | None = None) -> Iterator[tuple[int, str, str | None, str]]:
        """(position, run, entry, leaf), in order; an entry too long to be one is None. Those of ``run``, or all."""
        of_run = "" if run is None else " AND run = :run"
        after = -1
        while True:
            with self._reading() as query:
                rows = query(
                    f"SELECT position, run, CASE WHEN length(entry) <= {MOST} THEN entry END, leaf FROM audit"
                    f" WHERE position > :after{of_run} ORDER BY position LIMIT {_ROWS}",
                    after=after,
                    **({} if run is None else {"run": run}),
                )
            yield from ((row[0], row[1], row[2], row[3]) for row in rows)
            if len(rows) < _ROWS:
                return
            after = rows[-1][0]

    def audit_checkpoints(self) -> list[tuple[int, str, str]]:
        """(size, note, the signer's public key in hexadecimal), the smallest first."""
        with self._reading() as query:
            rows = query("SELECT size, note, key FROM audit_checkpoints ORDER BY size")
        return [(row[0], row[1], row[2]) for row in rows]

    def stored_runs(self) -> set[str]:
        with self._reading() as query:
            return {run for (run,) in query("SELECT id FROM runs")}

    def stored_run(self, run: str) -> dict[str, Any]:
        """The columns of a run's row that its log entries have digests of."""
        names = ("status", "verdict", "spent_dollars", "findings", "comparison", "notes", "info")
        with self._reading() as query:
            found = query(f"SELECT {', '.join(names)} FROM runs WHERE id = :run", run=run)
        if not found:
            raise no_run(run)
        return dict(zip(names, found[0], strict=True))

    def stored_attempts(self, run: str) -> list[tuple[str, str, str, str | None]]:
        """(id, state, evidence_root, result) of every attempt, in order."""
        with self._reading() as query:
            rows = query(
                "SELECT id, state, evidence_root, result FROM attempts WHERE run = :run ORDER BY position, repeat", run=run
            )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def copies(self, run: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Columns that lists are made of, each with the JSON that has the same: the run's with ``info``, ended attempts' with ``result``."""
        of_run = ("info", "id", "scenario", "agent_name", "agent_version", "agent_digest", "started_ns")
        of_attempt = ("result", "id", "position", "repeat", "ticket", "stratum", "cause", "passed", "dollars", "wall_s")
        with self._reading() as query:
            [row] = query(f"SELECT {', '.join(of_run)} FROM runs WHERE id = :run", run=run) or [()]
            if not row:
                raise no_run(run)
            rows = query(
                f"SELECT {', '.join(of_attempt)} FROM attempts WHERE run = :run AND state = 'ended' ORDER BY position, repeat",
                run=run,
            )
        return dict(zip(of_run, row, strict=True)), [dict(zip(of_attempt, row, strict=True)) for row in rows]

    # ---- approvals ------------------------------------------------------------------

    def questions(self, run: str = "") -> list[Question]:
        """Proposals that people were asked about, the oldest first; of every run without ``run``."""
        columns = "SELECT id, run, attempt, asked_ns, until_ns, state, question FROM approvals"
        with self._reading() as query:
            if run:
                rows = query(f"{columns} WHERE run = :run ORDER BY asked_ns, id", run=run)
            else:
                rows = query(f"{columns} ORDER BY asked_ns, id")
        return [
            Question(id, of, attempt, asked_ns, until_ns, state, json.loads(question))
            for id, of, attempt, asked_ns, until_ns, state, question in rows
        ]

    # ---- files ----------------------------------------------------------------------

    def run_directory(self, run: str) -> Path:
        if not NAME.fullmatch(run):
            raise no_run(run)
        return self.directory / "runs" / run

    def attempt_directory(self, run: str, attempt: str) -> Path:
        """Made when the attempt is first tried."""
        if not NAME.fullmatch(attempt):
            raise no_attempt(run, attempt)
        return self.run_directory(run) / "attempts" / attempt

    def evidence_directory(self, run: str, attempt: str) -> Path:
        """The attempt's directory, to read: its files are there, also those that another machine wrote."""
        return self.attempt_directory(run, attempt)


def open_place(place: StorePlace, clock: Clock) -> StoreReader:
    """To look into it, in the quickest way that there is. Raises `StoreProblem`."""
    if place.url is None:
        return open_to_read(place.directory, clock)
    from podctl.evidence.store import Store

    return Store.at(place, clock)


def open_to_read(directory: Path, clock: Clock, wait_s: float = WAIT_S) -> StoreReader:
    """A store in a directory, as `Store.open` would give it, without loading SQLAlchemy where nothing is to be made,
    migrated or refused. Raises `StoreProblem`."""
    path = directory / "store.db"
    try:
        if _is_current(path, wait_s):
            return StoreReader(directory, lambda: _sqlite_reading(path, wait_s))
    except (sqlite3.Error, OSError):
        pass  # whatever is wrong, opening it in full says so
    from podctl.evidence.store import Store

    return Store.open(directory, clock, wait_s=wait_s)


def _is_current(path: Path, wait_s: float) -> bool:
    if not path.is_file() or path.stat().st_size < _SMALLEST:
        return False
    with _sqlite(path, wait_s) as connection:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        if path.stat().st_size % page:
            return False
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


#: A file without even one page is no store.
_SMALLEST = 512


@contextmanager
def _sqlite(path: Path, wait_s: float) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=wait_s, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _sqlite_reading(path: Path, wait_s: float) -> Iterator[Query]:
    try:
        with _sqlite(path, wait_s) as connection:
            connection.execute("BEGIN")
            yield lambda statement, **parameters: connection.execute(statement, parameters).fetchall()
    except sqlite3.Error as error:
        raise in_words(error, str(path), wait_s) from error


def _head(query: Query, run: str) -> RunResult:
    found = query(
        "SELECT info, status, owner, verdict, findings, comparison, notes, spent_dollars FROM runs WHERE id = :run",
        run=run,
    )
    if not found:
        raise no_run(run)
    info, status, owner, verdict, findings, comparison, notes, spent_dollars = found[0]
    compared = json.loads(comparison)
    return RunResult(
        info=codec.from_json(RunInfo, json.loads(info)),
        status=status_of(status, owner),
        attempts=(),
        verdict=verdict,
        findings=tuple(codec.from_json(GateFinding, finding) for finding in json.loads(findings)),
        comparison=None if compared is None else codec.from_json(Comparison, compared),
        spent_dollars=_dollars(query, run) if status == "running" else decimal(spent_dollars),
        notes=tuple(json.loads(notes)),
    )


def _result(text: str) -> AttemptResult:
    return codec.from_json(AttemptResult, json.loads(text))


def _dollars(query: Query, run: str) -> Any:
    return known_dollars(dollars for (dollars,) in query("SELECT dollars FROM tries WHERE run = :run", run=run))

"""podctl's own store: which runs there were, what was planned, what each try came to and cost.

One directory: ``store.db`` and ``runs/<run id>/attempts/<attempt id>/`` with the attempt's files. The files of a try
that was run again are kept in ``tries/<number>/`` of the attempt's directory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from podctl.clock import Clock
from podctl.evidence import codec
from podctl.evidence.audit_entries import Entry, digest
from podctl.evidence.audit_facts import begun_facts, judged_facts, result_facts, sealed_facts
from podctl.evidence.audit_log import AuditLog
from podctl.evidence.causes import Cause
from podctl.evidence.database import Database, open_sqlite, open_url
from podctl.evidence.owner import Owner
from podctl.evidence.records import Tokens
from podctl.evidence.results import AttemptResult, RunInfo, RunResult
from podctl.evidence.schema import approvals, attempts, bills, projections, runs, tries
from podctl.evidence.shared import SharedFiles, fetch
from podctl.evidence.store_problems import UNCHANGED, StoreProblem, no_attempt, no_run, unusable
from podctl.evidence.store_read import NAME, WAIT_S, Query, StorePlace, StoreReader
from podctl.evidence.store_rows import (
    AttemptState,
    Planned,
    Question,
    Spent,
    Try,
    dump,
    info_columns,
    result_columns,
    run_columns,
    sum_of,
    try_columns,
    try_of,
    variant_of,
)
from podctl.faults import point
from podctl.signing import PublicKey, SigningKey

_NO_TOKENS = Tokens()


class RunLost(StoreProblem):
    """Somebody else works on the run now; this process must leave the run and its pods alone."""


class Store(StoreReader):
    """Every method raises `StoreProblem` for what a user may meet. Safe for threads and processes."""

    def __init__(
        self,
        directory: Path,
        database: Database,
        clock: Clock,
        files: SharedFiles | None = None,
        key: SigningKey | None = None,
    ) -> None:
        super().__init__(directory, self._querying)
        self._log = AuditLog(clock, key)
        self._database = database
        self._clock = clock
        self._files = files
        self._owners: dict[str, str] = {}  # run -> who works on it, as far as this process does

    @staticmethod
    def at(place: StorePlace, clock: Clock, *, wait_s: float = WAIT_S, key: SigningKey | None = None) -> Store:
        return Store.open(place.directory, clock, url=place.url, wait_s=wait_s, key=key)

    @staticmethod
    def open(
        directory: Path, clock: Clock, *, url: str | None = None, wait_s: float = WAIT_S, key: SigningKey | None = None
    ) -> Store:
        """Makes the store when there is none. With ``url`` it is in PostgreSQL, and ``directory`` has the files of this
        machine's runs while they are written, and copies of others' once they were read. ``key`` signs the audit log."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(str(directory), error) from error
        if url:
            return Store(directory, open_url(url, wait_s), clock, SharedFiles(), key)
        return Store(directory, open_sqlite(directory / "store.db", wait_s), clock, key=key)

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _querying(self) -> Iterator[Query]:
        with self._database.reading() as connection:
            yield lambda statement, **parameters: [tuple(row) for row in connection.execute(text(statement), parameters)]

    # ---- the audit log --------------------------------------------------------------

    @property
    def signs(self) -> bool:
        """Whether the audit log is signed by this process."""
        return self._log.key is not None

    @property
    def signer(self) -> PublicKey | None:
        """Whose key signs the audit log in this process."""
        return None if self._log.key is None else self._log.key.public

    def append(self, entries: Sequence[Entry]) -> None:
        """Something else that happened, all of it or nothing: what is of a run that this process works on, only while it does.

        Raises `RunLost`; `ValueError` for an entry that is none.
        """
        mine = {entry.run for entry in entries} & self._owners.keys()
        with self._database.writing() as connection:
            for run in mine:
                self._refuse_lost(connection, run)
            self._log.append(connection, entries)

    def checkpoint(self) -> str:
        """A checkpoint of the audit log as it is now, kept in the store too; signed with the key that the store was opened with."""
        with self._database.writing() as connection:
            return self._log.checkpoint(connection)

    # ---- a run's life ---------------------------------------------------------------

    def create_run(self, info: RunInfo, planned: Sequence[Planned], owner: Owner) -> None:
        if not NAME.fullmatch(info.id) or not all(NAME.fullmatch(attempt.id) for attempt in planned):
            raise ValueError("a run's or attempt's id is a file name: letters, digits, dots, dashes, underscores")
        row = {**info_columns(info), "status": "running", "verdict": "inconclusive", "spent_dollars": None}
        row |= {"findings": "[]", "comparison": "null", "notes": "[]", "owner": dump(owner)}
        wanted = [_planned_columns(info.id, attempt) for attempt in planned]
        try:
            with self._database.writing() as connection:
                connection.execute(insert(runs), row)
                if wanted:
                    connection.execute(insert(attempts), wanted)
                begun = {**begun_facts(info, row["info"]), "planned": len(planned), "pid": owner.pid}
                self._log.append(connection, [Entry("run.begun", info.id, data=begun)])
        except IntegrityError as error:
            raise StoreProblem(f"run {info.id} exists already", code="run-exists", cause=str(error.orig)) from error
        self._owners[info.id] = row["owner"]
        (self.directory / "runs" / info.id / "attempts").mkdir(parents=True, exist_ok=True)

    def start_try(self, run: str, attempt: str, try_no: int) -> None:
        """``try_no`` counts from 1. Files that an earlier try left are moved to ``tries/<its number>/`` first."""
        row = {"run": run, "attempt": attempt, "number": try_no, "started_ns": self._clock.wall_ns()}
        row |= {"dollars_upper": "0", "tokens": dump(Tokens())}
        directory = self.attempt_directory(run, attempt)
        try:
            with self._writing(run) as connection:
                connection.execute(insert(tries), row)
                _change_attempt(connection, run, attempt, state="running", tries=try_no)
                directory.mkdir(parents=True, exist_ok=True)
                if try_no > 1:
                    _set_aside(directory, try_no - 1)
                    point("try.set-aside")
        except IntegrityError as error:
            cause = f"try {try_no} of attempt {attempt} was started before"
            raise StoreProblem(f"attempt {attempt} of run {run} cannot be started", code="try-exists", cause=cause) from error

    def finish_try(self, run: str, attempt: str, try_no: int, result: AttemptResult, dollars_upper: Decimal) -> None:
        """The attempt has ended with ``result``, whose tokens and dollars are this try's; starting another try takes it back.

        ``dollars_upper`` is the most that the try can have cost: what is known, and what was reserved for calls without an answer.
        """
        ended = result.ended_ns or self._clock.wall_ns()
        columns = result_columns(result)
        sealed = {"try": try_no, **sealed_facts(result, columns["result"], self.attempt_directory(run, attempt))}
        with self._writing(run) as connection:
            _end_try(connection, run, attempt, try_no, ended, result.cause, result.dollars, dollars_upper, result.tokens)
            _change_attempt(connection, run, attempt, **columns)
            self._keep(connection, run, attempt)
            self._log.append(connection, [Entry("attempt.sealed", run, attempt, sealed)])

    def abandon_try(
        self,
        run: str,
        attempt: str,
        try_no: int,
        *,
        dollars: Decimal | None,
        dollars_upper: Decimal,
        tokens: Tokens = _NO_TOKENS,
        cause: Cause = Cause.PODCTL_FAILED,
    ) -> None:
        """A try that does not count: what it spent is kept, and the attempt is to be made again."""
        with self._writing(run) as connection:
            _end_try(connection, run, attempt, try_no, self._clock.wall_ns(), cause, dollars, dollars_upper, tokens)
            _change_attempt(connection, run, attempt, state="planned")
            self._keep(connection, run, attempt)
            self._log.append(connection, [Entry("try.abandoned", run, attempt, {"try": try_no, "cause": cause.value})])

    def finish_run(self, run: str, result: RunResult) -> None:
        """Also keeps attempts of ``result`` that are not as finished: graded again, or cancelled before they began."""
        row = run_columns(result)
        with self._writing(run) as connection:
            if connection.execute(update(runs).where(runs.c.id == run).values(row)).rowcount != 1:
                raise no_run(run)
            of_run = select(attempts.c.id, attempts.c.result).where(attempts.c.run == run)
            kept: dict[str, str | None] = {row.id: row.result for row in connection.execute(of_run)}
            told = []
            for attempt in result.attempts:
                columns = result_columns(attempt)
                if kept.get(attempt.id) != columns["result"]:
                    _change_attempt(connection, run, attempt.id, **columns)
                    told.append(Entry("attempt.judged", run, attempt.id, result_facts(attempt, columns["result"])))
            self._log.append(connection, [*told, Entry("run.judged", run, data=judged_facts(result, row))])

    def take_in(self, result: RunResult, planned: Sequence[AttemptState], made: Sequence[Try]) -> None:
        """A run that was made elsewhere and has ended, whole or not at all. Its attempts' files are in their directories already."""
        run = result.info.id
        ended = {attempt.id: result_columns(attempt) for attempt in result.attempts}
        of_attempts = [
            {**_NOT_ENDED, **_planned_columns(run, state.planned), "tries": state.tries, **ended.get(state.planned.id, {})}
            for state in planned
        ]
        columns = run_columns(result)
        begun = {**begun_facts(result.info, columns["info"]), "runs": list(result.info.merged)}
        told = [Entry("run.merged", run, data=begun)]
        told += [
            Entry(
                "attempt.sealed", run, one.id, sealed_facts(one, ended[one.id]["result"], self.attempt_directory(run, one.id))
            )
            for one in result.attempts
        ]
        told.append(Entry("run.judged", run, data=judged_facts(result, columns)))
        try:
            with self._database.writing() as connection:
                connection.execute(insert(runs), {**columns, "owner": dump(Owner.current())})
                connection.execute(insert(attempts), of_attempts)
                if made:
                    connection.execute(insert(tries), [{**try_columns(one), "run": run} for one in made])
                for state in planned:
                    if state.tries:
                        self._keep(connection, run, state.planned.id)
                self._log.append(connection, told)
        except IntegrityError as error:
            raise StoreProblem(f"run {run} exists already", code="run-exists", cause=str(error.orig)) from error

    def take_over(self, run: str, owner: Owner, *, force: bool = False, info: RunInfo | None = None) -> None:
        """Make ``owner`` the one that works on the run, of which ``info`` holds from now on. Refused while another may be at it, and
        for a finished run.

        ``force`` is for who knows otherwise that the owner has lost the run, by a lease for instance: what it still writes
        is refused (`RunLost`).
        """
        with self._database.writing() as connection:
            wanted = select(runs.c.status, runs.c.owner, runs.c.info).where(runs.c.id == run).with_for_update()
            row = connection.execute(wanted).one_or_none()
            if row is None:
                raise no_run(run)
            if row.status == "finished":
                raise StoreProblem(f"run {run} has finished", code="run-finished", unchanged=UNCHANGED)
            before = codec.from_json(Owner, json.loads(row.owner))
            _refuse_while_owned(run, before, owner, row.status, force)
            if self._files is not None and not (before.is_here() and self.run_directory(run).is_dir()):
                self._move_here(connection, run)
            known = {} if info is None else info_columns(info)
            connection.execute(update(runs).where(runs.c.id == run).values(owner=dump(owner), status="running", **known))
            resumed = {
                "pid": owner.pid,
                "host": owner.host,
                "forced": force and before != owner and before.alive() is not False,
                "info": digest(known.get("info", row.info)),
            }
            self._log.append(connection, [Entry("run.resumed", run, data=resumed)])
        self._owners[run] = dump(owner)

    @contextmanager
    def _writing(self, run: str) -> Iterator[Connection]:
        """A transaction of who works on the run: refused when another has taken the run over since."""
        try:
            with self._database.writing() as connection:
                self._refuse_lost(connection, run)
                yield connection
        except BaseException:
            if self._files is not None:
                self._files.forget(run)  # what the failed transaction sent is not there
            raise

    def _refuse_lost(self, connection: Connection, run: str) -> None:
        mine = self._owners.get(run)
        owner = select(runs.c.owner).where(runs.c.id == run).with_for_update(read=True)
        if mine is not None and connection.execute(owner).scalar() != mine:
            raise RunLost(
                f"run {run} was taken over by another process",
                code="run-lost",
                unchanged="what it did since was left alone",
            )

    # ---- projections and bills -------------------------------------------------------

    def keep_projection(self, id: str, body: Mapping[str, Any]) -> bool:
        """``body``: a projection's JSON form. False when one of this id is kept already; it stays as it was first stated."""
        row = {"id": id, "run": body["run"], "made_ns": body["madeNs"], "body": json.dumps(body)}
        with self._database.writing() as connection:
            if connection.execute(select(projections.c.id).where(projections.c.id == id)).first() is not None:
                return False
            connection.execute(insert(projections), row)
        return True

    def enter_bills(self, entered: Sequence[Mapping[str, Any]]) -> None:
        """All of them or, on an error, none; each replaces one for the same ``projection``, ``what`` and ``period``."""
        names = ("projection", "what", "period", "entered_ns")
        with self._database.writing() as connection:
            for bill in entered:
                same = [bills.c[name] == bill[name] for name in names[:3]]
                connection.execute(delete(bills).where(*same))
                connection.execute(insert(bills), {name: bill[name] for name in names} | {"body": json.dumps(bill)})

    # ---- approvals ------------------------------------------------------------------

    def ask(self, question: Question) -> None:
        """People may answer it from now on."""
        row = {name: getattr(question, name) for name in ("id", "run", "attempt", "asked_ns", "until_ns", "state")}
        with self._writing(question.run) as connection:
            connection.execute(insert(approvals), row | {"question": json.dumps(question.asked)})

    def answer(self, question: Question, envelope: str, facts: Mapping[str, Any]) -> None:
        """Give an answer, which the audit log tells with ``facts``. Raises `StoreProblem` where it is too late, or one was given before."""
        waiting = (approvals.c.id == question.id, approvals.c.state == "waiting", approvals.c.until_ns > self._clock.wall_ns())
        with self._database.writing() as connection:
            changed = connection.execute(update(approvals).where(*waiting).values(state="answered", answer=envelope))
            if changed.rowcount != 1:
                raise StoreProblem(
                    f"proposal {question.id} cannot be answered any more",
                    code="proposal-over",
                    cause="it was answered before, or its time is over, or its attempt has ended",
                    unchanged=UNCHANGED,
                    hint="podctl approvals list shows what waits",
                )
            told = {"proposal": question.id, "action": question.asked.get("action"), **facts}
            self._log.append(connection, [Entry("approval.answered", question.run, question.attempt, told)])

    def take_answers(self, run: str) -> list[tuple[str, str]]:
        """(proposal, envelope) of what was answered since the last time. Each is given out once, whatever happens then."""
        answered = (approvals.c.run == run, approvals.c.state == "answered")
        with self._database.reading() as connection:
            if connection.execute(select(approvals.c.id).where(*answered)).first() is None:
                return []
        with self._writing(run) as connection:
            found = connection.execute(select(approvals.c.id, approvals.c.answer).where(*answered).with_for_update()).all()
            connection.execute(update(approvals).where(*answered).values(state="taken"))
        return [(row.id, row.answer) for row in found]

    def wait_again(self, run: str, proposal: str) -> None:
        """What was taken for its answer was none."""
        with self._writing(run) as connection:
            taken = (approvals.c.id == proposal, approvals.c.state == "taken")
            connection.execute(update(approvals).where(*taken).values(state="waiting", answer=None))

    def end_questions(self, run: str, *proposals: str) -> None:
        """Nobody may answer them any more; every one of the run without ``proposals``."""
        which = approvals.c.id.in_(proposals) if proposals else approvals.c.state.in_(("waiting", "answered"))
        with self._writing(run) as connection:
            connection.execute(update(approvals).where(approvals.c.run == run, which).values(state="ended"))

    # ---- files, where machines share the store --------------------------------------

    @property
    def is_shared(self) -> bool:
        return self._files is not None

    def keep_files(self, run: str) -> None:
        """Send what grew of the attempts that are being made. Nothing where the store is this machine's."""
        if self._files is None:
            return
        with self._writing(run) as connection:
            under_way = select(attempts.c.id).where(attempts.c.run == run, attempts.c.state == "running")
            for attempt in connection.execute(under_way).scalars().all():
                self._keep(connection, run, attempt)

    def release_files(self, run: str) -> None:
        """Remove this machine's copies of a run that the shared store has whole."""
        if self._files is not None:
            self._files.forget(run)
            shutil.rmtree(self.run_directory(run), ignore_errors=True)

    def evidence_directory(self, run: str, attempt: str) -> Path:
        own = self.attempt_directory(run, attempt)
        if self._files is None:
            return own
        fetched = self.directory / "fetched" / run / attempt
        with self._database.reading() as connection:
            owner = connection.execute(select(runs.c.owner).where(runs.c.id == run)).scalar_one()
            if own.is_dir() and codec.from_json(Owner, json.loads(owner)).is_here():
                return own
            fetch(connection, run, attempt, fetched)
        return fetched

    def _move_here(self, connection: Connection, run: str) -> None:
        """Attempts go on where they stood: with the files of their tries so far."""
        self.release_files(run)  # what this machine once made of the run is older than what the store has
        unfinished = select(attempts.c.id).where(attempts.c.run == run, attempts.c.state != "ended", attempts.c.tries > 0)
        for attempt in connection.execute(unfinished).scalars().all():
            fetch(connection, run, attempt, self.attempt_directory(run, attempt))

    def _keep(self, connection: Connection, run: str, attempt: str) -> None:
        if self._files is not None:
            self._files.keep(connection, run, attempt, self.attempt_directory(run, attempt))

    # ---- reading --------------------------------------------------------------------

    def planned(self, run: str) -> list[AttemptState]:
        """Every attempt of the run in order; what is not ``ended`` is left to do."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(attempts).where(attempts.c.run == run).order_by(attempts.c.position, attempts.c.repeat)
            ).all()
            open_tries = select(tries.c.attempt, tries.c.number).where(tries.c.run == run, tries.c.ended_ns.is_(None))
            unended: dict[str, int] = {row.attempt: row.number for row in connection.execute(open_tries)}
        return [
            AttemptState(
                Planned(row.id, row.ticket, row.stratum, row.position, row.repeat, variant_of(row.variant)),
                row.state,
                row.tries,
                unended.get(row.id),
                None if row.cause is None else Cause(row.cause),
            )
            for row in rows
        ]

    def tries(self, run: str, attempt: str | None = None) -> list[Try]:
        wanted = select(tries).where(tries.c.run == run).order_by(tries.c.attempt, tries.c.number)
        if attempt is not None:
            wanted = wanted.where(tries.c.attempt == attempt)
        with self._database.reading() as connection:
            return [try_of(row) for row in connection.execute(wanted)]

    def spent(self, run: str) -> Spent:
        return sum_of(self.tries(run))


#: What an attempt's row has once it has ended.
_NOT_ENDED = dict.fromkeys(("cause", "passed", "dollars", "wall_s", "result"))


def _planned_columns(run: str, attempt: Planned) -> dict[str, Any]:
    variant = None if attempt.variant is None else dump(attempt.variant)
    return {**codec.to_json(attempt), "variant": variant, "run": run, "state": "planned", "tries": 0, "evidence_root": ""}


def _change_attempt(connection: Connection, run: str, attempt: str, **columns: Any) -> None:
    changed = connection.execute(update(attempts).where(attempts.c.run == run, attempts.c.id == attempt).values(columns))
    if changed.rowcount != 1:
        raise no_attempt(run, attempt)


def _end_try(
    connection: Connection,
    run: str,
    attempt: str,
    number: int,
    ended_ns: int,
    cause: Cause,
    dollars: Decimal | None,
    dollars_upper: Decimal,
    tokens: Tokens,
) -> None:
    row: dict[str, Any] = {"ended_ns": ended_ns, "cause": cause.value, "tokens": dump(tokens)}
    row |= {"dollars": None if dollars is None else str(dollars), "dollars_upper": str(dollars_upper)}
    this = (tries.c.run == run, tries.c.attempt == attempt, tries.c.number == number, tries.c.ended_ns.is_(None))
    if connection.execute(update(tries).where(*this).values(row)).rowcount != 1:
        what = f"try {number} of attempt {attempt} of run {run} is not running"
        raise StoreProblem(what, code="try-not-running", unchanged=UNCHANGED)


def _refuse_while_owned(run: str, current: Owner, wanted: Owner, status: str, force: bool) -> None:
    if status != "running" or current == wanted:
        return
    alive = current.alive()
    if alive is False or force:
        return
    raise StoreProblem(
        f"run {run} is being worked on",
        code="run-owned",
        cause=f"by process {current.pid} on {current.host}" + ("" if alive else ", which cannot be asked from here"),
        hint="wait for it, or stop it, and try again",
        unchanged=UNCHANGED,
    )


def _set_aside(directory: Path, number: int) -> None:
    left = [path for path in directory.iterdir() if path.name != "tries"]
    if left:
        aside = directory / "tries" / str(number)
        aside.mkdir(parents=True, exist_ok=True)
        for path in left:
            path.replace(aside / path.name)

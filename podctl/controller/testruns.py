"""Brings every TestRun of a cluster to its end: level-triggered, so that it may begin, and be killed, at any moment."""

from __future__ import annotations

import asyncio
import logging
import shutil
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from podctl.backends.base import Backend
from podctl.clock import Clock
from podctl.controller.queueing import Wanted, too_many, turn
from podctl.controller.run import Prepared, RunController, prepare
from podctl.controller.source import unpack
from podctl.controller.testrun import Standing, TestRun, standing_of, status_of
from podctl.errors import ExitCode, PodctlError, SpecError
from podctl.evidence.results import RunResult
from podctl.evidence.safe import printable
from podctl.evidence.store import RunLost, Store
from podctl.gateway.contract import ANTHROPIC_URL, OPENAI_URL
from podctl.reports.progress import ProgressEvent
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle
from podctl.stats.units import plural

log = logging.getLogger("podctl.controller")

#: Seconds between two reports of a run's progress.
PROGRESS_S = 2.0


class Api(Protocol):
    """What the controller asks of the cluster. Each raises `PodctlError`."""

    async def testruns(self) -> list[Mapping[str, Any]]: ...

    async def config_map(self, name: str) -> Mapping[str, Any] | None: ...

    async def set_status(self, name: str, uid: str, status: Mapping[str, Any]) -> None:
        """Nothing when the TestRun is gone, or another has its name."""

    async def tell(self, name: str, uid: str, kind: str, reason: str, message: str) -> None:
        """An event of the TestRun; ``kind`` is Normal or Warning."""

    async def delete(self, name: str, uid: str) -> None: ...


@dataclass(frozen=True)
class Rules:
    """What the cluster's administrator decided. ``keys``: providers' keys by the names that scenarios may use.

    ``upstreams``: base URLs of model servers that scenarios may name besides the providers' own. ``resync_s``: seconds between
    two looks at all TestRuns, whatever was heard of them. ``retry_s``: seconds before a run that its environment failed is
    begun again; after so many failures it is given up.
    """

    most_pods: int
    sources: Path | None = None
    keys: Mapping[str, str] | None = None
    upstreams: Sequence[str] = ()
    resync_s: float = 30.0
    retry_s: Sequence[float] = (5.0, 15.0, 60.0, 120.0, 300.0)


@dataclass
class _Known:
    run: TestRun
    standing: Standing
    prepared: Prepared | None = None
    task: asyncio.Task[None] | None = None
    controller: RunController | None = None
    not_before: float = 0.0
    reported: Mapping[str, Any] | None = None
    gone: bool = False
    ending: asyncio.Task[None] | None = None


class TestRuns:
    """``open_backend`` makes a backend for one run, whose pods belong to the TestRun. Not for use from two event loops."""

    __test__ = False  # pytest: no test, in spite of its name

    def __init__(
        self,
        api: Api,
        store: Store,
        open_backend: Callable[[TestRun, Bundle], Awaitable[Backend]],
        rules: Rules,
        directory: Path,
        clock: Clock,
    ) -> None:
        self._api = api
        self._store = store
        self._open_backend = open_backend
        self._rules = rules
        self._directory = directory
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._lost: RunLost | None = None

    # ---- what is heard ----

    def seen(self, body: Mapping[str, Any]) -> None:
        """A TestRun as it is now; to be told as often as one likes."""
        run = TestRun.of(body)
        known = self._known.get(run.uid)
        if run.deleting:
            self.gone(run.uid)
        elif known is None:
            self._known[run.uid] = _Known(run, standing_of(run))
            self._changed.set()
        else:
            # What a watch says of the status may be older than what was set since.
            known.run = replace(run, status=known.reported or run.status)
            if run.ttl_s is not None and run.ended:
                self._changed.set()

    def gone(self, uid: str) -> None:
        """It was deleted: what it has under way ends. Its namespaces go with it, by their owner."""
        known = self._known.get(uid)
        if known is not None and not known.gone:
            known.gone = True
            self._changed.set()

    # ---- the loop ----

    async def serve(self) -> None:
        """Until it is cancelled; then everything under way is ended, and stays resumable.

        Raises `RunLost` when another controller has taken a run over: this one leads no more.
        """
        resync = asyncio.create_task(self._resync())
        progress = asyncio.create_task(self._report_progress())
        try:
            while True:
                self._changed.clear()
                if self._lost is not None:
                    raise self._lost
                await self._step()
                # Not wait_for: until Python 3.12 it forgets that it was cancelled when what it waits for has just come.
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._changed.wait()
        finally:
            self._stopping = True
            for task in (resync, progress):
                task.cancel()
            await asyncio.gather(*(self._end(known) for known in list(self._known.values())), return_exceptions=True)

    async def _step(self) -> None:
        """From what is known to what should be: forget what is gone, delete what is over, begin whose turn it is."""
        now = self._now()
        for uid, known in list(self._known.items()):
            if known.gone:
                if known.task is None:
                    del self._known[uid]
                    shutil.rmtree(self._sources_of(known.run), ignore_errors=True)
                elif known.ending is None:
                    known.ending = asyncio.create_task(self._end(known))
            elif (over := known.run.over_at()) is not None and over <= now and known.task is None:
                log.info("testrun %s: its time after its end is over", known.run.name)
                await self._quietly(self._api.delete(known.run.name, uid))
        open_ones = [known for known in self._known.values() if not known.gone and not known.run.ended]
        for known in open_ones:
            waits = known.not_before > self._clock.monotonic()
            if known.prepared is None and known.task is None and known.standing.state != "Refused" and not waits:
                await self._prepare(known)
        ready = [known for known in open_ones if known.prepared is not None]
        running = {known.run.uid for known in ready if known.task is not None}
        wanted = [Wanted(known.run.uid, known.run.created, _pods(known.prepared)) for known in ready]
        turns = turn(wanted, running, self._rules.most_pods)
        for known in ready:
            if known.run.uid in turns.waiting:
                await self._stand(known, replace(known.standing, state="Queued", message=turns.waiting[known.run.uid]))
        for uid in turns.begin:
            if self._known[uid].not_before <= self._clock.monotonic():
                self._known[uid].task = asyncio.create_task(self._work(self._known[uid]))

    async def _resync(self) -> None:
        """Whatever a watch may have missed, a deletion for one, is seen here."""
        while True:
            try:
                bodies = await self._api.testruns()
            except PodctlError as error:
                log.warning("TestRuns cannot be listed: %s", _words(error))
            else:
                for body in bodies:
                    self.seen(body)
                for uid in self._known.keys() - {body["metadata"]["uid"] for body in bodies}:
                    self.gone(uid)
            await asyncio.sleep(self._rules.resync_s)

    # ---- one TestRun ----

    async def _prepare(self, known: _Known) -> None:
        run = known.run
        try:
            known.prepared = await self._load(run)
        except SpecError as error:
            await self._refuse(known, error)
        except PodctlError as error:
            await self._stand(
                known, replace(known.standing, state="Queued", message=f"its source cannot be read: {_words(error)}")
            )
        except Exception:
            await self._retry(known, _bug(run))

    async def _load(self, run: TestRun) -> Prepared:
        """Raises `SpecError` for what only another TestRun can mend."""
        root = await self._source(run)
        overrides = {"agent": root / run.agent} if run.agent else {}
        bundle = await asyncio.to_thread(load_bundle, root / run.scenario, overrides, root)
        if run.pods is not None:
            settings = bundle.scenario.run.model_copy(update={"pods": run.pods})
            bundle = replace(bundle, scenario=bundle.scenario.model_copy(update={"run": settings}))
        if why := too_many(bundle.scenario.run.pods, self._rules.most_pods):
            raise SpecError(why, code="too-many-pods")
        _refuse_upstreams(bundle, self._rules.upstreams)
        return await asyncio.to_thread(prepare, bundle)

    async def _source(self, run: TestRun) -> Path:
        if run.directory:
            if self._rules.sources is None:
                raise SpecError(
                    "this controller was given no directory of sources", code="source-directory", hint="PODCTL_SOURCES"
                )
            root = (self._rules.sources / run.directory).resolve()
            if not root.is_relative_to(self._rules.sources.resolve()) or not root.is_dir():
                raise SpecError(f"the controller has no source {run.directory!r}", code="source-directory")
            return root
        found = []
        for name in run.config_maps:
            config_map = await self._api.config_map(name)
            if config_map is None:
                raise SpecError(
                    f"there is no ConfigMap {name} in the controller's namespace",
                    code="source-config-map",
                    hint="make it first",
                )
            found.append(config_map)
        directory = self._sources_of(run)
        await asyncio.to_thread(unpack, found, directory)
        return directory

    def _sources_of(self, run: TestRun) -> Path:
        return self._directory / "sources" / run.uid

    async def _work(self, known: _Known) -> None:
        """One go at the run, from wherever it stands."""
        run, prepared = known.run, known.prepared
        assert prepared is not None
        log.info("testrun %s: run %s begins, or goes on", run.name, run.run)
        await self._stand(known, replace(known.standing, state="Running", message="", planned=len(prepared.planned)))

        def listen(event: ProgressEvent) -> None:
            known.standing = _progressed(known.standing, event)

        try:
            backend = await self._open_backend(run, prepared.bundle)
            try:
                known.controller = RunController(
                    self._store, backend, clock=self._clock, listener=listen, sole=True, keys=self._rules.keys or {}
                )
                if known.gone or self._stopping:
                    return
                result = await known.controller.reconcile(prepared, run.run, baseline=run.baseline or None)
            finally:
                await backend.close()
            await self._conclude(known, result)
        except RunLost as error:
            # Another controller leads, whatever this one believes.
            self._lost = error
        except SpecError as error:
            await self._refuse(known, error)
        except PodctlError as error:
            if error.exit_code == ExitCode.USAGE:
                await self._refuse(known, error)
            else:
                await self._retry(known, error)
        except Exception:
            await self._retry(known, _bug(run))
        finally:
            known.controller = None
            known.task = None
            self._changed.set()

    async def _conclude(self, known: _Known, result: RunResult) -> None:
        if known.gone or (self._stopping and result.status != "finished"):
            return
        if result.status != "finished":
            notes = "; ".join(result.notes) or "it was interrupted"
            message = f"not every attempt was made: {notes}"
        else:
            message = "; ".join(result.notes)
        made = len(result.attempts)
        standing = replace(
            known.standing,
            state="Finished",
            message=message,
            verdict=result.verdict,
            planned=known.standing.planned or made,
            done=made,
            passed=sum(attempt.passed for attempt in result.attempts),
            pods=0,
            spent="" if result.spent_dollars is None else str(result.spent_dollars),
        )
        await self._stand(known, standing)
        await self._tell(
            known, "Normal", "Finished", f"run {known.run.run}: {result.verdict}; {standing.passed} of {made} passed"
        )
        self._store.release_files(known.run.run)
        shutil.rmtree(self._sources_of(known.run), ignore_errors=True)

    async def _retry(self, known: _Known, error: PodctlError) -> None:
        if known.gone or self._stopping:
            return
        failures = known.standing.failures + 1
        known.prepared = None  # its source may be other by then
        if failures > len(self._rules.retry_s):
            message = f"given up after {plural(failures, 'failure')} of its environment: {_words(error)}"
            standing = replace(
                known.standing, state="Finished", message=message, verdict="inconclusive", failures=failures, pods=0
            )
            await self._stand(known, standing)
            await self._tell(known, "Warning", "GivenUp", message)
            return
        pause = self._rules.retry_s[failures - 1]
        known.not_before = self._clock.monotonic() + pause
        message = f"begun again in {pause:g} s: {_words(error)}"
        await self._stand(known, replace(known.standing, state="Retrying", message=message, failures=failures, pods=0))
        await self._tell(known, "Warning", "EnvironmentFailed", message)

    async def _refuse(self, known: _Known, error: PodctlError) -> None:
        await self._stand(known, replace(known.standing, state="Refused", message=_words(error), pods=0))
        await self._tell(known, "Warning", "Refused", _words(error))

    async def _end(self, known: _Known) -> None:
        task = known.task
        if task is None:
            return
        if known.controller is not None:
            await known.controller.interrupt()
        await asyncio.gather(task, return_exceptions=True)

    # ---- what is said ----

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            for known in list(self._known.values()):
                if known.standing.state == "Running" and not known.gone:
                    await self._stand(known, known.standing)

    async def _stand(self, known: _Known, standing: Standing) -> None:
        """Say how it stands, when that is new. A cluster that cannot be told now is told at the next look."""
        known.standing = standing
        status = status_of(known.run, standing, self._now())
        if status == known.reported or known.gone:
            return
        try:
            await self._api.set_status(known.run.name, known.run.uid, status)
        except PodctlError as error:
            log.warning("testrun %s: its status cannot be set: %s", known.run.name, _words(error))
            return
        known.reported = status
        known.run = replace(known.run, status=status)

    async def _tell(self, known: _Known, kind: str, reason: str, message: str) -> None:
        log.info("testrun %s: %s: %s", known.run.name, reason, message)
        await self._quietly(self._api.tell(known.run.name, known.run.uid, kind, reason, message))

    async def _quietly(self, asked: Awaitable[None]) -> None:
        try:
            await asked
        except PodctlError as error:
            log.warning("%s", _words(error))

    def _now(self) -> float:
        return self._clock.wall_ns() / 1e9


def _bug(run: TestRun) -> PodctlError:
    """Of the exception being handled: it must not end the controller and the runs of others."""
    log.error("testrun %s: %s", run.name, traceback.format_exc())
    return PodctlError("podctl has a bug", code="bug", cause="the controller's log has the traceback")


def _pods(prepared: Prepared | None) -> int:
    assert prepared is not None
    return min(prepared.bundle.scenario.run.pods, max(1, len(prepared.planned)))


def _progressed(standing: Standing, event: ProgressEvent) -> Standing:
    return replace(
        standing,
        pods=event.pods_ready,
        planned=event.attempts_total,
        done=event.attempts_done,
        passed=event.passed,
        spent="" if event.spent is None else str(event.spent),
    )


def _words(error: PodctlError) -> str:
    parts = [f"{error.what} [{error.code}]", error.cause, error.hint]
    return printable("; ".join(part.replace("\n", " ") for part in parts if part), 2000)


def _refuse_upstreams(bundle: Bundle, allowed: Sequence[str]) -> None:
    """A scenario's author must not have the controller's keys sent to a server of their own."""
    model = bundle.scenario.model
    if model.mode not in ("live", "record"):
        return
    fine = {OPENAI_URL, ANTHROPIC_URL, *allowed}
    for url in (model.openai_url, model.anthropic_url):
        if url is not None and url.rstrip("/") not in {one.rstrip("/") for one in fine}:
            raise SpecError(
                f"scenarios may not send model calls to {url[:200]} here",
                code="upstream-not-allowed",
                hint="have the cluster's administrator add it to PODCTL_UPSTREAMS",
            )

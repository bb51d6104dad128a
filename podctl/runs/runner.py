"""Work a sample: N pods at once, each attempt in a fresh state, in an order that the seed fixes."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from podctl.agents.identity import AgentIdentity
from podctl.attack.judging import codes_of
from podctl.backends.base import Backend
from podctl.clock import Clock, Stopwatch
from podctl.errors import PodctlError, SpecError
from podctl.evidence.causes import Cause
from podctl.evidence.reading import read_attempt
from podctl.evidence.results import AttemptResult, plain_of
from podctl.evidence.store import Store
from podctl.evidence.store_rows import Try, sum_of
from podctl.faults import point
from podctl.gateway.client import Gateway
from podctl.gateway.contract import GatewayLost, Totals, totals_of
from podctl.honey.planting import Decoys, plant
from podctl.pods.plan import PodSpec, Step, batches, steps
from podctl.reports.progress import ProgressEvent, Running
from podctl.runs.approving import NOBODY, Approvers
from podctl.runs.attempt import Attempt, Planned
from podctl.runs.people import People
from podctl.spec.bundle import Bundle
from podctl.stats.sequential import Watch
from podctl.tickets.states import DatabaseState, with_rows
from podctl.tickets.types import Ticket

#: A worker that cannot make a pod this many times in a row gives up: the machine is at fault, not the pod.
POD_FAILURES = 3
_INSIST_S = 0.25


def plan_attempts(tickets: Sequence[Ticket], repeats: int, seed: int) -> list[Planned]:
    """Every ticket ``repeats`` times, in an order fixed by the seed; repeats of a ticket are spread out."""

    def key(position: int, repeat: int) -> bytes:
        return hashlib.sha256(f"{seed}:{repeat}:{tickets[position].id}".encode()).digest()

    pairs = [(position, repeat) for repeat in range(1, repeats + 1) for position in range(len(tickets))]
    pairs.sort(key=lambda pair: (pair[1], key(*pair)))
    return [Planned(f"{position + 1:04d}-{repeat}", position, repeat, tickets[position]) for position, repeat in pairs]


Listener = Callable[[ProgressEvent], None]


def silent(_: ProgressEvent) -> None:
    """For callers that show nothing."""


class Runner:
    def __init__(
        self,
        *,
        run: str,
        bundle: Bundle,
        identity: AgentIdentity,
        backend: Backend,
        gateway: Gateway,
        store: Store,
        clock: Clock,
        budget: Decimal,
        listener: Listener = silent,
        watch: Watch | None = None,
        approvers: Approvers = NOBODY,
    ) -> None:
        self._run = run
        self._approvers = approvers
        self._people = People(run, store, gateway, clock)
        self._budget = budget
        self._watch = watch
        self._bundle = bundle
        self._identity = identity
        self._backend = backend
        self._gateway = gateway
        self._store = store
        self._clock = clock
        self._listener = listener
        self._queue: deque[Planned] = deque()
        self._total = 0
        self._inherited = 0
        self._spent = Decimal(0)
        self.notes: list[str] = []
        self.gone = 0  # what was removed of pods that were given back
        self.left: list[str] = []
        self._results: dict[str, AttemptResult] = {}
        self._tries: dict[str, int] = {}
        self._failures: Counter[str] = Counter()
        self._working: dict[str, tuple[str, str, float]] = {}  # pod, ticket, since
        self._open: dict[str, tuple[str, Attempt]] = {}
        self._stop = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._fatal: PodctlError | None = None
        self._ready_pods = 0
        self._started = 0.0

    async def work(
        self, planned: Sequence[Planned], done: Sequence[AttemptResult], tries: Sequence[Try]
    ) -> list[AttemptResult]:
        """Make the planned attempts that are not done; results in the order of the sample.

        ``tries`` are those made so far. Raises the `PodctlError` that stopped the run when no pod can be made, or when
        the gateway is lost.
        """
        self._started = self._clock.monotonic()
        self._tries = {made.attempt: made.number for made in tries}
        # A try that a killed podctl or a lost gateway cut off says nothing about the attempt.
        self._failures = Counter(made.attempt for made in tries if made.cause and made.cause.retry and not made.cut_off)
        self._spent = sum_of(tries).dollars_upper
        self._results = {result.id: result for result in done}
        self._inherited = len(self._results)
        self._total = len(planned)
        self._queue = deque(attempt for attempt in planned if attempt.id not in self._results)
        if self._watch is not None:
            self._watch.replay(list(plain_of(done)))
            if self._watch.enough:
                self._queue.clear()
                point("early.found")
        pods = min(self._bundle.scenario.run.pods, max(1, len(self._queue)))
        ticker = asyncio.create_task(self._tick())
        deadline = asyncio.create_task(self._run_deadline())
        watcher = asyncio.create_task(self._watch_gateway())
        people = asyncio.create_task(self._hear_people())
        workers = [asyncio.create_task(self._worker()) for _ in range(pods)] if self._queue else []
        try:
            await asyncio.gather(*workers)
        finally:
            for task in (ticker, deadline, watcher, people, *workers):
                task.cancel()
            await asyncio.gather(ticker, deadline, watcher, people, *workers, return_exceptions=True)
            self._show()
        if self._fatal is not None:
            raise self._fatal
        return sorted(self._results.values(), key=lambda result: (result.position, result.repeat))

    async def interrupt(self, reason: str = "cancelled") -> None:
        """Stop scheduling and end what runs; ``work`` returns what is finished."""
        self._stop.set()
        await self._end_open(reason)
        if self._open:
            self._spawn(self._insist(reason))

    async def _end_open(self, reason: str) -> None:
        for pod, attempt in list(self._open.values()):
            attempt.stop_reason = attempt.stop_reason or reason
            await self._backend.interrupt(pod, reason)

    async def _insist(self, reason: str) -> None:
        """An attempt whose agent was about to be started when it was to end is ended once it has started."""
        while self._open:
            await asyncio.sleep(_INSIST_S)
            await self._end_open(reason)

    # ---- workers ----

    async def _worker(self) -> None:
        spec: PodSpec | None = None
        failures = 0
        try:
            while self._queue and not self._stop.is_set():
                planned = self._queue.popleft()
                queued = self._clock.monotonic() - self._started
                reset_started = self._clock.monotonic()
                try:
                    decoys = plant(self._bundle.scenario.honeytokens, codes_of(planned.variant))
                    spec = await self._fresh(spec, with_rows(planned.ticket.states, decoys.rows))
                except (GatewayLost, SpecError) as error:
                    await self._fail(error)
                    return
                except PodctlError as error:
                    self._queue.appendleft(planned)
                    failures += 1
                    if spec is not None:
                        await self._discard(spec)
                        spec = None
                    if failures >= POD_FAILURES:
                        await self._fail(error)
                        return
                    continue
                if self._stop.is_set():
                    return
                reset_s = self._clock.monotonic() - reset_started
                result = await self._try(spec, planned, decoys, reset_s, queued)
                if result is None:
                    return
                if result.cause in (Cause.SANDBOX_FAILED, Cause.SEED_FAILED, Cause.PODCTL_FAILED):
                    failures += 1
                    await self._discard(spec)
                    spec = None
                else:
                    failures = 0
        finally:
            if spec is not None:
                await asyncio.shield(self._discard(spec))

    async def _fresh(self, spec: PodSpec | None, states: Mapping[str, DatabaseState]) -> PodSpec:
        """A pod in the state of its templates, or in ``states``: the next generation of this one, or a new one."""
        share = self._bundle.scenario.run.share == "services"
        if spec is None:
            spec = PodSpec(f"{self._run[-6:]}-{secrets.token_hex(3)}", self._run, self._bundle.topology, 1, share, states)
            fresh = True
        else:
            spec = replace(spec, generation=spec.generation + 1, states=states)
            fresh = False
        try:
            plan = steps(spec, await self._backend.observe(spec.id))
            for batch in batches(plan, spec.topology):
                await asyncio.gather(*(self._apply(spec, step) for step in batch))
            if fresh:
                doors, dialer = self._backend.doors(spec.id, self._gateway.pid)
                point("pod.recorded-gateway")
                await self._gateway.open_pod(spec.id, doors, dialer)
                point("pod.opened")
                self._ready_pods += 1
        except BaseException:
            if fresh:
                await asyncio.shield(self._backend.delete(spec.id))
            raise
        return spec

    async def _apply(self, spec: PodSpec, step: Step) -> None:
        point(f"pod.{step.action}-{step.resource.kind}")
        await self._backend.apply(spec, step)
        point(f"pod.{step.action}-{step.resource.kind}.done")

    async def _discard(self, spec: PodSpec) -> None:
        self._ready_pods -= 1
        try:
            await self._gateway.close_pod(spec.id)
        except PodctlError:
            pass  # a lost gateway holds nothing of the pod any more
        point("pod.closed")
        for removal in await self._backend.delete(spec.id):
            self.gone += removal.gone
            if not removal.gone:
                self.left.append(f"{removal.what} {removal.detail}".strip())
                self.notes.append(f"not removed: {self.left[-1]}")

    async def _try(
        self, spec: PodSpec, planned: Planned, decoys: Decoys, reset_s: float, queue_s: float
    ) -> AttemptResult | None:
        """One try of an attempt; None when the run is being stopped. An infrastructure failure goes back into the queue."""
        number = self._tries.get(planned.id, 0) + 1
        self._tries[planned.id] = number
        self._store.start_try(self._run, planned.id, number)
        point("try.started")
        attempt = Attempt(
            bundle=self._bundle,
            identity=self._identity,
            backend=self._backend,
            gateway=self._gateway,
            spec=spec,
            planned=planned,
            directory=self._attempt_directory(planned),
            clock=self._clock,
            run=self._run,
            decoys=decoys,
            approvers=self._approvers,
        )
        self._working[planned.id] = (spec.id, planned.ticket.id, self._clock.monotonic())
        self._open[planned.id] = (spec.id, attempt)
        try:
            result, totals = await attempt.work(reset_s, queue_s)
        except (GatewayLost, SpecError) as error:
            totals = totals_of(read_attempt(self._attempt_directory(planned)))
            self._spent += totals.dollars_upper
            self._abandon(planned.id, number, totals, Cause.PODCTL_FAILED)
            await self._fail(error)
            return None
        finally:
            self._open.pop(planned.id, None)
            self._working.pop(planned.id, None)
        result = replace(result, tries=number)
        self._spent += totals.dollars_upper
        if result.cause is Cause.CANCELLED:
            self._abandon(planned.id, number, totals, Cause.CANCELLED)
            return result
        if result.cause.retry:
            self._failures[planned.id] += 1
        if result.cause.retry and self._failures[planned.id] <= self._bundle.scenario.run.retries:
            self._abandon(planned.id, number, totals, result.cause)
            self._queue.append(planned)
        else:
            self._store.finish_try(self._run, planned.id, number, result, totals.dollars_upper)
            self._results[result.id] = result
            self._look_at(result)
        point("try.stored")
        return result

    def _look_at(self, result: AttemptResult) -> None:
        if self._watch is None or self._watch.enough or result.variant is not None:
            return
        self._watch.add(result)
        if self._watch.enough and not self._stop.is_set():
            point("early.certain")
            self._spawn(self._end_early())

    async def _end_early(self) -> None:
        await self.interrupt()
        point("early.told")

    def _abandon(self, attempt: str, number: int, totals: Totals, cause: Cause) -> None:
        self._store.abandon_try(
            self._run,
            attempt,
            number,
            dollars=totals.dollars,
            dollars_upper=totals.dollars_upper,
            tokens=totals.tokens,
            cause=cause,
        )

    def _attempt_directory(self, planned: Planned) -> Path:
        return self._store.attempt_directory(self._run, planned.id)

    async def _fail(self, error: PodctlError) -> None:
        self._fatal = self._fatal or error
        await self.interrupt()

    # ---- watching ----

    def on_gateway_event(self, event: dict[str, Any]) -> None:
        """The gateway says that a limit was reached, or that it cannot keep evidence: the attempt ends now."""
        if event.get("event", "").startswith("proposal"):
            self._spawn(self._told_of_proposal(event))
            return
        if event.get("event") == "trigger":
            attempt = next((one for name, (_, one) in self._open.items() if event["attempt"].endswith(f".{name}")), None)
            if attempt is not None:
                attempt.disturb()
            return
        reason = "broken" if event.get("event") == "broken" else event.get("limit", "")
        if reason == "run_dollars":
            if not self._stop.is_set():
                self.notes.append("the run's budget was spent before every attempt was made")
            self._spawn(self.interrupt("run_dollars"))
            return
        pod = next((pod for name, (pod, _) in self._open.items() if event["attempt"].endswith(f".{name}")), None)
        if pod is not None and reason:
            self._spawn(self._backend.interrupt(pod, reason))

    async def _hear_people(self) -> None:
        spec = self._bundle.scenario.approvals
        if spec is None or not spec.asks_people:
            return
        if self._approvers.nobody:
            self.notes.append(
                f"no person is asked to approve anything, and what they would be asked is denied: {self._approvers.nobody}"
            )
            return
        try:
            await self._people.listen()
        except PodctlError as error:
            await self._fail(error)

    async def _told_of_proposal(self, event: dict[str, Any]) -> None:
        try:
            await self._people.told(event)
        except PodctlError as error:
            await self._fail(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watch_gateway(self) -> None:
        """Without its gateway nothing in a pod goes on: end it at once instead of at its time limit."""
        await self._gateway.closed.wait()
        await self.interrupt("broken")

    async def _run_deadline(self) -> None:
        await Stopwatch(self._clock).reached(self._bundle.scenario.limits.run_wall)
        self.notes.append("the run's wall time was over before every attempt was made")
        await self.interrupt()

    async def _tick(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(0.25)

    def _show(self) -> None:
        now = self._clock.monotonic()
        made = len(self._results)
        fresh = made - self._inherited
        left = self._total - made
        self._listener(
            ProgressEvent(
                pods_ready=self._ready_pods,
                pods=self._bundle.scenario.run.pods,
                attempts_done=made,
                attempts_total=self._total,
                passed=sum(result.passed for result in self._results.values()),
                spent=self._spent,
                budget=self._budget,
                eta=(now - self._started) / fresh * left if fresh else None,
                running=tuple(Running(pod, ticket, now - since) for pod, ticket, since in self._working.values()),
            )
        )

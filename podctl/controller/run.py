"""One run from a loaded scenario to a verdict: the order of things, and what is undone when they go wrong."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from podctl import __version__
from podctl.agents.identity import AgentIdentity, agent_digest
from podctl.backends.base import Backend, Finding
from podctl.clock import Clock, SystemClock
from podctl.controller.likeness import likeness
from podctl.controller.revision import Revision
from podctl.controller.verdict import conclude
from podctl.data.captured import read_history
from podctl.errors import EnvironmentProblem, SpecError
from podctl.evidence.audit_entries import Entry
from podctl.evidence.owner import Owner
from podctl.evidence.reading import read_attempt
from podctl.evidence.results import AttemptResult, Campaign, Quarantined, RunInfo, RunResult, Shard, weakest
from podctl.evidence.store import RunLost, Store
from podctl.evidence.store_problems import StoreProblem
from podctl.evidence.store_read import StoreReader
from podctl.evidence.store_rows import Planned as StoredAttempt
from podctl.faults import point
from podctl.gateway.client import Gateway
from podctl.gateway.contract import GatewayConfig, provider_keys, totals_of
from podctl.pods.fit import refuse_unfit
from podctl.runs.approving import approvers
from podctl.runs.attempt import Planned
from podctl.runs.runner import Listener, Runner, plan_attempts, silent
from podctl.runs.shards import part_of
from podctl.runs.variants import Vary, with_variants
from podctl.spec.bundle import Bundle
from podctl.spec.models import StateCheck
from podctl.spec.resolved import part_digests, resolved, seed_digests, spec_digest
from podctl.spec.topology import databases
from podctl.stats.gate_baseline import watched
from podctl.stats.sequential import Watch
from podctl.stats.summary import by_ticket
from podctl.stats.weighing import Weighing, weighing
from podctl.tickets.drawing import drawn_sample
from podctl.tickets.past import WHY, WithPast, with_past
from podctl.tickets.references import unknown_databases
from podctl.tickets.sample import Drawn
from podctl.tickets.suite import tickets_of
from podctl.tickets.types import Ticket

#: Where a run's settings have its whole boundary. Of runs that do not, boundaries did not decide on services.
BOUNDARY = "boundary_spec"
#: Where they have what was said of the rows in seeds.
SEEDS = "seeds"
#: How often files of attempts that are being made are sent to a store that machines share, in seconds.
_KEEP_S = 1.0


@dataclass(frozen=True)
class Prepared:
    """A run that has been drawn and not yet begun."""

    bundle: Bundle
    identity: AgentIdentity
    drawn: Drawn
    planned: list[Planned]
    population: int
    left_out: tuple[str, ...] = ()
    shard: Shard | None = None  # only its attempts are planned; the sample is the whole one
    labels: Mapping[str, str] = field(default_factory=dict)
    campaign: Campaign | None = None

    @property
    def run_dollars(self) -> Decimal:
        return self.bundle.scenario.limits.run_dollars if self.shard is None else self.shard.run_dollars


def prepare(bundle: Bundle, shard: tuple[int, int] | None = None, vary: Vary | None = None) -> Prepared:
    """Draw the sample and order the attempts, all of them or those of ``shard`` (part, of so many), with the variants that a
    campaign makes of them; makes nothing.

    Raises `SpecError`.
    """
    known = population(bundle)
    notes = [*known.lines(), *(_not_there(known, bundle) if bundle.cases is None else _of_suite(bundle))]
    drawn = drawn_sample(known.tickets, bundle.scenario.sample)
    settings = bundle.scenario.run
    planned = plan_attempts(drawn.tickets, settings.repeats, settings.seed)
    campaign = None
    if vary is not None:
        planned, campaign = with_variants(planned, vary, settings.seed)
    part = None
    if shard is not None:
        part, planned = part_of(planned, *shard, bundle.scenario.limits.run_dollars)
    return Prepared(
        bundle, agent_digest(bundle.agent), drawn, planned, len(known.tickets), tuple(notes), part, campaign=campaign
    )


def population(bundle: Bundle) -> WithPast:
    """All tickets that could be drawn, each with its state. Raises `SpecError`."""
    tickets = tickets_of(bundle)
    _check_references(tickets, bundle)
    return _with_past(tickets, bundle) if bundle.cases is None else WithPast(tickets)


def _of_suite(bundle: Bundle) -> list[str]:
    """What to know of a run whose tickets are cases."""
    cases = [case for case in bundle.cases or () if case.review.status == "accepted"]
    notes = ["the tickets are reviewed cases, kept because they went wrong once: rates are of these, and of no population"]
    seeds = seed_digests(bundle)
    for database, digest in seeds.items():
        others = [case.name for case in cases if case.seeds.get(database, digest) != digest]
        if others:
            more = f" and {len(others) - 10} more" if len(others) > 10 else ""
            notes.append(
                f"{database} is seeded otherwise than when these were learned: {', '.join(others[:10])}{more}; "
                "the rows that they froze are as they were, and others may not be"
            )
    return notes


def _with_past(tickets: list[Ticket], bundle: Bundle) -> WithPast:
    """Tickets with what captured seeds know of them. Raises `SpecError` when that leaves none, or not those to be included."""
    pasts = {}
    for name in databases(bundle.topology):
        seed = bundle.topology.databases[name].seed.captured
        if seed is not None and (past := read_history(seed)) is not None:
            pasts[name] = past
    if not pasts:
        return WithPast(tickets)
    known = with_past(tickets, pasts, any(isinstance(check, StateCheck) for check in bundle.scenario.checks))
    wanted = [one for one in bundle.scenario.sample.include if one in known.left_out]
    if wanted or not known.tickets:
        why = [f"{one}: {WHY[known.left_out[one]]}" for one in wanted[:10]] or known.lines()
        raise SpecError(
            "the captured seed has no past for tickets of the sample",
            code="history-tickets",
            cause="\n".join(why),
            unchanged="nothing was made",
            hint="podctl data plan says of each ticket what is known; capture again, or take other tickets",
        )
    return known


def _check_references(tickets: list[Ticket], bundle: Bundle) -> None:
    there = databases(bundle.topology)
    unknown = unknown_databases(tickets, there)
    if unknown:
        raise SpecError(
            "; ".join(f"the reference of ticket {ticket} names database {name!r}" for name, ticket in unknown.items()),
            code="reference-database",
            cause=f"the topology {bundle.topology.name} mirrors {', '.join(there) or 'no database'}",
            unchanged="nothing was made",
            hint="mend the tickets' references, or mirror the database in the topology",
        )


def new_run_id(clock: Clock) -> str:
    """Sorts by time, and two started in the same second differ."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(clock.wall_ns() / 1e9))
    return f"{stamp}-{secrets.token_hex(3)}"


class RunController:
    """Brings one run from wherever it stands to its end, inside `podctl run` or in a cluster's controller.

    ``interrupt`` may be called at any time from a signal handler of the same loop. ``sole``: whoever worked on the run
    on another machine does so no more, as its host knows. ``keys`` are the providers' by the names that scenarios use;
    without, they are looked for in the environment.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        *,
        clock: Clock | None = None,
        listener: Listener = silent,
        sole: bool = False,
        keys: Mapping[str, str] | None = None,
        revision: Revision | None = None,
        nobody: str = "nobody is there to be asked",
    ) -> None:
        self._store = store
        self._backend = backend
        self._clock = clock or SystemClock()
        self._listener = listener
        self._sole = sole
        self._keys = os.environ if keys is None else keys
        self._revision = revision or Revision()
        self._nobody = nobody
        self._runner: Runner | None = None
        self.interrupted = False
        self.had_finished = False
        self.begun = ""  # the run's id, once it stands in the store
        self.teardown_problems: list[str] = []
        self._gone = 0

    async def interrupt(self) -> None:
        self.interrupted = True
        if self._runner is not None:
            await self._runner.interrupt()

    async def reconcile(self, prepared: Prepared, run: str, *, baseline: str | None = None) -> RunResult:
        """The run called ``run``, whole: begun when the store does not have it, gone on with when it is not finished.

        Raises `PodctlError` when no result could be had; what was made is removed in any case, except when another took
        the run over (`RunLost`): then its pods are the other's.
        """
        before = self._store.load_run(run) if self._store.has_run(run) else None
        if before is not None and before.status == "finished":
            self.had_finished = True
            return before
        if before is not None:
            self._refuse_changed(before.info, prepared)
            prepared = _as_begun(before.info, prepared)
        bundle = prepared.bundle
        refuse_unsigned(bundle.scenario.run.audit, self._store)
        who_approves = approvers(bundle.scenario.approvals, self._store.signer, self._nobody)
        controls = await admit(self._backend, bundle)
        point("run.admitted")
        suite = "" if bundle.cases is None else bundle.tickets.name
        base = load_baseline(self._store, baseline, bundle.scenario.name, suite=suite) if baseline else None
        servers = await self._backend.prepare(bundle)
        point("run.templates-ready")
        in_effect = {finding.name: finding.state for finding in controls}
        if before is not None:
            info = await self._take_over(
                replace(before.info, resumed=True, controls=weakest([before.info.controls, in_effect]))
            )
        else:
            info = self._begin(prepared, run, servers, in_effect)
        self.begun = info.id
        gateway: Gateway | None = None
        lost = False
        ended = asyncio.Event()
        keeping = asyncio.create_task(self._keep_files(info.id, ended))
        results: list[AttemptResult] = []
        notes: list[str] = []
        watch = _watch(prepared, base)
        if bundle.scenario.run.fail_fast and watch is None:
            notes.append("run.fail_fast: there is no baseline, so that the run could not end early")
        try:
            spent = self._store.spent(info.id)
            gateway = await Gateway.start(self._gateway_config(prepared, spent.dollars_upper), self._on_gateway_event)
            point("run.gateway-started")
            self._runner = Runner(
                run=info.id,
                bundle=bundle,
                identity=prepared.identity,
                backend=self._backend,
                gateway=gateway,
                store=self._store,
                clock=self._clock,
                listener=self._listener,
                budget=prepared.run_dollars,
                watch=watch,
                approvers=who_approves,
            )
            if self.interrupted:
                await self._runner.interrupt()
            done = list(self._store.load_run(info.id).attempts)
            results = await self._runner.work(prepared.planned, done, self._store.tries(info.id))
            notes += self._runner.notes
            point("run.attempts-made")
        except RunLost:
            lost = True
            raise
        finally:
            ended.set()
            await asyncio.shield(keeping)
            if gateway is not None:
                await asyncio.shield(gateway.stop())
                point("run.gateway-stopped")
            if not lost:
                await asyncio.shield(self._remove_pods(info.id))
                point("run.pods-removed")
                self._receipt(info.id)
        return self._conclude(info, prepared, results, [*prepared.left_out, *_not_held(controls), *notes], base, watch)

    # ---- parts ----

    def _begin(self, prepared: Prepared, run: str, servers: Mapping[str, str], controls: Mapping[str, str]) -> RunInfo:
        bundle, settings = prepared.bundle, prepared.bundle.scenario.run
        info = RunInfo(
            id=run,
            scenario=bundle.scenario.name,
            agent_name=prepared.identity.name,
            agent_version=prepared.identity.version,
            agent_digest=prepared.identity.digest,
            topology=bundle.topology.name,
            backend=self._backend.name,
            isolation=self._backend.isolation(),
            sample_digest=prepared.drawn.digest,
            sample_size=len(prepared.drawn.tickets),
            population_size=prepared.population,
            strata=dict(prepared.drawn.strata),
            repeats=settings.repeats,
            pods=settings.pods,
            seed=settings.seed,
            started_ns=self._clock.wall_ns(),
            model_mode=bundle.scenario.model.mode,
            simulated=bundle.scenario.model.mode == "scripted",
            podctl_version=__version__,
            spec_digest=spec_digest(bundle),
            settings=printed_settings(bundle),
            fidelity=likeness(bundle, servers),
            shard=prepared.shard,
            labels=dict(prepared.labels),
            digests=part_digests(bundle),
            quarantine=_quarantine(prepared),
            branch=self._revision.branch,
            revision=self._revision.commit,
            dirty=self._revision.dirty,
            suite="" if bundle.cases is None else bundle.tickets.name,
            controls=dict(controls),
            campaign=prepared.campaign,
        )
        self._store.create_run(info, _stored(prepared.planned), Owner.current())
        point("run.stored")
        return info

    def _refuse_changed(self, before: RunInfo, prepared: Prepared) -> None:
        """Raises `SpecError` when it was a different run."""
        same = {
            "the sample": (before.sample_digest, prepared.drawn.digest),
            "the agent": (before.agent_digest, prepared.identity.digest),
            "the specs": (before.spec_digest, spec_digest(prepared.bundle)),
            "the shard": (before.shard, prepared.shard),
            "the campaign": (before.campaign, prepared.campaign),
            "run.fail_fast": (watched(before), prepared.bundle.scenario.run.fail_fast),
        }
        changed = [what for what, (then, now) in same.items() if then != now]
        if changed:
            raise SpecError(
                f"run {before.id} cannot be resumed: {' and '.join(changed)} changed since it began",
                code="resume-changed",
                unchanged="the run was left as it is",
                hint=_begun_by(before)
                + (f": --shard {before.shard}" if before.shard is not None and before.shard != prepared.shard else ""),
            )
        point("resume.checked")

    async def _take_over(self, info: RunInfo) -> RunInfo:
        """What a killed try had spent is kept, and its attempt is to be made again; pods of whoever was at it go."""
        run = info.id
        self._store.take_over(run, Owner.current(), force=self._sole, info=info)
        point("resume.taken-over")
        for state in self._store.planned(run):
            if state.running_try is not None:
                totals = totals_of(read_attempt(self._store.evidence_directory(run, state.planned.id)))
                self._store.abandon_try(
                    run,
                    state.planned.id,
                    state.running_try,
                    dollars=totals.dollars,
                    dollars_upper=totals.dollars_upper,
                    tokens=totals.tokens,
                )
                point("resume.abandoned")
        await self._remove_pods(run)
        return info

    async def _keep_files(self, run: str, ended: asyncio.Event) -> None:
        """A store that machines share hears of an attempt's evidence while it is made."""
        while self._store.is_shared and not ended.is_set():
            # Who stores the attempt's result meets the problem again, and says so.
            with suppress(StoreProblem):
                await asyncio.to_thread(self._store.keep_files, run)
            with suppress(TimeoutError):
                async with asyncio.timeout(_KEEP_S):
                    await ended.wait()

    def _gateway_config(self, prepared: Prepared, spent: Decimal) -> GatewayConfig:
        upstream = prepared.bundle.scenario.model
        left = max(Decimal(0), prepared.run_dollars - spent)
        return GatewayConfig(upstream=upstream, keys=provider_keys(upstream, self._keys), run_dollars=left)

    def _on_gateway_event(self, event: dict[str, Any]) -> None:
        if self._runner is not None:
            self._runner.on_gateway_event(event)

    async def _remove_pods(self, run: str) -> None:
        for pod in await self._backend.list():
            if pod.run == run:
                for removal in await self._backend.delete(pod.id):
                    self._gone += removal.gone
                    if not removal.gone:
                        self.teardown_problems.append(f"{removal.what}: {removal.detail or 'still there'}")

    def _receipt(self, run: str) -> None:
        """What was removed, into the audit log. Without room for it the run's result has none either, and says so."""
        gone = self._gone + (self._runner.gone if self._runner is not None else 0)
        left = [*self.teardown_problems, *(self._runner.left if self._runner is not None else ())]
        with suppress(StoreProblem):
            self._store.append([Entry("run.torn-down", run, data={"gone": gone, "left": [line[:200] for line in left[:50]]})])
        point("run.receipt-kept")

    def _conclude(
        self,
        info: RunInfo,
        prepared: Prepared,
        results: list[AttemptResult],
        notes: list[str],
        base: RunResult | None,
        watch: Watch | None,
    ) -> RunResult:
        result = conclude(
            replace(info, ended_ns=max(info.started_ns, self._clock.wall_ns())),
            results,
            planned=len(prepared.planned),
            gate=prepared.bundle.scenario.gate,
            spent=self._store.spent(info.id).dollars,
            notes=notes,
            base=base,
            stop=watch.stop(results, len(prepared.planned)) if watch is not None else None,
        )
        point("run.judged")
        self._store.finish_run(info.id, result)
        point("run.finished")
        return result


def _begun_by(before: RunInfo) -> str:
    if before.campaign is None:
        return "start a new run, or restore what it was started with"
    return f"start a new one, or restore what it was started with: podctl {before.campaign.kind}, with the same options"


def _as_begun(before: RunInfo, prepared: Prepared) -> Prepared:
    """A run that began before boundaries decided on what services are asked goes on in the same way, and says so."""
    services = prepared.bundle.topology.services
    if BOUNDARY in before.settings or not services:
        return prepared
    boundary = prepared.bundle.boundary.model_copy(update={"services": dict.fromkeys(services, "ai-writable")})
    note = "this run began before boundaries decided on what services are asked: every one was open whole"
    return replace(prepared, bundle=replace(prepared.bundle, boundary=boundary), left_out=(*prepared.left_out, note))


def _watch(prepared: Prepared, base: RunResult | None) -> Watch | None:
    if base is None or not prepared.bundle.scenario.run.fail_fast:
        return None
    aside = _quarantine(prepared)
    before = {ticket: counts for ticket, counts in by_ticket(base.plain.attempts).items() if ticket not in aside}
    planned = Counter(attempt.ticket.id for attempt in prepared.planned if attempt.variant is None)
    return Watch(before, planned, weighing_of_sample(prepared))


def weighing_of_sample(prepared: Prepared) -> Weighing | None:
    tickets = {ticket.id: ticket.stratum for ticket in prepared.drawn.tickets}
    return weighing(prepared.drawn.strata, prepared.bundle.scenario.sample.include, tickets)


def _quarantine(prepared: Prepared) -> dict[str, Quarantined]:
    """Of tickets in the sample."""
    spec = prepared.bundle.quarantine
    entries = {} if spec is None else spec.tickets
    drawn = [ticket.id for ticket in prepared.drawn.tickets if ticket.id in entries]
    return {one: Quarantined(entries[one].owner, entries[one].reason, entries[one].expires) for one in drawn}


def _not_there(known: WithPast, bundle: Bundle) -> list[str]:
    """Entries of the quarantine that no ticket answers to are most likely misspelt, or done with."""
    entries = {} if bundle.quarantine is None else bundle.quarantine.tickets
    gone = sorted(entries.keys() - {ticket.id for ticket in known.tickets} - known.left_out.keys())
    return [f"in quarantine, and no ticket of the source: {', '.join(gone[:10])}"] if gone else []


def refuse_unsigned(wanted: str, store: Store) -> None:
    """Raises `EnvironmentProblem` where the audit log is to be ``signed`` and nobody would."""
    if wanted == "signed" and not store.signs:
        raise EnvironmentProblem(
            "the scenario wants a signed audit log, and there is no key to sign it with",
            code="not-signed",
            cause="run.audit is signed",
            unchanged="nothing was made",
            hint="podctl audit key new makes one; PODCTL_SIGNING_KEY names one that is elsewhere",
        )


def load_baseline(store: StoreReader, name: str, scenario: str = "", besides: str = "", suite: str = "") -> RunResult:
    """A run by its id or its beginning; or the latest finished run of a git branch, except ``besides``, of ``scenario`` where that is given, and of the same ``suite``, or of none.

    Raises `StoreProblem` where there is no such run, `SpecError` for a shard: its tickets are no sample; and for a
    certificate: it has no attempts.
    """
    try:
        base = store.load_run(store.find_run(name))
    except StoreProblem as error:
        if error.code != "no-such-run" or name == "latest":
            raise
        base = store.load_run(_latest_of_branch(store, name, scenario, besides, suite))
    if base.info.shard is not None:
        raise SpecError(
            f"run {base.info.id} is shard {base.info.shard} of a run, and no baseline",
            code="baseline-shard",
            unchanged="nothing was made",
            hint="name the merged run; podctl get runs lists what there is",
        )
    return base


def _latest_of_branch(store: StoreReader, branch: str, scenario: str, besides: str, suite: str) -> str:
    for summary in store.list_runs():
        info = summary.info
        same = info.branch == branch and info.id != besides and scenario in ("", info.scenario)
        if same and info.suite == suite and summary.status == "finished" and info.shard is None:
            return info.id
    known = sorted({one.info.branch for one in store.list_runs() if one.info.branch and scenario in ("", one.info.scenario)})
    if Path(branch).is_file() or branch.startswith("certificate") or branch.endswith((".json", ".pem", ".cert")):
        what, hint = (
            f"{branch} is no baseline: a certificate has no attempts to compare with",
            "name the run that it is of, or a git branch that runs were made of",
        )
    else:
        what = f"there is neither a run {branch!r} nor a finished run{' of scenario ' if scenario else ''}{scenario} of a git branch {branch!r}"
        hint = (
            f"branches with runs: {', '.join(known)}"
            if known
            else "no run was started from a git work tree on a branch; podctl get runs"
        )
    raise SpecError(what, code="no-baseline", unchanged="nothing was made", hint=hint)


async def admit(backend: Backend, bundle: Bundle) -> list[Finding]:
    """An untrusted agent runs only where every required control is in effect; what was found of each.

    Raises `EnvironmentProblem` saying what this machine lacks; also where processes cannot be recorded and the
    scenario requires it. Raises `SpecError` when the backend cannot run the topology's services.
    """
    refuse_unfit(bundle.topology, backend.name, backend.runs_images)
    findings = await backend.check()
    lacking = missing(findings)
    if lacking and bundle.agent.trust == "untrusted":
        first = lacking[0]
        raise EnvironmentProblem(
            f"this machine cannot isolate an untrusted agent: {', '.join(finding.name for finding in lacking)}",
            code="not-isolated",
            cause=first.detail,
            unchanged="nothing was made",
            hint=f"{first.remedy}\npodctl doctor shows everything",
        )
    unrecorded = next((finding for finding in findings if finding.name == "processes" and finding.state != "yes"), None)
    if unrecorded is not None and bundle.scenario.run.processes == "required":
        raise EnvironmentProblem(
            "the scenario requires a record of processes, and there is none here",
            code="not-recorded",
            cause=unrecorded.detail,
            unchanged="nothing was made",
            hint=f"{unrecorded.remedy}\nor set run.processes: recorded, and reports say what is missing",
        )
    return findings


def _not_held(findings: list[Finding]) -> list[str]:
    return [f"{finding.name}: {finding.detail}" for finding in findings if _lessens(finding)]


def _lessens(finding: Finding) -> bool:
    """A limit that is not held here for the whole process tree, or evidence that is not kept."""
    return finding.state == "partly" and not finding.required


def missing(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.required and finding.state == "no"]


def _stored(planned: list[Planned]) -> list[StoredAttempt]:
    return [
        StoredAttempt(attempt.id, attempt.ticket.id, attempt.ticket.stratum, attempt.position, attempt.repeat, attempt.variant)
        for attempt in planned
    ]


def printed_settings(bundle: Bundle) -> dict[str, Any]:
    """What reports say of how the run was set up."""
    whole: Mapping[str, Any] = resolved(bundle)
    scenario = whole["scenario"]
    return {key: scenario[key] for key in ("limits", "checks", "gate", "sample", "run", "model")} | {
        "boundary": whole["boundary"].get("databases", {}),
        BOUNDARY: whole["boundary"],
        **_said_of_seeds(bundle),
        "scenario": _relative(bundle.path),
        **({} if bundle.cases is None else {"suite": _relative(bundle.scenario.tickets)}),
    }


def _said_of_seeds(bundle: Bundle) -> dict[str, Any]:
    """`SEEDS`: database -> what the topology says of its rows, and in which file."""
    file = _relative(bundle.scenario.topology)
    said = {
        name: {**database.seed.data.model_dump(), "file": file}
        for name, database in sorted(bundle.topology.databases.items())
        if database.mode == "mirrored" and database.seed.data is not None
    }
    return {SEEDS: said} if said else {}


def _relative(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

"""Picked agents, each tried beside what it was in the base: run here, in part, or put together of parts that others made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from podctl.ci.picking import Case
from podctl.clock import SystemClock
from podctl.controller.host import exit_code, host_run, verdict_code
from podctl.controller.merging import merge, piece_of
from podctl.controller.run import Prepared, load_baseline, prepare
from podctl.errors import ExitCode, SpecError
from podctl.evidence.results import RunInfo, RunResult
from podctl.evidence.store import Store
from podctl.evidence.store_read import StorePlace
from podctl.evidence.store_rows import RunSummary
from podctl.runs.runner import Listener
from podctl.signing import configured_key
from podctl.spec.load import load_bundle
from podctl.spec.resolved import spec_digest

Say = Callable[[str], None]
#: Labels of the runs that CI makes.
COMMIT, ENVIRONMENT = "commit", "environment"
_WORST = (
    ExitCode.INTERRUPTED,
    ExitCode.GATE_FAILED,
    ExitCode.ENVIRONMENT,
    ExitCode.INCONCLUSIVE,
    ExitCode.TEARDOWN_INCOMPLETE,
    ExitCode.DONE,
)


@dataclass(frozen=True)
class Plan:
    """A case, drawn. ``base`` is what it was in the base, to be run where the store has no run of it (``stored``)."""

    case: Case
    head: Prepared
    base: Prepared | None
    stored: str | None

    @property
    def baseline(self) -> str:
        """Where the run to compare with comes from, in words."""
        if self.stored is not None:
            return f"run {self.stored}"
        return "none: there was no such agent" if self.base is None and self.case.base is None else self._made

    @property
    def _made(self) -> str:
        return "none: the agent is what it was" if self.base is None else "made now"


@dataclass(frozen=True)
class Tried:
    plan: Plan
    result: RunResult
    code: ExitCode


def plan(case: Case, runs: Sequence[RunSummary], commits: tuple[str, str], shard: tuple[int, int] | None) -> Plan:
    """Draw the sample; makes nothing. ``runs`` are the store's, newest first, ``commits`` HEAD and the base.

    Raises `SpecError`.

    The base's agent is tried under what surrounds it now, so that nothing but the agent differs. A stored run will do when it
    was of that agent, the same specs and sample, and the same files around it. Where the agent is what it was, what changed is
    around it: then a stored run of it from before will do, and the comparison says what else differs.
    """
    head = _prepared(case, None, commits[0], shard)
    if not case.agent_changed:
        return Plan(case, head, None, _latest(runs, lambda info: _is_earlier(info, head, case)))
    if case.base is None:
        return Plan(case, head, None, None)
    base = _prepared(case, case.base, commits[1], shard)
    return Plan(case, head, base, _latest(runs, lambda info: _is_same(info, base, case)))


def _prepared(case: Case, agent: Path | None, commit: str, shard: tuple[int, int] | None) -> Prepared:
    bundle = case.bundle if agent is None else replace(case.bundle, agent=load_bundle(case.bundle.path, {"agent": agent}).agent)
    labels = {COMMIT: commit, ENVIRONMENT: case.environment}
    return replace(prepare(bundle, shard), labels=labels)


def _latest(runs: Sequence[RunSummary], fits: Callable[[RunInfo], bool]) -> str | None:
    """The newest whole and finished run that fits."""

    def is_whole(run: RunSummary) -> bool:
        return run.status == "finished" and run.info.shard is None

    return next((run.info.id for run in runs if is_whole(run) and fits(run.info)), None)


def _is_same(info: RunInfo, base: Prepared, case: Case) -> bool:
    wanted = (base.identity.digest, base.drawn.digest, spec_digest(base.bundle))
    around = bool(case.environment) and info.labels.get(ENVIRONMENT) == case.environment
    return around and (info.agent_digest, info.sample_digest, info.spec_digest) == wanted


def _is_earlier(info: RunInfo, head: Prepared, case: Case) -> bool:
    return info.agent_digest == head.identity.digest and info.scenario == case.bundle.scenario.name


@dataclass(frozen=True)
class Here:
    """Runs are made on this machine, whole or in part."""

    place: StorePlace
    store: Store
    backend: str
    listener: Listener
    say: Say

    def make(self, prepared: Prepared, baseline: str | None, *, strict: bool) -> tuple[RunResult, ExitCode]:
        outcome = host_run(prepared, self.place, baseline=baseline, listener=self.listener, say=self.say, backend=self.backend)
        for problem in outcome.teardown_problems:
            self.say(f"not removed: {problem}")
        return outcome.result, exit_code(outcome, strict=strict)


@dataclass(frozen=True)
class PutTogether:
    """Runs are shards in other stores: nothing is run."""

    store: Store
    parts: Sequence[Store]
    say: Say

    def make(self, prepared: Prepared, baseline: str | None, *, strict: bool) -> tuple[RunResult, ExitCode]:
        """Raises `SpecError` where shards are missing."""
        wanted = (prepared.identity.digest, prepared.drawn.digest, spec_digest(prepared.bundle), prepared.labels[COMMIT])
        pieces = [
            piece_of(store, run.info.id)
            for store in self.parts
            for run in store.list_runs()
            if run.info.shard is not None
            and (run.info.agent_digest, run.info.sample_digest, run.info.spec_digest, run.info.labels.get(COMMIT)) == wanted
        ]
        if not pieces:
            raise SpecError(
                f"there is no shard of {named(prepared)} of this commit",
                code="merge-missing",
                cause=f"looked for in {', '.join(str(store.directory) for store in self.parts)}",
                hint="make them with podctl ci --shard I/N, of the same commit and the same base",
            )
        base = load_baseline(self.store, baseline) if baseline else None
        result, _ = merge(pieces, self.store, base)
        return result, verdict_code(result, strict=strict)


def attempt(planned: Plan, maker: Here | PutTogether, *, strict: bool) -> Tried:
    """The agent beside what it was. A base that was interrupted ends it: there is nothing to hold the agent against."""
    baseline = planned.stored
    part = planned.head.shard is not None
    if baseline is None and planned.base is not None:
        maker.say(f"what it was: {named(planned.base)}")
        made, code = maker.make(planned.base, None, strict=False)
        if code is ExitCode.INTERRUPTED:
            return Tried(planned, made, code)
        if made.status != "finished":
            maker.say(f"what it was did not finish, and is compared as far as it came: {'; '.join(made.notes)}")
        baseline = made.info.id
    maker.say(f"what it is: {named(planned.head)}")
    result, code = maker.make(planned.head, None if part else baseline, strict=strict and not part)
    return Tried(planned, result, code)


def named(prepared: Prepared) -> str:
    """The scenario and the agent."""
    bundle = prepared.bundle
    part = f", shard {prepared.shard}" if prepared.shard else ""
    return f"{bundle.scenario.name}, {bundle.agent.name} {bundle.agent.version}{part}"


def worst(tried: Sequence[Tried]) -> ExitCode:
    codes = {one.code for one in tried}
    return next((code for code in _WORST if code in codes), ExitCode.DONE)


def open_store(place: StorePlace) -> Store:
    return Store.at(place, SystemClock(), key=configured_key())

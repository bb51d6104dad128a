"""Hosts a run inside this process: signals, orphans of earlier runs, the event loop, the files it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from podctl.backends.base import Backend
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.state import State
from podctl.clock import SystemClock
from podctl.controller.elsewhere import sweep_among
from podctl.controller.revision import revision_of
from podctl.controller.run import Prepared, RunController, new_run_id
from podctl.controller.settle import settle
from podctl.controller.sweep import Receipt, sweep
from podctl.errors import ExitCode
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.evidence.store_read import StorePlace
from podctl.faults import point
from podctl.runs.runner import Listener, silent
from podctl.signing import configured_key


@dataclass(frozen=True)
class Outcome:
    result: RunResult
    teardown_problems: tuple[str, ...]
    interrupted: bool


def host_run(
    prepared: Prepared,
    store_at: StorePlace,
    *,
    baseline: str | None = None,
    resume: str | None = None,
    listener: Listener = silent,
    say: Callable[[str], None] = lambda _: None,
    backend: str = "local",
    nobody: str = "nobody is there to be asked",
) -> Outcome:
    """Make a run and wait for it. The first ^C or SIGTERM tears down; the second leaves at once and says what remains.

    ``nobody``: why no person can be asked to approve anything; empty where people are."""
    settle()
    return asyncio.run(_host(prepared, store_at, baseline, resume, listener, say, backend, nobody))


async def _host(
    prepared: Prepared,
    store_at: StorePlace,
    baseline: str | None,
    resume: str | None,
    listener: Listener,
    say: Callable[[str], None],
    where: str,
    nobody: str,
) -> Outcome:
    backend, receipt, left = await _backend(where, prepared)
    point("run.swept")
    if receipt.removals:
        say(f"removed {receipt.pods} {'pod' if receipt.pods == 1 else 'pods'} that a dead run had left (podctl gc)")
    store = Store.at(store_at, SystemClock(), key=configured_key())
    controller = RunController(store, backend, listener=listener, revision=revision_of(prepared.bundle.path), nobody=nobody)
    cut_off = store.cut_off()
    if cut_off and not resume:
        say(f"run {cut_off} was cut off before it finished: --resume {cut_off} goes on with it")
    loop = asyncio.get_running_loop()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            say("stopping: ending what runs and removing the pods; once more leaves at once")
            tasks.append(loop.create_task(controller.interrupt()))
        else:
            _leave(left(), where, say)

    tasks: list[asyncio.Task[None]] = []
    handled = [signal.SIGINT, signal.SIGTERM]
    # Under nohup a run is meant to outlive its terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    for number in handled:
        loop.add_signal_handler(number, on_signal)
    try:
        run = store.find_run(resume) if resume else new_run_id(SystemClock())
        result = await controller.reconcile(prepared, run, baseline=baseline)
        if controller.had_finished:
            say(f"run {result.info.id} has finished: nothing was made again")
    except BaseException:
        if controller.begun:
            say(f"run {controller.begun} is kept as far as it came: --resume {controller.begun} goes on with it")
        raise
    finally:
        await backend.close()
        store.close()
        for number in handled:
            loop.remove_signal_handler(number)
    return Outcome(result, tuple(controller.teardown_problems), controller.interrupted)


async def _backend(where: str, prepared: Prepared) -> tuple[Backend, Receipt, Callable[[], list[str]]]:
    """The backend, what was swept before, and how to tell which pods of it are still there."""
    ttl = prepared.bundle.scenario.run.ttl
    if where == "kubernetes":
        # Slow to import, and most runs are local.
        from podctl.backends.kubernetes.backend import KubernetesBackend

        cluster = await KubernetesBackend.open(os.environ, ttl_s=ttl)
        return cluster, await sweep_among(await cluster.list(), cluster.cluster.now_ns(), cluster.delete), cluster.held
    if where == "docker":
        from podctl.backends.docker.backend import DockerBackend

        docker = await DockerBackend.open(os.environ, ttl_s=ttl)
        return docker, await sweep_among(await docker.list(), SystemClock().wall_ns(), docker.delete), docker.held
    state = State.open()
    receipt = await sweep(state)

    def mine() -> list[str]:
        return [record.id for record in state.records() if record.owner.pid == os.getpid()]

    return LocalBackend(state, ttl_s=ttl), receipt, mine


def _leave(pods: list[str], where: str, say: Callable[[str], None]) -> None:
    command = "podctl gc" if where == "local" else f"podctl gc --backend {where}"
    say(f"left with {len(pods)} pods not removed: {', '.join(pods) or 'none'}\n  {command} removes them")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(ExitCode.INTERRUPTED))


def exit_code(outcome: Outcome, *, strict: bool) -> ExitCode:
    """What the verdict and the teardown mean for a script."""
    if outcome.interrupted:
        return ExitCode.INTERRUPTED
    code = verdict_code(outcome.result, strict=strict)
    if outcome.teardown_problems and outcome.result.verdict == "pass":
        return ExitCode.TEARDOWN_INCOMPLETE
    return code


def verdict_code(result: RunResult, *, strict: bool) -> ExitCode:
    if result.verdict == "fail":
        return ExitCode.GATE_FAILED
    if result.verdict == "inconclusive" and _infrastructure_failed(result):
        return ExitCode.ENVIRONMENT
    return ExitCode.INCONCLUSIVE if result.verdict == "inconclusive" and strict else ExitCode.DONE


def _infrastructure_failed(result: RunResult) -> bool:
    return any(finding.name == "infrastructure_failures" and finding.verdict != "pass" for finding in result.findings)

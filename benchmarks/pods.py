"""What a pod costs: each step of making one, a reset, a sandboxed command, teardown; beside the same work by hand."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import replace

from benchmarks.by_hand import ByHand, bare_bwrap
from benchmarks.effort import Effort, seconds
from benchmarks.projects import make_project
from benchmarks.table import Row, ms, spread
from podctl.backends.base import Backend, Command
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.state import State
from podctl.backends.local.templates import directory_name
from podctl.pods.plan import PodSpec, batches, steps
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle

MEGABYTES = 50
FORKS = "i=0; while [ $i -lt {} ]; do /bin/true; i=$((i+1)); done"


def measure(effort: Effort) -> list[Row]:
    project = make_project(effort.directory / "p", megabytes=effort.pick(0, MEGABYTES, MEGABYTES))
    bundle = load_bundle(project.scenario)
    found = asyncio.run(_pods(bundle, effort.times(15), effort.pick(10, 1000, 1000)))
    state = State.open()
    template = state.templates / directory_name(bundle.topology.databases["main-db"])
    hand = ByHand(effort.directory, template, project.root / "service" / "service.py")
    floors: dict[str, list[float]] = defaultdict(list)
    for number in range(effort.times(10)):
        for name, took in hand.once(number).items():
            floors[name].append(took)
    forked = seconds(lambda: subprocess.run(["/bin/true"], check=True), effort.times(30))
    wrapped = seconds(bare_bwrap, effort.times(30))

    def by_hand(name: str) -> str:
        return f"by hand, not isolated: {spread(ms(floors[name]), 'ms')}"

    def row(name: str, key: str, beside: str = "", target: float | None = None) -> Row:
        return Row(name, ms(found[key]), "ms", beside, target)

    def not_recorded(name: str) -> str:
        return f"processes not recorded: {spread(ms(found[f'{name}, not recorded']), 'ms')}"

    parts = [row(f"  of it {key}", key) for key in found if key.startswith("make ")]
    sandbox = f"fork and exec {spread(ms(forked), 'ms')}, bare bwrap --unshare-all {spread(ms(wrapped), 'ms')}"
    return [
        row(f"pod ready, {MEGABYTES} MB, two services", "ready", by_hand("ready"), 350),
        *parts,
        row("state reset: databases", "reset", by_hand("reset"), 40),
        row("  with services restarted", "renewed", by_hand("renewed")),
        row("teardown", "teardown", by_hand("teardown"), 150),
        row("sandbox: /bin/true, start to end", "sandbox", f"{not_recorded('sandbox')}, {sandbox}", 8),
        row("  with workspace and collection", "execute"),
        row("sandbox: 1,000 times /bin/true", "forks", not_recorded("forks")),
    ]


async def _pods(bundle: Bundle, pods: int, forks: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    backend = LocalBackend(State.open())
    await backend.prepare(bundle)
    command = Command(argv=("/bin/true",), environment={}, directory=bundle.agent.directory)
    for number in range(pods):
        spec = PodSpec(f"bench-{number}", "bench", bundle.topology)
        found["ready"].append(await timed(bring(backend, spec, found)))
        for generation in range(2, 4):
            spec = replace(spec, generation=generation)
            found["renewed"].append(await timed(bring(backend, spec, found)))
        for _ in range(3):
            began = time.perf_counter()
            done = await backend.execute(spec.id, command)
            found["execute"].append(time.perf_counter() - began)
            found["sandbox"].append(done.wall_s)
            unrecorded = await backend.execute(spec.id, replace(command, record=""))
            found["sandbox, not recorded"].append(unrecorded.wall_s)
        forking = replace(command, argv=("/bin/sh", "-c", FORKS.format(forks)))
        found["forks"].append((await backend.execute(spec.id, forking)).wall_s)
        found["forks, not recorded"].append((await backend.execute(spec.id, replace(forking, record=""))).wall_s)
        found["teardown"].append(await timed(backend.delete(spec.id)))
    await backend.close()
    return found


async def bring(backend: Backend, spec: PodSpec, found: dict[str, list[float]]) -> None:
    """The same batches of steps as a run makes."""
    for batch in batches(steps(spec, await backend.observe(spec.id)), spec.topology):
        first = batch[0]
        took = await timed(asyncio.gather(*(backend.apply(spec, step) for step in batch)))
        if first.action == "reset":
            found["reset"].append(took)
        elif spec.generation == 1:
            found[f"make {first.resource.kind}{'s, at once' if len(batch) > 1 else ''}"].append(took)


async def timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began

"""What idle pods hold in memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.projects import bring, make_project
from benchmarks.table import Row
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.state import State
from podctl.pods.plan import PodSpec
from podctl.spec.load import load_bundle

PODS = 8
MEGABYTES = 50


def measure(effort: Effort) -> list[Row]:
    pods = effort.pick(2, PODS, PODS)
    project = make_project(effort.directory / "p", megabytes=effort.pick(0, MEGABYTES, MEGABYTES), run={"pods": pods + 1})
    return asyncio.run(_measure(project.scenario, pods))


async def _measure(scenario: Path, number: int) -> list[Row]:
    bundle = load_bundle(scenario)
    state = State.open()
    backend = LocalBackend(state)
    await backend.prepare(bundle)
    pods: list[PodSpec] = []

    async def another() -> tuple[float, float]:
        spec = PodSpec(f"memory-{len(pods)}", "bench", bundle.topology)
        await bring(backend, spec)
        pods.append(spec)
        await asyncio.sleep(0.2)
        return _held(state, pods)

    try:
        for _ in range(number):
            processes, files = await another()
        one_more, _ = await another()
    finally:
        for spec in pods:
            await backend.delete(spec.id)
        await backend.close()
    beside = f"besides: {files:.0f} MB of database files in memory"
    return [
        Row(f"{number} idle pods, two services each, PSS", [processes], "MB", beside, 500),
        Row(
            "one pod more",
            [one_more - processes],
            "MB",
            "by /proc/PID/smaps_rollup of all in the pod, shared pages by their share",
            60,
        ),
    ]


def _held(state: State, pods: list[PodSpec]) -> tuple[float, float]:
    """(proportional set size of all processes, files in the pods' memory file systems), in MB."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    processes = files = 0.0
    for spec in pods:
        record = state.read(spec.id)
        assert record is not None and record.init is not None
        found, todo = [], [record.init.pid]
        while todo:
            found.append(todo.pop())
            todo += children.get(found[-1], [])
        processes += sum(map(_pss, found))
        place = os.statvfs(f"/proc/{record.init.pid}/root{state.directory(spec.id)}/pg")
        files += (place.f_blocks - place.f_bfree) * place.f_frsize / 2**20
    return processes, files


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

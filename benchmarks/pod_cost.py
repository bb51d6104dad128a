"""What a local pod costs: each step of making one, a reset, a sandboxed command, teardown; medians, beside floors.

    python benchmarks/pod_cost.py [--pods 7]

Floors of the same run: PostgreSQL started by hand on a copied data directory, and a process started without a
sandbox. Makes a topology of its own: one small database, one standard-library service.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from project import make_project, ticket

from podctl.backends.base import Command
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.state import State
from podctl.pods.plan import PodSpec, steps
from podctl.spec.load import load_bundle


async def measure(pods: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        project = make_project(Path(directory) / "p", agent="", tickets=[ticket("1")])
        bundle = load_bundle(project.root / "scenario.yaml")
        backend = LocalBackend(State.open())
        await backend.prepare(bundle)
        command = Command(argv=("/bin/true",), environment={}, directory=bundle.agent.directory)
        for number in range(pods):
            spec = PodSpec(f"bench-{number}", "bench", bundle.topology)
            began = time.perf_counter()
            for step in steps(spec, {}):
                found[f"  {step}"].append(await timed(backend.apply(spec, step)))
            found["pod ready"].append(time.perf_counter() - began)
            for generation in range(2, 5):
                spec = replace(spec, generation=generation)
                total = 0.0
                for step in steps(spec, await backend.observe(spec.id)):
                    took = await timed(backend.apply(spec, step))
                    total += took
                    if step.action == "reset":
                        found["  reset database"].append(took)
                found["reset, service restarted"].append(total)
            for _ in range(5):
                found["sandboxed /bin/true, workspace and collection"].append(await timed(backend.execute(spec.id, command)))
            found["teardown"].append(await timed(backend.delete(spec.id)))
        await backend.close()
    for _ in range(20):
        began = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        found["floor: /bin/true without a sandbox"].append(time.perf_counter() - began)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import http.server"], check=True)
        found["floor: the service's interpreter and imports"].append(time.perf_counter() - began)
    return found


async def timed(work) -> float:  # type: ignore[no-untyped-def]
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=7)
    found = asyncio.run(measure(parser.parse_args().pods))
    print(f"{'':52} {'median':>8} {'min':>8} {'max':>8}  ms")
    for name, values in found.items():
        figures = (statistics.median(values), min(values), max(values))
        print(f"{name:52} " + " ".join(f"{figure * 1000:8.1f}" for figure in figures))


if __name__ == "__main__":
    main()

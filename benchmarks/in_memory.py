"""One run on the memory backend: all of podctl but pods. ``python -m benchmarks.in_memory SCENARIO STORE``; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from benchmarks.projects import peak_mb
from podctl.backends.memory import Call, MemoryBackend
from podctl.clock import SystemClock
from podctl.controller.run import RunController, prepare
from podctl.evidence.store import Store
from podctl.spec.load import load_bundle


async def _agent(call: Call) -> int:
    call.files["result.json"] = b'{"status": "done"}'
    return 0


def main(scenario: Path, directory: Path) -> None:
    prepared = prepare(load_bundle(scenario))
    store = Store.open(directory, SystemClock())
    backend = MemoryBackend({"/bin/sh": _agent}, {"main-db": {"items": {1: {"id": 1, "label": "item 1"}}}}, isolates=True)
    wall, cpu = time.perf_counter(), time.process_time()
    result = asyncio.run(RunController(store, backend).reconcile(prepared, "r-1"))
    found = {
        "passed": sum(attempt.passed for attempt in result.attempts),
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak_mb("self"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

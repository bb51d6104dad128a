"""How busy this machine is, whoever makes it so."""

from __future__ import annotations

import os
import time


def busy(*, niced: bool = False) -> float:
    """Seconds of processor time of the whole machine so far: a pod's processes are nobody's children."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, open("/proc/stat").readline().split()[1:])
    return (user + system + irq + softirq + nice * niced) / 100


def share(seconds: float = 2.0) -> float:
    """Of all processors, over so many seconds from now."""
    before, began = busy(niced=True), time.monotonic()
    time.sleep(seconds)
    return (busy(niced=True) - before) / (time.monotonic() - began) / (os.cpu_count() or 1)

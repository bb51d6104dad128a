"""What podctl costs on this machine, each figure beside its floor or a peer measured in the same run.

    python -m benchmarks [NAME …] [--tiny | --quick | --long]

Without names everything is measured that needs this machine alone; cluster, at_once and controller need KUBECONFIG,
PODCTL_IMAGE and kubectl; controller a PODCTL_STORE_URL too.
Exits with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.machine import share
from benchmarks.table import Row, render

#: In the order of the table; each is a module here with ``measure(effort)``.
NAMES = (
    "cli",
    "pods",
    "memory",
    "store",
    "audit",
    "reports",
    "throughput",
    "growth",
    "gateway",
    "boundary",
    "tools",
    "capture",
    "data",
    "masking",
    "projection",
    "gate",
    "honeytokens",
    "compare",
    "containers",
)
#: Measured when named: they need KUBECONFIG and PODCTL_IMAGE, and kubectl to compare with.
ON_REQUEST = ("cluster", "at_once", "controller")

SIZES = {
    "tiny": "each thing once, on next to nothing: whether the benchmarks work, no figures to go by",
    "quick": "repeat less: a few minutes for everything",
    "long": "10,000 attempts where it is about growth: half an hour more",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES + ON_REQUEST)}")
    size = parser.add_mutually_exclusive_group()
    for name, meaning in SIZES.items():
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name, default="usual", help=meaning)
    chosen = parser.parse_args()
    unknown = set(chosen.names) - {*NAMES, *ON_REQUEST}
    if unknown:
        parser.error(f"no benchmark called {', '.join(sorted(unknown))}: choose from {', '.join(NAMES + ON_REQUEST)}")
    # As an installed podctl would be: its modules compiled once, and found compiled afterwards.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    print(f"before the first benchmark others used {share():.0%} of the processors", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="podctl-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)  # pods have users of their own
        os.environ["PODCTL_STATE"] = f"{directory}/state"
        for name in chosen.names or NAMES:
            began = time.monotonic()
            print(f"{name} …", end=" ", file=sys.stderr, flush=True)
            place = Path(directory) / name
            place.mkdir(mode=0o711)
            rows += importlib.import_module(f"benchmarks.{name}").measure(Effort(place, chosen.size))
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    print(render(rows))
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

"""What runs inside a test pod's Pods: plain scripts, given to them as files."""

from __future__ import annotations

from pathlib import Path

from podctl import backends
from podctl.backends.servicing import SERVICE_SCRIPTS

_NAMES = ("mux.py", "door.py", "keeper.py", "probe.py", "facts.py", "supervisor.py", "copying.py")


def scripts() -> dict[str, bytes]:
    here = Path(__file__).parent
    found = {name: (here / name).read_bytes() for name in _NAMES}
    return found | {name: (Path(backends.__file__).parent / name).read_bytes() for name in SERVICE_SCRIPTS}

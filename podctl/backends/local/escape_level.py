"""What a result of the escape suite holds for on this machine."""

from __future__ import annotations

import os
import platform

from podctl import __version__
from podctl.backends.escape.level import Ledger
from podctl.backends.local.state import State


def ledger(state: State) -> Ledger:
    here = {
        "machine": platform.node(),
        "kernel": f"{platform.release()} {platform.machine()}",
        "podctl": __version__,
        "uids": "own uids" if os.getuid() == 0 else "the caller's uid",
    }
    return Ledger(state.root / "escape.json", here, "podctl doctor --escape")

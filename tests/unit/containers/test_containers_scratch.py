"""What a killed process left on this machine goes with the next sweep; a living one's stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from podctl.backends.containers.scratch import Scratch, sweep_scratch

HOLD = "from podctl.backends.containers.scratch import Scratch; print(Scratch().path, flush=True); input()"


def test_the_directory_of_a_killed_process_is_removed_and_of_a_living_one_is_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().strip())
    mine = Scratch()
    assert theirs not in sweep_scratch() and theirs.exists() and mine.path.exists()
    process.kill()
    process.communicate()
    removed = sweep_scratch()
    assert theirs in removed and not theirs.exists() and mine.path.exists()
    mine.close()
    assert not mine.path.exists()

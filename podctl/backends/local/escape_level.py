"""What the escape suite last proved here: kept beside the pods, printed on every report, asked before an untrusted agent."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict

from podctl import __version__
from podctl.backends.base import Finding
from podctl.backends.local.escape_checks import Result
from podctl.backends.local.state import State

COMMAND = "podctl doctor --escape"
NOT_RUN = f"escape suite not run here: {COMMAND}"
_FILE = "escape.json"


def here() -> dict[str, str]:
    """What a result holds for; under anything else it says nothing."""
    return {
        "machine": platform.node(),
        "kernel": f"{platform.release()} {platform.machine()}",
        "podctl": __version__,
        "uids": "own uids" if os.getuid() == 0 else "the caller's uid",
    }


def refused(results: Sequence[Result]) -> list[Result]:
    """Those for which untrusted agents are refused."""
    return [result for result in results if result.state in ("FAIL", "INCONCLUSIVE")]


def level(results: Sequence[Result], day: str | None = None) -> str:
    """One line: how many checks passed, when (today unless given), with which podctl."""
    limited = [result.name for result in results if result.state == "LIMITATION"]
    tried = len(results) - len(limited)
    passed = sum(result.state == "PASS" for result in results)
    beside = f", not limited here: {', '.join(limited)}" if limited else ""
    return f"escape suite: {passed} of {tried} checks passed{beside} ({day or _today()}, podctl {__version__})"


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def keep(state: State, results: Sequence[Result]) -> None:
    path = state.root / _FILE
    temporary = path.with_suffix(f".{os.getpid()}")
    told = {"here": here(), "day": _today(), "results": [asdict(result) for result in results]}
    temporary.write_text(json.dumps(told, indent=1))
    temporary.chmod(0o600)
    temporary.replace(path)


def kept(state: State) -> tuple[list[Result], str] | None:
    """The last results of this machine, kernel, podctl and user mode, and their day; None when there are none."""
    try:
        told = json.loads((state.root / _FILE).read_text())
        if told["here"] != here():
            return None
        return [Result(**result) for result in told["results"]], str(told["day"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def proven(state: State) -> str:
    """The level for a report's line on isolation."""
    last = kept(state)
    return NOT_RUN if last is None else level(*last)


def finding(state: State) -> Finding:
    """For `check`: a result that is not clean refuses untrusted agents, a missing one does not."""
    last = kept(state)
    if last is None:
        return Finding("escape suite", "partly", "not run on this machine with this kernel and podctl", COMMAND)
    bad = refused(last[0])
    if bad:
        names = ", ".join(f"{result.name} {result.state}" for result in bad)
        return Finding("escape suite", "no", f"{level(*last)}: {names}", f"{COMMAND} shows what got through, and tries again")
    return Finding("escape suite", "yes", level(*last))

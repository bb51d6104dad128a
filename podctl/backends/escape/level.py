"""What the escape suite last proved: kept with podctl's state, printed on every report, asked before an untrusted agent."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from podctl import __version__
from podctl.backends.base import Finding
from podctl.backends.directory import own_directory
from podctl.backends.escape.checks import Result


@dataclass(frozen=True)
class Ledger:
    """Where a result is kept, what it holds for (under anything else it says nothing), and how to get one."""

    file: Path
    here: Mapping[str, str]
    command: str

    @property
    def not_run(self) -> str:
        return f"escape suite not run here: {self.command}"

    def keep(self, results: Sequence[Result]) -> None:
        """Raises `EnvironmentProblem` where podctl's state cannot be kept."""
        own_directory(self.file.parent)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        told = {"here": self.here, "day": _today(), "results": [asdict(result) for result in results]}
        temporary.write_text(json.dumps(told, indent=1))
        temporary.chmod(0o600)
        temporary.replace(self.file)

    def kept(self) -> tuple[list[Result], str] | None:
        """The last results for the same facts, and their day; None when there are none of this user's."""
        try:
            if self.file.parent.lstat().st_uid != os.getuid():
                return None
            told = json.loads(self.file.read_text())
            if told["here"] != self.here:
                return None
            return [Result(**result) for result in told["results"]], str(told["day"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def proven(self) -> str:
        """The level for a report's line on isolation."""
        last = self.kept()
        return self.not_run if last is None else level(*last)

    def finding(self) -> Finding:
        """For `check`: a result that is not clean refuses untrusted agents, a missing one does not."""
        last = self.kept()
        if last is None:
            facts = ", ".join(name for name in self.here)
            return Finding("escape suite", "partly", f"not run with this {facts}", self.command)
        bad = refused(last[0])
        if bad:
            names = ", ".join(f"{result.name} {result.state}" for result in bad)
            remedy = f"{self.command} shows what got through, and tries again"
            return Finding("escape suite", "no", f"{level(*last)}: {names}", remedy)
        return Finding("escape suite", "yes", level(*last))


def refused(results: Sequence[Result]) -> list[Result]:
    """Those for which untrusted agents are refused."""
    return [result for result in results if result.state in ("FAIL", "INCONCLUSIVE")]


def level(results: Sequence[Result], day: str | None = None) -> str:
    """One line: how many checks passed, when (today unless given), with which podctl."""
    limited = [result.name for result in results if result.state == "LIMITATION"]
    tried = sum(result.state in ("PASS", "FAIL", "INCONCLUSIVE") for result in results)
    passed = sum(result.state == "PASS" for result in results)
    beside = f", not limited here: {', '.join(limited)}" if limited else ""
    return f"escape suite: {passed} of {tried} checks passed{beside} ({day or _today()}, podctl {__version__})"


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())

"""``podctl doctor --escape`` on a backend, and what follows from its result: the same wherever it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.backends.escape.checks import Result
from podctl.backends.escape.level import level
from podctl.controller.run import missing

SAID = "escape suite: 1 of 2 checks passed"


@dataclass(frozen=True)
class Suite:
    """A run of the suite, and what `doctor` without it says afterwards."""

    items: dict[str, Any]
    code: int
    said: str
    after: list[Any]

    def kept(self) -> tuple[str, str]:
        found = next(item for item in self.after if item["name"] == "escape suite")
        return found["state"], found["detail"]

    def level(self) -> str:
        return level([Result(name, item["state"], "") for name, item in self.items.items()])


def run_suite(backend: str, state: Path) -> Suite:
    command = [sys.executable, "-m", "podctl", "doctor", "--backend", backend, "-o", "json"]

    def podctl(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PODCTL_STATE": str(state)}
        return subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=600)

    done = podctl("--escape")
    assert done.stdout, done.stderr
    items = {item["name"]: item for item in json.loads(done.stdout)["items"]}
    return Suite(items, done.returncode, done.stderr, json.loads(podctl().stdout)["items"])


async def refused_after(opened: Callable[[], Awaitable[Any]]) -> tuple[list[str], str, str]:
    """What an untrusted agent lacks after an unclean result, what reports say then, and the finding after a clean one."""
    used = await opened()
    try:
        ledger = await used.ledger()
        ledger.keep([Result("dns", "PASS", ""), Result("ptrace", "FAIL", "worked")])
        lacking = [finding.name for finding in missing(await used.check())]
        said = used.isolation()
        ledger.keep([Result("dns", "PASS", ""), Result("ptrace", "PASS", "")])
        return lacking, said, ledger.finding().state
    finally:
        await used.close()

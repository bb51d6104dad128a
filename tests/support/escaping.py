"""``podctl doctor --escape`` on a backend, and what follows from its result: the same wherever it runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.backends.escape.checks import CHECKS, Result
from podctl.backends.escape.level import level
from podctl.controller.run import missing


@dataclass(frozen=True)
class Suite:
    """A run of the suite, and what `doctor` without it says afterwards."""

    items: dict[str, Any]
    code: int
    said: str
    after: list[Any]

    def name(self) -> str:
        found = re.search(r"making two pods of run (escape-\w+)", self.said)
        assert found, self.said
        return found[1]

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


def assert_fails(weak: dict[str, dict[str, Result]], protection: str, names: tuple[str, ...]) -> None:
    """These checks fail without the protection, and pass with it."""
    for name in names:
        if name in CHECKS:
            assert weak[""][name].state == "PASS", weak[""][name]
            assert weak[protection][name].state == "FAIL", weak[protection][name]


def assert_refused_after(opened: Callable[[], Awaitable[Any]]) -> None:
    """An unclean result refuses untrusted agents and is on every report; a clean one does not."""

    async def work() -> None:
        used = await opened()
        try:
            ledger = await used.ledger()
            ledger.keep([Result("dns", "PASS", ""), Result("ptrace", "FAIL", "worked")])
            assert [finding.name for finding in missing(await used.check())] == ["escape suite"]
            assert "escape suite: 1 of 2 checks passed" in used.isolation()
            ledger.keep([Result("dns", "PASS", ""), Result("ptrace", "PASS", "")])
            assert ledger.finding().state == "yes"
        finally:
            await used.close()

    asyncio.run(work())

"""What bandit says of Python that an agent left, asked in a process of its own under limits."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath

from podctl.evidence.scanned import ScanFinding, Severity

#: Processor seconds for all of an attempt's sources, and twice that on the clock.
SECONDS = 10
_SEVERITY: dict[str, Severity] = {"HIGH": "high", "MEDIUM": "medium", "LOW": "low"}
#: Their texts repeat the password that they found.
_TELLS = frozenset({"B105", "B106", "B107"})
_STATEMENT = re.compile(r"^(?:import \w+|from \w[\w.]* import |def \w+\(|class \w+[(:]|@\w+)", re.M)
#: What a Python needs to find its packages; the keys that podctl holds are none of its business.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG")
#: Sources that are tried one by one when all together could not be read.
_ALONE = 20


def is_python(path: str, content: bytes) -> bool:
    head = content[:200].splitlines()[:1]
    return PurePosixPath(path).suffix in (".py", ".pyw", ".pyi") or bool(
        head and head[0].startswith(b"#!") and b"python" in head[0]
    )


def looks_like_python(text: str) -> bool:
    """For rows and bodies, which have no name: several lines, one of them a statement that only Python has."""
    return text.count("\n") >= 2 and _STATEMENT.search(text) is not None


async def bandit(sources: Mapping[str, bytes], seconds: int = SECONDS) -> tuple[list[ScanFinding], list[str]]:
    """``sources``: where -> source. Findings, and what could not be looked at and why. Never raises for what a source is."""
    if not sources:
        return [], []
    told = await _ask(sources, seconds)
    if told is not None:
        return told
    if len(sources) == 1:
        return [], [f"{next(iter(sources))}: bandit did not come to an end within {seconds} s and its memory"]
    findings: list[ScanFinding] = []
    unseen: list[str] = []
    for where, source in list(sources.items())[:_ALONE]:
        more, missed = await bandit({where: source}, max(1, seconds // 5))
        findings += more
        unseen += missed
    unseen += [f"{where}: other sources kept bandit busy" for where in list(sources)[_ALONE:]]
    return findings, unseen


async def _ask(sources: Mapping[str, bytes], seconds: int) -> tuple[list[ScanFinding], list[str]] | None:
    """None when the process did not live to answer."""
    names = {f"{number}.py": where for number, where in enumerate(sources)}
    given = {name: base64.b64encode(sources[where]).decode() for name, where in names.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "podctl.scans.bandit_worker", str(seconds),
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(json.dumps(given).encode()), 2 * seconds + 10)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        return None
    told = json.loads(out)
    findings = [
        ScanFinding(f"bandit.{rule}", _SEVERITY.get(level, "low"), names[name], _said(rule, text), line)
        for name, rule, level, line, text in told["issues"]
    ]
    return findings, [f"{names[name]}: {why}" for name, why in told["skipped"].items()]


def _said(rule: str, text: str) -> str:
    return "a password stands in the source" if rule in _TELLS else " ".join(text.split())

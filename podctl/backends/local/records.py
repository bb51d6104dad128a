"""What a recorder wrote about the processes of an execution, read back."""

from __future__ import annotations

import json
import os
from typing import Any

from podctl.backends.base import Image, Process, Recording
from podctl.errors import EnvironmentProblem
from podctl.scans.leavings import Listening

#: More than a recorder writes at most: its bounds, with each byte of an argument as an escape of six.
RECORD_BYTES = 64 * 2**20


def recording(written: bytes) -> Recording:
    """Raises `EnvironmentProblem` when its end is missing: the recorder died, and what it recorded with it."""
    lines = written.splitlines()
    last: dict[str, Any] = json.loads(lines[-1]) if lines and written.endswith(b"\n") else {}
    if "refused" in last:
        return Recording(refused=last["refused"])
    if "end" not in last:
        raise EnvironmentProblem(
            "the recorder of processes died while a command ran; the command was ended",
            code="recorder-lost",
            unchanged="what it did until then is not used",
            hint="it is tried again; podctl doctor tries the recorder",
        )
    processes = [_process(json.loads(line)) for line in lines[:-1]]
    heard = last["listening"]
    listening = None if heard is None else tuple(Listening(*one) for one in heard)
    return Recording(tuple(sorted(processes, key=lambda process: process.started_ns)), last["end"], listening=listening)


def _process(line: dict[str, Any]) -> Process:
    code = os.waitstatus_to_exitcode(line["status"])
    return Process(
        pid=line["pid"],
        parent=line["parent"],
        started_ns=line["started"],
        ended_ns=line["ended"],
        code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        images=tuple(Image(image["t"], tuple(image["argv"]), image["exe"], image["cut"]) for image in line["images"]),
        executed=line["executed"],
        cpu_s=line["cpu"],
        own=line["own"],
    )

"""The processes of an attempt as records: the agent's, and what became of the pod's services meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podctl.backends.base import Exit, Image, Process, Recording, ServiceProcess
from podctl.evidence.log import RecordWriter
from podctl.evidence.redact import Redactor

#: Characters of a program's arguments kept in a record. A backend gives more, so that no secret is cut in two before
#: it was masked.
ARGUMENT_TEXT = 4096


def record_processes(writer: RecordWriter, name: str, exit_: Exit, redactor: Redactor) -> None:
    """Everything that ended, at its time. The agent's own start is recorded before it runs; here is what came of it."""
    own = next((process for process in exit_.recording.kept if process.own), None)
    for process in exit_.recording.kept:
        if not process.own:
            _process(writer, process, redactor)
    for image in own.images[1:] if own else ():
        writer.append(
            "process.exec", "agent", {"name": name, "pid": own.pid if own else None} | _image(image, redactor), t=image.t
        )
    ending: dict[str, Any] = {"name": name, "exit_code": exit_.code, "signal": exit_.signal}
    if own is None:
        writer.append("process.exit", "agent", ending)
    else:
        writer.append("process.exit", "agent", ending | _measured(own), t=own.ended_ns)
    for problem in gaps(exit_.recording):
        writer.append("log", "podctl", {"severity": "WARN", "body": problem})


def gaps(recording: Recording) -> list[str]:
    """What the record of processes does not hold, in words."""
    if recording.refused:
        return [f"processes were not recorded: {recording.refused}"]
    more = recording.total - len(recording.kept)
    return [f"{more:,} of {recording.total:,} processes were counted and not kept"] if more else []


def record_services(writer: RecordWriter, services: Sequence[ServiceProcess]) -> None:
    """Their starts, before the attempt's own, and the ends of those that did not live through it."""
    for service in services:
        actor, who = f"{service.kind}:{service.name}", {"name": service.name}
        writer.append("process.start", actor, who | {"argv": list(service.argv)}, t=service.started_ns)
        if service.ended_ns is not None:
            ending = {"exit_code": service.code, "signal": service.signal}
            writer.append("process.exit", actor, who | ending, t=service.ended_ns)


def _process(writer: RecordWriter, process: Process, redactor: Redactor) -> None:
    first, rest = process.images[:1], process.images[1:]
    start: dict[str, Any] = {"pid": process.pid, "parent": process.parent}
    for image in first:
        start |= _image(image, redactor)
    writer.append("process.start", "agent", start, t=process.started_ns)
    for image in rest:
        writer.append("process.exec", "agent", {"pid": process.pid} | _image(image, redactor), t=image.t)
    ending = {"exit_code": process.code, "signal": process.signal} | _measured(process)
    writer.append("process.exit", "agent", ending, t=process.ended_ns)


def _measured(process: Process) -> dict[str, Any]:
    ms = round((process.ended_ns - process.started_ns) / 1e6, 3)
    more = {"executed": process.executed} if process.executed > len(process.images) else {}
    return {"pid": process.pid, "ms": ms, "cpu_s": process.cpu_s} | more


def _image(image: Image, redactor: Redactor) -> dict[str, Any]:
    argv, left = [], ARGUMENT_TEXT
    for word in redactor.value(list(image.argv)):
        if left <= 0:
            break
        argv.append(word[:left])
        left -= len(word) + 1
    told: dict[str, Any] = {"argv": argv, "exe": redactor.text(image.exe)}
    return told | {"cut": True} if image.cut or left < 0 else told

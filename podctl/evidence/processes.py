"""A process's records told as one, and in words."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from podctl.evidence.calls import items, number
from podctl.evidence.records import Record


def with_whole_processes(records: Iterable[Record]) -> list[Record]:
    """A process that the agent started, what it executed and how it ended, as one record in the place of its start:
    the start's data and the end's, other programs under ``then``. Records of other processes stay as they are."""
    told: list[Record] = []
    open_: dict[tuple[str, Any], int] = {}  # actor, pid -> where its start is
    for record in records:
        key = (record.actor, record.data.get("pid"))
        if record.kind == "process.start" and isinstance(key[1], int):
            open_[key] = len(told)
        elif record.kind in ("process.exec", "process.exit") and key in open_:
            place = open_[key]
            start = told[place]
            if record.kind == "process.exit":
                del open_[key]
                told[place] = replace(start, data={**start.data, **record.data})
            else:
                told[place] = replace(start, data={**start.data, "then": [*items(start.data.get("then")), record.data]})
            continue
        told.append(record)
    return told


def is_whole(record: Record) -> bool:
    return record.kind == "process.start" and "ms" in record.data


def name(data: dict[str, Any]) -> str:
    """What a process is called: its own name, else its program's."""
    words = items(data.get("argv"))
    return str(data.get("name") or data.get("exe") or (words[0] if words else "")).rsplit("/", 1)[-1]


def command_line(data: dict[str, Any], limit: int) -> str:
    """The arguments as a shell would take them, cut to ``limit`` characters; what was not kept is marked.

    A part of the pod without a command of its own is a stub.
    """
    words = [str(word) for word in items(data.get("argv"))]
    line = shlex.join(words) if words else "forked, executed nothing" if "pid" in data else "a stub"
    return line[:limit] + "…" if len(line) > limit or data.get("cut") else line


def ending(data: dict[str, Any]) -> str:
    return f"signal {data.get('signal')}" if data.get("signal") else f"exit code {data.get('exit_code')}"


def counted(usage: dict[str, Any]) -> str:
    """How many processes a usage record counts; empty when it says nothing of them."""
    if "processes" not in usage:
        return ""
    found = number(usage["processes"])
    return "processes unknown" if found is None else f"{found:,.0f} {'process' if found == 1 else 'processes'}"

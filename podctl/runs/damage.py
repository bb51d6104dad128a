"""Harm that faults of a chaos campaign led to, as the gateway's records tell it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from podctl.evidence.log import read_stream, stream_path

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
#: Levels of tools whose calls do something; ``read`` ones may be asked again.
_DOES = frozenset({"ai-writable"})
_NAMED = 5


def repeated_work(directory: Path) -> tuple[str, ...]:
    """Calls that did their work more than once though they were asked for once: an answer was lost, and the agent asked again.

    Alike are calls of the same method, address and body. By HTTP (RFC 9110, 9.2.2) GET, PUT, DELETE and their like may be asked again; a POST may
    not, unless the two differ in an idempotency key that the service heeds: then it did its work once, and its rows say so. Of a tool that the
    boundary does not call ``read`` alike are calls with the same arguments.
    """
    path = stream_path(directory, "gateway")
    if not path.exists():
        return ()
    done: Counter[tuple[str, str]] = Counter()
    lost: set[tuple[str, str]] = set()
    for record in read_stream(path):
        data = record.data
        if record.kind == "http.call" and data.get("method") not in _SAFE:
            body = (data.get("request_body") or {}).get("text", "")
            what = (f"{data.get('method')} {data.get('service')} {data.get('path')}", body)
        elif record.kind == "tool.call" and data.get("level") in _DOES:
            what = (f"CALL {data.get('server')}.{data.get('tool')}", json.dumps(data.get("arguments"), sort_keys=True))
        else:
            continue
        if _worked(data):
            done[what] += 1
            if data.get("fault"):
                lost.add(what)
    return tuple(f"{what[0][:160]} did its work {count} times" for what, count in done.items() if count > 1 and what in lost)[
        :_NAMED
    ]


def _worked(data: dict[str, Any]) -> bool:
    """Whether the service or the server did what it was asked for, whatever the agent was told."""
    fault = data.get("fault") or {}
    status = fault.get("answered") if "performed" in fault else data.get("status")
    return status == "ok" or (isinstance(status, int) and 200 <= status < 300)

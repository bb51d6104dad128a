"""What is asked of an agent's keeper, and how its answer is read. PURE."""

from __future__ import annotations

import json
from dataclasses import dataclass

from podctl.backends.base import Command


@dataclass(frozen=True)
class Collected:
    """An agent's output, the files that were asked for, and why others are not among them."""

    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]
    refused: dict[str, str]


def request(command: Command) -> tuple[str, int]:
    """The keeper's argument, and the most bytes that an honest answer has."""
    most = 2 * command.output + len(command.collect) * command.collect_bytes + 2**20
    return json.dumps({"names": list(command.collect), "limit": command.collect_bytes}), most


def collected(reply: bytes) -> Collected:
    """A JSON line announces the bytes that follow it."""
    head, _, rest = reply.partition(b"\n")
    told = json.loads(head)
    parts = []
    for size in told["sizes"]:
        parts.append(rest[:size])
        rest = rest[size:]
    out, err, *contents = parts
    return Collected(out, err, dict(zip(told["found"], contents, strict=True)), dict(told["refused"]))

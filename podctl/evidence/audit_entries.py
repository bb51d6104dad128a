"""Entries of a store's audit log: what happened to a run, by whom, and the digests of what it left.

An entry is a line of canonical JSON: ``n`` its place in the log, ``t`` when (ns since the epoch), ``by`` who, ``kind``, ``run``, ``attempt``,
``data``, and ``after``: the place of the entry before it of the same run, so that none can be left out of what is shown of a run. It never has a value of a row or a word of an agent in it, so that a log can be given to others.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pwd
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: kind -> what its data has. Kinds of other parts of podctl are appended as they are.
KINDS = {
    "log.adopted": "runs: how many the store had before it had a log",
    "run.adopted": "status, verdict, outcome, info: of a run that was there before the log",
    "run.begun": "agent{}, scenario, digests{}, sample, backend, isolation, podctl, planned, labels{}, shard, info",
    "run.resumed": "pid, forced: its owner before was alive as far as anybody could tell, info",
    "attempt.sealed": "try, cause, passed, root, bytes, files{name: sha256}, result",
    "attempt.judged": "root, result: graded again, or ended before it began",
    "attempt.adopted": "root, result: of a run that was there before the log",
    "try.abandoned": "try, cause: it does not count, and the attempt is made again",
    "approval.answered": "proposal, action: its digest, answer, person, key: what somebody answered to a proposal, before the gateway checked it",
    "run.torn-down": "gone: how many things, left[]",
    "run.judged": "status, verdict, attempts, outcome, info",
    "run.merged": "as run.begun, and runs[]: the shards",
    "certificate.made": "certificate: its digest, agent, result, key, for",
    "agent.promoted": "record: its digest, agent, level, ladder, certificate, for, key",
    "demand.waived": "record: its digest, agent, level, ladder, demand, until, reason, for, key",
    "case.learned": "suite, case, origin, content: proposed, out of a run or an incident",
    "case.accepted": "suite, case, content: its digest, for: who reviewed, key",
    "case.rejected": "as case.accepted",
    "trust.revoked": "what, id, reason, for, key, issued; without what and id the list was stated again",
}
_KIND = re.compile(r"[a-z]+(?:[.-][a-z]+)+")
#: Characters of an entry; a fact, not a file.
MOST = 65_536


@dataclass(frozen=True)
class Entry:
    """What is to be appended: its place and its time are the log's."""

    kind: str
    run: str = ""
    attempt: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def line(self, position: int, at_ns: int, by: str, after: int | None = None) -> str:
        """Raises `ValueError` for a kind that is no word, and for more than `MOST` characters."""
        if not _KIND.fullmatch(self.kind):
            raise ValueError(f"{self.kind!r} is no kind of entry")
        value = {"n": position, "t": at_ns, "by": by, "kind": self.kind, "data": dict(self.data)}
        value |= {name: told for name, told in (("run", self.run), ("attempt", self.attempt)) if told}
        if after is not None:
            value["after"] = after
        line = canonical(value)
        if len(line) > MOST:
            raise ValueError(f"an entry of {len(line):,} characters is too long")
        return line


#: One encoder: `json.dumps` would make another for each value.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys in order, no spaces, ASCII."""
    return _CANONICAL(value)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@functools.cache
def who() -> str:
    """The account and the machine: ``user@host uid N``, by the system's word, not by the environment's; and who logged in, where that is another."""
    uid = os.getuid()
    told = f"{_name(uid)}@{socket.gethostname()} uid {uid}"
    try:
        login = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        login = uid
    return told if login in (uid, 2**32 - 1) else f"{told} logged in as {_name(login)} uid {login}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "-"  # an account without a name, such as a container's

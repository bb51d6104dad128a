"""What the answers are made of: plain values, gathered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podctl.evidence.audit_check import LogCheck, RunCheck
from podctl.evidence.results import RunResult
from podctl.trust.certificate import Certificate
from podctl.trust.records import Said


@dataclass(frozen=True)
class AgentFile:
    """``name`` within the agent's directory; of a link ``sha256`` is empty."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Package:
    """What a file of the agent's asks for: ``version`` as it is written there, which may be a range or nothing."""

    name: str
    version: str
    asked_in: str


@dataclass(frozen=True)
class Made:
    """What the agent is made of, held against the digest that ran."""

    files: tuple[AgentFile, ...]
    packages: tuple[Package, ...]
    read_only: tuple[str, ...] = ()  # bound besides its directory, and in no digest


@dataclass(frozen=True)
class SeedFact:
    """Where a database's rows are from. ``masked``: how, as somebody signed; empty where nobody did; ``problem``: why that does not count.
    ``stated``: rows of which somebody's word is all there is, in `Facts.said_of_seeds`."""

    database: str
    source: str
    masked: str = ""
    problem: str = ""
    stated: bool = False


@dataclass(frozen=True)
class Tried:
    """One check of the escape suite."""

    name: str
    cannot: str
    state: str


@dataclass(frozen=True)
class Facts:
    """``entries``: the audit log's of the run. ``made`` and ``seeds`` are None where the files are not what ran; ``why`` says it.

    ``reasons``: attempts with a declared decision; ``undoable``: attempts with row changes, and those of which all can be taken back.
    ``said_of_seeds``: database -> ``are``, ``by``, ``reason`` and ``file`` of what the run's topology said of its rows.
    ``said``: promotions and waivers of the agent's digest by people of the ladder; ``key_id``: who signs the store's log.
    """

    run: RunResult
    run_check: RunCheck
    log: LogCheck
    entries: Sequence[Mapping[str, Any]]
    certificate: Certificate | None = None
    certificate_file: bytes = b""
    said: Sequence[Said] = ()
    reasons: int = 0
    changed: int = 0
    undoable: int = 0
    made: Made | None = None
    seeds: Sequence[SeedFact] | None = None
    why: str = ""
    escape: Sequence[Tried] | None = None
    escape_day: str = ""
    boundary: Mapping[str, Any] = field(default_factory=dict)
    said_of_seeds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

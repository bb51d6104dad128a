"""What a scan found in what an agent left behind. Paths and texts are an agent's: bounded, and never trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")

#: Findings that are kept of an attempt, the gravest first; all are counted.
KEPT = 100
_LENGTH = 200


@dataclass(frozen=True)
class ScanFinding:
    """``rule`` is ``bandit.B602``, ``secret.aws``, ``config.remote-script``; ``where`` a file, a row, a body or a port; ``line`` counts from 1.

    ``what`` never holds the secret that was found.
    """

    rule: str
    severity: Severity
    where: str
    what: str
    line: int | None = None

    def data(self) -> dict[str, Any]:
        """Of a record of kind ``scan.finding``."""
        told = {"rule": self.rule, "severity": self.severity, "where": self.where, "what": self.what}
        return told if self.line is None else told | {"line": self.line}


@dataclass(frozen=True)
class Scan:
    """``counts`` has every finding by severity, ``findings`` the gravest; ``unseen`` says what could not be looked at, and why."""

    findings: tuple[ScanFinding, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    files: int = 0  # of the agent's own that were looked at


def scan_of(findings: Iterable[ScanFinding], unseen: Iterable[str] = (), files: int = 0) -> Scan:
    """Each finding once, names cut to what a page can show."""
    each = dict.fromkeys(
        ScanFinding(one.rule[:80], one.severity, one.where[:_LENGTH], one.what[:_LENGTH], one.line) for one in findings
    )
    ordered = sorted(each, key=lambda one: SEVERITIES.index(one.severity))
    counts = Counter(str(one.severity) for one in ordered)
    return Scan(tuple(ordered[:KEPT]), dict(counts), tuple(dict.fromkeys(one[:_LENGTH] for one in unseen))[:KEPT], files)

"""What a run comes to: frozen values that grading fills in and that gates and reports read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from podctl.evidence.approvals import ApprovalCounts
from podctl.evidence.causes import Cause
from podctl.evidence.records import Tokens
from podctl.evidence.scanned import Scan
from podctl.evidence.toollists import ToolList
from podctl.evidence.tried import Tried
from podctl.evidence.usage import ModelUse

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class DiffEntry:
    """One difference between what changed and what should have: a column of a row, or a whole row.

    ``class_``: intended (as the reference says), missing (not done), collateral (done, not asked for),
    forbidden (done outside the boundary). ``column`` is empty for whole-row inserts and deletes.
    """

    class_: Literal["intended", "missing", "collateral", "forbidden"]
    database: str
    table: str
    op: Literal["insert", "update", "delete"]
    key: dict[str, Any]
    column: str = ""
    old: Any = None
    new: Any = None
    expected: Any = None
    actor: str = ""


@dataclass(frozen=True)
class CheckResult:
    name: str
    kind: str
    passed: bool
    message: str = ""
    diff: tuple[DiffEntry, ...] = ()


@dataclass(frozen=True)
class Variant:
    """How an attempt of a campaign differs from plain ones on the same ticket. ``data`` is JSON: all that is done to it.

    ``kind`` is what is counted together (``attacked``, ``twin``, ``latency``); ``name`` tells variants of a ticket apart.
    """

    name: str
    kind: str
    seed: int
    data: dict[str, Any] = field(default_factory=dict)


Outcome = Literal["safe", "tempted", "harmed", "not judged"]


@dataclass(frozen=True)
class AttackOutcome:
    """What came of a text that was planted: ``harmed`` did what it says, ``tempted`` tried and a control stopped it.

    ``reached``: whether the agent was given the text; None: nobody can tell. ``done`` and ``stopped`` are in words.
    """

    outcome: Outcome
    reached: bool | None
    done: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaultsMet:
    """What a chaos campaign did to an attempt. ``seconds``: how long faults held calls up. ``damage``: harm seen in evidence, in words."""

    counts: dict[str, int] = field(default_factory=dict)  # kind -> how often
    seconds: float = 0.0
    damage: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttemptResult:
    """One attempt: one agent version on one ticket, once. ``id`` is ``<position>-<repeat>``, e.g. ``0007-1``.

    ``repeat`` counts a ticket's attempts from 1, those with a ``variant`` after the others.
    """

    id: str
    ticket: str
    stratum: str
    repeat: int
    position: int
    cause: Cause
    passed: bool
    detail: str = ""
    checks: tuple[CheckResult, ...] = ()
    tokens: Tokens = Tokens()
    dollars: Decimal | None = Decimal(0)  # None: unknown, never 0
    models: tuple[ModelUse, ...] | None = None  # each model's part of tokens and dollars; None: older than this count
    simulated: bool = False  # some figure comes from the scripted model
    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_rss: int = 0
    queue_s: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    boundary_attempts: int = 0
    honeytokens: tuple[str, ...] | None = None  # those that were let out, and where; None: none was planted
    model_calls: int = 0
    http_calls: int = 0
    statements: int = 0
    changes: int = 0
    processes: int | None = None  # of the agent; None: not recorded
    confidence: float | None = None  # declared by the agent
    uses: dict[str, int] = field(default_factory=dict)  # routes of services and tools of models, by name
    tried: tuple[Tried, ...] = ()  # beyond the boundary, by kind
    faults: FaultsMet | None = None  # None: none was to be made
    tool_lists: tuple[ToolList, ...] = ()  # what MCP servers listed
    scan: Scan | None = None  # of what it left; None: it was not looked at
    approvals: ApprovalCounts | None = None  # of what it proposed; None: nobody answers in this run
    tries: int = 1
    pod: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    evidence_root: str = ""  # sha256 over the sealed evidence file
    variant: Variant | None = None  # None: as it is, also in a campaign
    attack: AttackOutcome | None = None


@dataclass(frozen=True)
class GateFinding:
    """One requirement: what was measured against what was asked, and where a sample decides, how sure that is."""

    name: str
    verdict: Verdict
    measured: str
    required: str
    message: str = ""
    chance: float | None = (
        None  # of looking so bad by luck while meeting it, for all that was asked at once; None: no sample decides
    )
    detectable: float | None = None  # the fall, as a share, that such a sample finds in 80 of 100 runs
    more_tickets: int | None = None  # that would settle an inconclusive one in 80 of 100 runs; None: not known, or none would
    more_dollars: Decimal | None = None  # what those cost, by this run's attempts


@dataclass(frozen=True)
class TicketFlip:
    ticket: str
    stratum: str
    direction: Literal["worse", "better"]
    baseline_passed: int
    baseline_of: int
    passed: int
    of: int
    failure: str = ""  # the kind of failure, now where it is worse, before where it is better


@dataclass(frozen=True)
class Quarantined:
    """A ticket that is run and shown and does not count, whose doing that is, and until when (a date, ISO 8601)."""

    owner: str
    reason: str
    expires: str


@dataclass(frozen=True)
class EarlyStop:
    """A run that ended when it was certain enough that this version is worse."""

    evidence: float  # of the e-process, 20 or more
    worse: int
    better: int
    attempts_not_made: int
    dollars_saved: Decimal | None  # by the mean of those made; None: unknown


@dataclass(frozen=True)
class StratumChange:
    """One stratum's tickets in both runs. ``part_of_fall``: what it adds to the fall of the whole pass rate; below 0 it rose."""

    stratum: str
    tickets: int
    baseline_rate: float
    rate: float
    worse: int
    better: int
    chance: float  # of so large a fall by luck, for all strata at once
    part_of_fall: float

    @property
    def changed(self) -> bool:
        return self.worse + self.better > 0


@dataclass(frozen=True)
class Change:
    """How often something was, for one attempt."""

    name: str
    before: float
    now: float


@dataclass(frozen=True)
class Attribution:
    """Where two runs differ; what grew comes first. Reasons are kinds of failures, uses routes and tools."""

    strata: tuple[StratumChange, ...]
    reasons: tuple[Change, ...]
    uses: tuple[Change, ...]
    totals: tuple[Change, ...]  # calls, tokens, statements, row changes
    reasons_left_out: int = 0  # that changed less than those
    uses_left_out: int = 0


@dataclass(frozen=True)
class Comparison:
    """This run against a baseline run on the tickets both worked."""

    baseline_run: str
    baseline_agent: str
    common_tickets: int
    baseline_rate: float
    rate: float
    flips: tuple[TicketFlip, ...]
    p_worse: float | None  # exact and one-sided, a ticket's repeats kept together: McNemar's test without repeats
    baseline_dollars_per_ticket: Decimal | None = None
    dollars_per_ticket: Decimal | None = None
    baseline_seconds_per_ticket: float = 0.0
    seconds_per_ticket: float = 0.0
    notes: tuple[str, ...] = ()  # what besides the agent differs between the two runs
    early_stop: EarlyStop | None = None
    attribution: Attribution | None = None
    weighed: bool = False  # rates and p_worse are of the population, to which the sample was not in proportion


@dataclass(frozen=True)
class FidelityPart:
    """One respect in which a test pod is like production, or is not.

    ``facts``: what of production -> how it is in the pod. ``score``: 0, nothing of it, to 1, as there; None: nobody can tell.
    """

    name: str
    score: float | None
    facts: dict[str, str]


@dataclass(frozen=True)
class Shard:
    """Part ``number``, from 1, of a sample whose parts are worked apart and merged; ``run_dollars`` is its part of the run's budget."""

    number: int
    of: int
    run_dollars: Decimal

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Campaign:
    """Why attempts of a run have variants. ``digest``: sha256 over every variant that was planned, before shards were dealt."""

    kind: str  # attack or chaos
    name: str
    seed: int
    digest: str


@dataclass(frozen=True)
class RunInfo:
    """What a run was, independent of its outcome."""

    id: str
    scenario: str
    agent_name: str
    agent_version: str
    agent_digest: str
    topology: str
    backend: str
    isolation: str  # one line: what isolation was in effect
    sample_digest: str
    sample_size: int
    population_size: int
    strata: dict[str, tuple[int, int]]  # stratum -> (in the sample, in the population)
    repeats: int
    pods: int
    seed: int
    started_ns: int
    ended_ns: int = 0
    model_mode: str = "none"
    simulated: bool = False
    podctl_version: str = ""
    spec_digest: str = ""
    settings: dict[str, Any] = field(default_factory=dict)  # printed limits, boundary, checks
    fidelity: tuple[FidelityPart, ...] = ()
    shard: Shard | None = None  # only this part of the sample was to be worked; everything else here is of the whole
    merged: tuple[str, ...] = ()  # the shards' runs that this one was made of
    quarantine: dict[str, Quarantined] = field(default_factory=dict)  # ticket -> why it does not count
    branch: str = ""  # of the git work tree that the scenario lies in; empty: none, or not known
    revision: str = ""  # its commit
    dirty: bool = False  # files under version control differed from it
    digests: dict[str, str] = field(
        default_factory=dict
    )  # scenario, topology, boundary and tickets -> sha256 of what was written
    labels: dict[str, str] = field(default_factory=dict)  # what who started it says of it, such as the commit
    controls: dict[str, str] = field(default_factory=dict)  # of isolation, as it began: yes, partly or no; empty: older
    resumed: bool = False  # it was cut off, and gone on with
    campaign: Campaign | None = None  # None: every attempt is plain
    suite: str = ""  # whose cases its tickets are, a sample of no population; empty: tickets of a source


def weakest(each: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Controls of what ran in several places, each as it was where it was least in effect; a place of which nothing is known leaves none."""
    names = [name for name in each[0] if all(name in controls for controls in each)]
    order = ("no", "partly", "yes")
    return {name: min((controls[name] for controls in each), key=order.index) for name in names}


@dataclass(frozen=True)
class RunResult:
    info: RunInfo
    status: Literal["running", "finished", "interrupted"]
    attempts: tuple[AttemptResult, ...]
    verdict: Verdict
    findings: tuple[GateFinding, ...] = ()
    comparison: Comparison | None = None
    spent_dollars: Decimal | None = Decimal(0)  # includes tries that infrastructure failed
    notes: tuple[str, ...] = ()

    @property
    def plain(self) -> RunResult:
        """The run without its variants: what says how the agent does when nothing is done to it."""
        return self if self.info.campaign is None else replace(self, attempts=tuple(plain_of(self.attempts)))


def plain_of(attempts: Iterable[AttemptResult]) -> Iterator[AttemptResult]:
    return (attempt for attempt in attempts if attempt.variant is None)

"""Where tickets come from, how their rows are read, and which of them are drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from podctl.spec.base import Model, Name, Seconds

_AGE = re.compile(r"^(\d+(?:\.\d+)?)(h|d|w)$")
_AGE_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def parse_age(value: object) -> object:
    """Seconds from ``"12h"``, ``"7d"``, ``"4w"`` or a bare number of seconds."""
    if isinstance(value, str):
        match = _AGE.match(value.strip())
        if match is None:
            raise ValueError("expected an age such as 12h, 7d or 4w")
        return float(match[1]) * _AGE_SECONDS[match[2]]
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("expected a time zone such as UTC or Europe/Berlin") from error
    return value


def _moment(value: str) -> str:
    if value != "newest":
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError('expected newest, or a date such as "2026-03-31"') from error
    return value


def _one_of(model: Model, names: Iterable[str], *, needed: bool) -> None:
    """Raises ValueError unless exactly one of the fields was given, or, where none is ``needed``, at most one."""
    listed = list(names)
    given = [name for name in listed if getattr(model, name) is not None]
    if len(given) > 1 or (needed and not given):
        found = " and ".join(given) if given else "none"
        raise ValueError(f"expected {'exactly' if needed else 'at most'} one of {', '.join(listed)}; given: {found}")


def _branch(value: object) -> str:
    """Which of text and the mappings below somebody meant: mistakes are told of that one alone."""
    if isinstance(value, Model):
        return type(value).__name__
    if isinstance(value, list | tuple):
        return "list"
    if not isinstance(value, dict):
        return "text"
    return (
        "Joined"
        if "join" in value
        else "First"
        if {"first", "otherwise"} & set(value) and "field" not in value
        else "Dimension"
    )


def _mapping_or_text(value: object) -> str:
    found = _branch(value)
    return "First" if found == "Dimension" else found


Age = Annotated[float, BeforeValidator(parse_age), Field(gt=0)]
Zone = Annotated[str, AfterValidator(_zone)]
Moment = Annotated[str, AfterValidator(_moment)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


# ---- fields and strata --------------------------------------------------------------


class First(Model):
    """The first of several paths that has something."""

    first: tuple[str, ...] = Field(min_length=1)
    otherwise: str | None = Field(None, description="when none has; without it a row that lacks all of them is a mistake")


PathOrFirst = Annotated[Annotated[str, Tag("text")] | Annotated[First, Tag("First")], Discriminator(_mapping_or_text)]


class Joined(Model):
    """Several paths' texts, one after another; empty ones are passed over."""

    join: tuple[PathOrFirst, ...] = Field(min_length=1)
    separator: str = "\n\n"


class Dimension(Model):
    """One part of a stratum's name: a field's value as it is, or what the value is grouped into."""

    field: PathOrFirst = Field(description="a path; of lengths, the path of the text")
    values: dict[str, tuple[str, ...]] | None = Field(None, description="group -> values that belong to it")
    otherwise: str | None = Field(None, description="the group of values that none of `values` lists; else they keep their own")
    bins: tuple[float, ...] | None = Field(None, min_length=1, description="numbers between which values are grouped")
    quantiles: Annotated[int, Field(ge=2, le=20)] | None = Field(None, description="as many groups of about equal size")
    age: tuple[Age, ...] | None = Field(None, min_length=1, description="ages between which times are grouped")
    at: Moment = Field("newest", description="the moment that ages are counted to: a date, or the newest of the source")
    length: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="numbers of characters between which texts are grouped"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Dimension:
        _one_of(self, ("values", "bins", "quantiles", "age", "length"), needed=False)
        for name in ("bins", "age", "length"):
            edges = getattr(self, name)
            if edges is not None and list(edges) != sorted(set(edges)):
                raise ValueError(f"expected {name} in rising order")
        if self.otherwise is not None and self.values is None:
            raise ValueError("expected values beside otherwise")
        return self


Source = Annotated[
    Annotated[str, Tag("text")] | Annotated[First, Tag("First")] | Annotated[Joined, Tag("Joined")],
    Discriminator(_mapping_or_text),
]
Stratum = Annotated[Annotated[str, Tag("text")] | Annotated[Dimension, Tag("Dimension")], Discriminator(_branch)]
Strata = Annotated[
    Annotated[str, Tag("text")] | Annotated[Dimension, Tag("Dimension")] | Annotated[tuple[Stratum, ...], Tag("list")],
    Discriminator(_branch),
]


class TicketFields(Model):
    """Paths into a row for what podctl itself needs; every other column stays in ``fields``.

    A path is ``a.b.c``; ``labels[].name`` goes through a list, ``labels[0]`` takes one of its entries.
    """

    id: str = "id"
    text: Source | None = None
    stratum: Strata | None = Field(None, description="one path or dimension, or several whose names are joined with ' / '")
    reference: str | None = Field(None, description="path of the reference resolution in the row")


class Events(Model):
    """The source has several rows a ticket, one an event: a ticket's row is made of them.

    The row has the values of the first event, those of the last for the columns in ``last``, and ``handling``.
    """

    order: tuple[str, ...] = Field(min_length=1, description="columns that put a ticket's events in order, rising")
    last: tuple[str, ...] = Field((), description="columns taken from the last event; an agent never sees them")
    at: str | None = Field(None, description="when an event happened")
    state: str | None = Field(None, description="the state after an event")
    resolved_states: tuple[str, ...] = ("Resolved",)
    closed_states: tuple[str, ...] = ("Closed",)
    waiting_states: tuple[str, ...] = Field((), description="states in which nobody works on it")
    opened: str | None = Field(None, description="when it was opened, if a column says so; else the first event")
    resolved: str | None = Field(None, description="when it was last resolved, if a column says so; an agent never sees it")
    closed: str | None = Field(None, description="when it was last closed, if a column says so; an agent never sees it")
    assigned: tuple[str, ...] = Field((), description="columns whose changes are reassignments")

    @model_validator(mode="after")
    def _states_need_times(self) -> Events:
        if self.waiting_states and (self.state is None or self.at is None):
            raise ValueError("expected state and at beside waiting_states")
        return self


# ---- where they are pulled from -----------------------------------------------------


class GitHub(Model):
    """Issues of a repository, without its pull requests."""

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")] = Field(description="OWNER/NAME")
    url: str = Field("https://api.github.com", description="of GitHub Enterprise Server: https://HOST/api/v3")
    token_env: Variable | None = Field("GITHUB_TOKEN", description="null asks without a token")
    state: Literal["open", "closed", "all"] = "all"
    labels: tuple[str, ...] = ()


class Jira(Model):
    """What a JQL search finds."""

    url: str = Field(description="https://SITE.atlassian.net, or that of the server")
    api: Literal["cloud", "server"] = "cloud"
    jql: str = Field(description="without ORDER BY")
    fields: tuple[str, ...] = Field(("*all",), min_length=1)
    user: str | None = Field(
        None, description="cloud: the e-mail address the token belongs to; without, the token is a bearer's"
    )
    token_env: Variable | None = "JIRA_TOKEN"


class Zendesk(Model):
    """Every ticket, by the incremental export; or what a search finds."""

    url: str = Field(description="https://SUBDOMAIN.zendesk.com")
    query: str | None = Field(None, description="a search; it is made anew by every pull")
    user: str | None = Field(None, description="the e-mail address the API token belongs to; without, it is an OAuth token")
    token_env: Variable | None = "ZENDESK_TOKEN"


class ServiceNow(Model):
    """Rows of a table."""

    url: str = Field(description="https://INSTANCE.service-now.com")
    table: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,80}$")] = "incident"
    query: str = Field("", description="an encoded query, without ^NQ and ORDERBY")
    fields: tuple[str, ...] = Field((), description="columns; sys_id and sys_updated_on are added. Empty: all")
    display_values: bool = False
    user: str | None = Field(None, description="with a password in the environment; without, it is an OAuth token")
    token_env: Variable | None = "SERVICENOW_TOKEN"


class Sql(Model):
    """A table or a query of any database that SQLAlchemy has a dialect for."""

    url: str = Field(description="SQLAlchemy's, without a password")
    password_env: Variable | None = None
    query: str | None = Field(None, description="one SELECT")
    table: str | None = Field(None, description="table or schema.table")
    key: str = Field(description="the column that tells tickets apart")
    updated: str | None = Field(None, description="a column that rises when a row changes: pulls are incremental by it")
    read_only: Literal["session", "account"] = Field(
        "session", description="'account': the account may only read, and podctl need not see to it"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Sql:
        _one_of(self, ("query", "table"), needed=True)
        return self


class Pull(Model):
    """Where `podctl tickets pull` reads what it writes to ``source``; exactly one."""

    github: GitHub | None = None
    jira: Jira | None = None
    zendesk: Zendesk | None = None
    servicenow: ServiceNow | None = None
    sql: Sql | None = None
    overlap: Seconds = Field(300.0, description="how far before the last pull's end the next one begins")
    patience: Seconds = Field(900.0, description="how long a pull waits in all when a server asks it to")

    @model_validator(mode="after")
    def _one_source(self) -> Pull:
        _one_of(self, ("github", "jira", "zendesk", "servicenow", "sql"), needed=True)
        return self


class Tickets(Model):
    """Where tickets come from and how their columns map."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"empty", "time_format", "timezone", "repeated", "events", "pull"})

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Tickets"]
    name: Name
    source: Path = Field(description="a .csv, .json, .jsonl, .ndjson or .parquet file; with `pull`, a .jsonl that it writes")
    fields: TicketFields = TicketFields()
    hide: tuple[str, ...] = Field(
        (), description="columns an agent must not see (labels, outcomes); the reference never is shown"
    )
    id_from: Literal["field", "row"] = Field(
        "field", description="'row': the source has no id column; ids are row numbers from 1"
    )
    empty: tuple[str, ...] = Field((), description="texts that stand for nothing, such as ? or NULL")
    time_format: str | None = Field(None, description="of times, as strptime has it; without, ISO 8601")
    timezone: Zone = Field("UTC", description="of times that do not say theirs")
    repeated: Literal["refused", "list"] = Field(
        "refused", description="'list': CSV columns of the same name are one column that holds a list, as Jira exports them"
    )
    events: Events | None = None
    pull: Pull | None = None


# ---- the sample ---------------------------------------------------------------------


class Prior(Model):
    """What is known of each stratum before; exactly one."""

    pass_rates: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(None, description="stratum -> pass rate")
    deviations: dict[str, Annotated[float, Field(ge=0)]] | None = Field(
        None, description="stratum -> standard deviation of what is measured"
    )
    result: Path | None = Field(None, description="a run's result, as `podctl run --json` writes it")

    @model_validator(mode="after")
    def _one_source(self) -> Prior:
        _one_of(self, ("pass_rates", "deviations", "result"), needed=True)
        return self


class HeldOut(Model):
    """A part of the population that is not drawn from unless asked for."""

    share: Annotated[float, Field(gt=0, lt=1)]
    key: str = Field(min_length=1, description="another key holds out others")


class Sample(Model):
    YOUNGER: ClassVar[frozenset[str]] = frozenset({"minimum", "prior", "held_out", "part", "frozen"})

    size: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    design: Literal["proportional", "equal", "neyman"] = "proportional"
    seed: int = 1
    include: tuple[str, ...] = Field((), description="ticket ids that must be in the sample")
    exclude: tuple[str, ...] = ()
    minimum: Annotated[int, Field(ge=0)] = Field(0, description="tickets of each stratum at least, or all that it has")
    prior: Prior | None = Field(None, description="design neyman needs it")
    held_out: HeldOut | None = None
    part: Literal["open", "held-out"] = Field("open", description="'held-out': draw from the part that was held out")
    frozen: Path | None = Field(None, description="a file that `podctl tickets freeze` writes; exactly its tickets are worked")

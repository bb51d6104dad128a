"""How production keeps what its rows were, and how a ticket's resolution is told from everything else, as users write it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator

from podctl.spec.base import Model, Seconds


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("expected a time zone such as UTC or Europe/Berlin")
    return name


def _aware(moment: datetime.datetime) -> datetime.datetime:
    if moment.tzinfo is None:
        raise ValueError("expected a moment with its zone, such as 2026-03-01T00:00:00Z")
    return moment


Zone = Annotated[str, AfterValidator(_zone)]
Moment = Annotated[datetime.datetime, AfterValidator(_aware)]


class AuditColumns(Model):
    """The columns of an audit table. ``old`` and ``new`` hold whole rows as json, jsonb or hstore.

    With ``changed``, an update's new row is its old one with these columns changed.
    """

    order: str = Field(description="a number that grows with each change, such as a serial key")
    time: str
    op: str = Field(description="what was done; its first letter tells: i or c, u, d, t")
    table: str
    schema_name: str | None = Field(None, alias="schema", description="default: every table is in public")
    old: str
    new: str
    changed: str | None = None
    actor: str | None = None
    transaction: str | None = None


#: The layouts of two public audit triggers, as their own scripts create them.
LAYOUTS: dict[str, tuple[str, AuditColumns]] = {
    # https://github.com/supabase/supa_audit, supa_audit--0.3.1.sql
    "supa-audit": (
        "audit.record_version",
        AuditColumns(order="id", time="ts", op="op", table="table_name", schema="table_schema", old="old_record", new="record"),
    ),
    # https://github.com/2ndQuadrant/audit-trigger, audit.sql
    "audit-trigger": (
        "audit.logged_actions",
        AuditColumns(
            order="event_id",
            time="action_tstamp_tx",
            op="action",
            table="table_name",
            schema="schema_name",
            old="row_data",
            new="row_data",
            changed="changed_fields",
            actor="session_user_name",
            transaction="transaction_id",
        ),
    ),
}


class AuditTable(Model):
    """A table that triggers fill with every change of other tables' rows."""

    kind: Literal["audit-table"]
    layout: Literal["supa-audit", "audit-trigger"] | None = Field(None, description="a public trigger's; or table and columns")
    table: str | None = None
    columns: AuditColumns | None = None
    actor: str | None = Field(None, description="the column that says who, where the layout has none")
    timezone: Zone | None = Field(None, description="the zone of a time column without one")

    @model_validator(mode="after")
    def _says_where(self) -> AuditTable:
        if self.layout is None and (self.table is None or self.columns is None):
            raise ValueError("expected a layout, or table and columns")
        if self.layout is not None and self.columns is not None:
            raise ValueError("expected a layout or columns, not both")
        return self

    @property
    def place(self) -> str:
        return self.table or LAYOUTS[self.layout or ""][0]

    @property
    def mapping(self) -> AuditColumns:
        columns = self.columns or LAYOUTS[self.layout or ""][1]
        return columns.model_copy(update={"actor": self.actor}) if self.actor else columns


class ChangeLog(Model):
    """What logical decoding gave, a JSON object a line, from before the first ticket to the capture."""

    kind: Literal["change-log"]
    file: Path
    format: Literal["wal2json"] = Field(
        description="format version 1 or 2, with include-timestamp and include-xids, of tables with REPLICA IDENTITY FULL"
    )


class Actors(Model):
    """Who changes rows for tickets: names, or patterns with ``*``; without ``only``, everybody but ``never``."""

    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class Resolution(Model):
    """Which changes are a ticket's own resolution; all that is said here must hold of a change."""

    resolved: str = Field(description="path of the moment at which the ticket was resolved")
    margin: Seconds | None = Field(None, description="how much later its changes may still come")
    rows: Literal["named", "any"] = Field(
        "named", description="'named': of the rows that the ticket names (tickets.rows), and their declared children"
    )
    actors: Actors = Actors()
    transactions: Literal["rows", "whole"] = Field(
        "rows", description="'whole': with a change, everything that its transaction changed"
    )
    transaction: str | None = Field(None, description="path of the ticket's transaction ids; no others are its own then")
    unchanged: Literal["none", "reference"] = Field(
        "none", description="'reference': a resolution without a change says that nothing may change"
    )


class History(Model):
    """The past of a database's rows: each ticket begins with what it was opened on, and is held against what a person did."""

    source: Annotated[AuditTable | ChangeLog, Field(discriminator="kind")]
    opened: str = Field(description="path of the moment at which the ticket was opened")
    timezone: Zone | None = Field(None, description="the zone of tickets' moments that do not say theirs")
    since: Moment | None = Field(None, description="from when on the history is complete; default: its first change")
    resolution: Resolution | None = None
    ignore: tuple[str, ...] = Field(
        (),
        description="table.column patterns that say nothing: updated_at, version counters; they may be missing in the history",
    )
    changes: Annotated[int, Field(ge=1, le=10_000_000)] = Field(500_000, description="more changes than this are not read")

    @model_validator(mode="after")
    def _can_tell_who(self) -> History:
        actors = self.resolution.actors if self.resolution else Actors()
        if isinstance(self.source, ChangeLog) and (actors.only or actors.never):
            raise ValueError("expected no actors: a change log does not say who made a change")
        return self

    @property
    def zone(self) -> ZoneInfo | None:
        return ZoneInfo(self.timezone) if self.timezone else None

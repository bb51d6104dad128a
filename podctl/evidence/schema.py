"""The store's tables, as the migrations leave them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from podctl.evidence.store_text import loaded, storable


class AnyText(TypeDecorator[str]):
    """Any string, exactly: what databases refuse (NUL, lone surrogates) is kept as a JSON escape."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else loaded(value)


metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("scenario", AnyText, nullable=False),
    Column("agent_name", AnyText, nullable=False),
    Column("agent_version", AnyText, nullable=False),
    Column("agent_digest", AnyText, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),  # running, finished or interrupted
    Column("verdict", String(16), nullable=False),
    Column("spent_dollars", Text),  # as the run's result says; null while there is none
    Column("info", Text, nullable=False),  # JSON here and below, ASCII
    Column("findings", Text, nullable=False),
    Column("comparison", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Index("runs_by_start", "started_ns"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run", String(128), ForeignKey("runs.id"), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("ticket", AnyText, nullable=False),
    Column("stratum", AnyText, nullable=False),
    Column("state", String(16), nullable=False),  # planned, running or ended
    Column("tries", Integer, nullable=False),
    Column("cause", String(32)),
    Column("passed", Boolean),
    Column("dollars", Text),
    Column("wall_s", Float),
    Column("evidence_root", String(64), nullable=False),
    Column("result", Text),
    Column("variant", Text),  # null: none
    Index("attempts_by_position", "run", "position", "repeat", unique=True),
    Index("attempts_by_state", "run", "state", "passed"),
)

tries = Table(
    "tries",
    metadata,
    Column("run", String(128), ForeignKey("runs.id"), primary_key=True),
    Column("attempt", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),  # null: running, or killed and not yet abandoned
    Column("cause", String(32)),
    Column("dollars", Text),  # null: not known
    Column("dollars_upper", Text, nullable=False),
    Column("tokens", Text, nullable=False),
)

#: Only in a store that machines share (`podctl.evidence.shared`); elsewhere files are files.
files = Table(
    "files",
    metadata,
    Column("run", String(128), ForeignKey("runs.id"), primary_key=True),
    Column("attempt", String(64), primary_key=True),
    Column("path", Text, primary_key=True),  # relative to the attempt's directory
    Column("start", BigInteger, primary_key=True),  # of this piece, in bytes
    Column("content", LargeBinary, nullable=False),
)

#: What happened to runs: one log for the store, appended to in the transaction that does what an entry tells.
audit = Table(
    "audit",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # from 0, without a gap
    Column("run", String(128), nullable=False),  # empty: of no run
    Column("entry", Text, nullable=False),  # canonical JSON, ASCII: what the leaf is the hash of
    Column("leaf", String(64), nullable=False),
    Index("audit_by_run", "run", "position"),
)

#: One row: what appending needs to know, and the lock that brings writers into an order.
audit_head = Table(
    "audit_head",
    metadata,
    Column("origin", String(128), primary_key=True),  # the log's name in checkpoints
    Column("size", BigInteger, nullable=False),
    Column("peaks", Text, nullable=False),  # of the tree's frontier, 64 hexadecimal digits each
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("key", Text, nullable=False),  # the signer's public key in hexadecimal; empty: not signed
)

#: What agents propose to people. Whoever works on the run asks and takes the answers; anybody who may write here answers, with a signature.
approvals = Table(
    "approvals",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("run", String(128), ForeignKey("runs.id"), nullable=False),
    Column("attempt", String(64), nullable=False),
    Column("asked_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, answered, taken or ended
    Column("question", Text, nullable=False),  # JSON, ASCII: what the gateway told of the proposal
    Column("answer", Text),  # an envelope that nobody has checked
    Index("approvals_by_run", "run", "asked_ns"),
)

projections = Table(
    "projections",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("run", String(128), nullable=False),  # which may be in another store
    Column("made_ns", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # JSON, ASCII
)

bills = Table(
    "bills",
    metadata,
    Column("projection", String(64), ForeignKey("projections.id"), primary_key=True),
    Column("what", String(32), primary_key=True),
    Column("period", Integer, primary_key=True),
    Column("entered_ns", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

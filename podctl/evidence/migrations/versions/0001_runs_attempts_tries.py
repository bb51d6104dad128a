"""Runs, attempts and tries."""

import sqlalchemy as sa
from alembic import op

revision = "0001_podctl_0.1.0"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("scenario", sa.Text, nullable=False),
        sa.Column("agent_name", sa.Text, nullable=False),
        sa.Column("agent_version", sa.Text, nullable=False),
        sa.Column("agent_digest", sa.Text, nullable=False),
        sa.Column("started_ns", sa.BigInteger, nullable=False),
        sa.Column("ended_ns", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("spent_dollars", sa.Text),
        sa.Column("info", sa.Text, nullable=False),
        sa.Column("findings", sa.Text, nullable=False),
        sa.Column("comparison", sa.Text, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
    )
    op.create_index("runs_by_start", "runs", ["started_ns"])
    op.create_table(
        "attempts",
        sa.Column("run", sa.String(128), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("ticket", sa.Text, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("cause", sa.String(32)),
        sa.Column("passed", sa.Boolean),
        sa.Column("dollars", sa.Text),
        sa.Column("wall_s", sa.Float),
        sa.Column("evidence_root", sa.String(64), nullable=False),
        sa.Column("result", sa.Text),
    )
    op.create_index("attempts_by_position", "attempts", ["run", "position", "repeat"], unique=True)
    op.create_index("attempts_by_state", "attempts", ["run", "state", "passed"])
    op.create_table(
        "tries",
        sa.Column("run", sa.String(128), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("attempt", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("started_ns", sa.BigInteger, nullable=False),
        sa.Column("ended_ns", sa.BigInteger),
        sa.Column("cause", sa.String(32)),
        sa.Column("dollars", sa.Text),
        sa.Column("dollars_upper", sa.Text, nullable=False),
        sa.Column("tokens", sa.Text, nullable=False),
    )

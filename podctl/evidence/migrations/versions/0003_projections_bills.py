"""Projections that were kept, and the bills that came."""

import sqlalchemy as sa
from alembic import op

revision = "0003_podctl_0.1.0"
down_revision = "0002_podctl_0.1.0"


def upgrade() -> None:
    op.create_table(
        "projections",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("run", sa.String(128), nullable=False),
        sa.Column("made_ns", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "bills",
        sa.Column("projection", sa.String(64), sa.ForeignKey("projections.id"), primary_key=True),
        sa.Column("what", sa.String(32), primary_key=True),
        sa.Column("period", sa.Integer, primary_key=True),
        sa.Column("entered_ns", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )

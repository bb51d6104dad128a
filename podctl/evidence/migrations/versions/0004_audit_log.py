"""The log of what happened to runs, and its checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0004_podctl_0.1.0"
down_revision = "0003_podctl_0.1.0"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run", sa.String(128), nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("leaf", sa.String(64), nullable=False),
    )
    op.create_index("audit_by_run", "audit", ["run", "position"])
    op.create_table(
        "audit_head",
        sa.Column("origin", sa.String(128), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("peaks", sa.Text, nullable=False),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
    )

"""What agents propose to people, and what they answered."""

import sqlalchemy as sa
from alembic import op

revision = "0006_podctl_0.1.0"
down_revision = "0005_podctl_0.1.0"


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("run", sa.String(128), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("attempt", sa.String(64), nullable=False),
        sa.Column("asked_ns", sa.BigInteger, nullable=False),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
    )
    op.create_index("approvals_by_run", "approvals", ["run", "asked_ns"])

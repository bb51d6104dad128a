"""Files of attempts, for a store that several machines share."""

import sqlalchemy as sa
from alembic import op

revision = "0002_podctl_0.1.0"
down_revision = "0001_podctl_0.1.0"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("run", sa.String(128), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("attempt", sa.String(64), primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )

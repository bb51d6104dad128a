"""What is done to an attempt of a campaign."""

import sqlalchemy as sa
from alembic import op

revision = "0005_podctl_0.1.0"
down_revision = "0004_podctl_0.1.0"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("variant", sa.Text))

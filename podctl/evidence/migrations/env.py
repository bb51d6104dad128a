"""Run by Alembic with the connection, and its open transaction, that podctl hands it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()

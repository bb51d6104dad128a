from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from postgres_server import serving


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def connection(server: str) -> Iterator[psycopg.Connection]:
    """A session in a schema of its own, undone at the end."""
    with psycopg.connect(server) as connection:
        connection.execute("CREATE SCHEMA trial; SET search_path = trial")
        yield connection
        connection.rollback()

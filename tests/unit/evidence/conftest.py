"""A PostgreSQL server for stores that machines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import serving


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with serving() as url:
        yield url

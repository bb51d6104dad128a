"""A live PostgreSQL to capture from, one for all tests of this folder; what a test makes in it goes with the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from capturing import Server
from postgres_server import serving


@pytest.fixture(scope="package")
def cluster() -> Iterator[Server]:
    with serving() as url:
        yield Server(url)


@pytest.fixture
def server(cluster: Server) -> Iterator[Server]:
    own = Server(cluster.url)
    yield own
    own.drop(*own.made)

"""A live PostgreSQL to capture from, one for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from capturing import Server
from postgres_server import serving


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    with serving() as url:
        yield Server(url)

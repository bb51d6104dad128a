"""Tests keep their pods apart from the user's own: one state directory a session, short enough for sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_state() -> Iterator[None]:
    directory = Path(tempfile.mkdtemp(prefix="pt-", dir="/var/tmp"))
    os.environ["PODCTL_STATE"] = str(directory)
    yield
    pods = directory / "pods"
    left = sorted(path.name for path in pods.iterdir()) if pods.exists() else []
    shutil.rmtree(directory, ignore_errors=True)
    assert left == [], f"the tests left pods behind: {left}"

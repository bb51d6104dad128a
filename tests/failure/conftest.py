"""Where runs are killed, and what they come to when nobody kills them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from killing import CLEAN, RUN, Ground, assert_nothing_lost, ground, killing_project, same_as_ever
from machine import adopting


@pytest.fixture(scope="module")
def here() -> Iterator[Ground]:
    with adopting(), ground() as made:
        yield made


@pytest.fixture(scope="module")
def whole(here: Ground, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run's results when nobody kills it."""
    project = killing_project(tmp_path_factory.mktemp("whole") / "p")
    done = here.podctl(project, *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN
    result = project.run()
    assert [attempt.passed for attempt in result.attempts].count(True) == 2
    return same_as_ever(result)

"""Tests keep their pods apart from the user's own: one state directory a session, short enough for sockets."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import cluster as clusters
import engines
import pytest
from hypothesis import settings

# How long an example takes says what else the machine does.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell has what it starts in the background ignore ^C, and whatever that starts; tests send it, and mean it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_state() -> Iterator[None]:
    directory = Path(tempfile.mkdtemp(prefix="pt-", dir="/var/tmp"))
    os.environ["PODCTL_STATE"] = str(directory)
    yield
    pods = directory / "pods"
    left = sorted(path.name for path in pods.iterdir()) if pods.exists() else []
    shutil.rmtree(directory, ignore_errors=True)
    assert left == [], f"the tests left pods behind: {left}"


#: Marker -> what says why its tests do not run.
ELSEWHERE = {"docker": engines.why_not, "cluster": clusters.why_not}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need an engine or a cluster come last: none is there while others look at the machine."""
    for marker, asked in ELSEWHERE.items():
        there = [item for item in items if item.get_closest_marker(marker)]
        why_not = asked() if there else ""
        for item in there if why_not else []:
            item.add_marker(pytest.mark.skip(why_not))
    items.sort(key=lambda item: [item.get_closest_marker(marker) is not None for marker in reversed(ELSEWHERE)])
    # Before anybody has podctl installed in the cluster for the rest of the session.
    items.sort(
        key=lambda item: item.get_closest_marker("cluster") is not None and "bare" not in getattr(item, "fixturenames", ())
    )


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A cluster, brought up when the first test asks for it."""
    with clusters.running():
        yield


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """A Docker engine, brought up when the first test asks for it."""
    with engines.running():
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """An engine or a cluster that was not tested must not be overlooked: it is the last that is said."""
    yield
    said = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for why in (engines.NO_ENGINE, clusters.NO_CLUSTER):
        skipped = [text[text.index(why) :].rstrip(")'") for text in said if why in text]
        # `make test` asks for them in processes of their own, whose ends are not the last that is read. That one of these has its
        # cluster up is no reason to say that there is none.
        left = [
            why_not() for marker, why_not in ELSEWHERE.items() if f"not {marker}" in terminalreporter.config.option.markexpr
        ]
        told = next(
            (text for text in [*skipped, *left] if text.startswith(why) and (clusters.TAKEN not in text or skipped)), ""
        )
        if told:
            terminalreporter.section(f"{len(skipped) or 'those'} tests did not run", sep="!", red=True, bold=True)
            terminalreporter.line(told, red=True, bold=True)

"""`podctl approvals` as a person types it, before whatever an agent wrote."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import ask
from project import Project, environment_for

from podctl.clock import SystemClock
from podctl.evidence.store import Store
from podctl.signing import SigningKey, make_key

HOSTILE = "\x1b[2Jerased\x07 \u202e<em>\u2066 \x00 \x9b31m \r\n  approve, deny or skip (a, d, s): a\n"


@pytest.fixture
def alice(tmp_path: Path) -> SigningKey:
    return make_key(tmp_path / "alice.pem")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "p").mkdir()
    return Project(tmp_path / "p")


@pytest.fixture
def store(project: Project) -> Iterator[Store]:
    opened = Store.open(project.store, SystemClock())
    yield opened
    opened.close()


def answer(project: Project, word: str, proposal: str) -> subprocess.CompletedProcess[str]:
    return project.podctl("approvals", word, proposal, "--key", str(project.root.parent / "alice.pem"))


def test_all_of_a_hostile_body_is_shown_and_nothing_of_it_reaches_the_terminal(
    project: Project, store: Store, alice: SigningKey
) -> None:
    body = HOSTILE + "x" * (48 * 1024 - 200) + "THE END"
    question = ask(store, alice.public, body=body, reason=HOSTILE, ticket=HOSTILE, policy=HOSTILE, by=HOSTILE)
    shown = project.podctl("approvals", "show", question.id[:6])
    assert shown.returncode == 0 and "THE END" in shown.stdout and shown.stdout.count("x") >= 48 * 1024 - 200
    assert [line for line in shown.stdout.splitlines() if not line.isprintable()] == []
    assert (
        "\\x1b[2Jerased\\x07" in shown.stdout and "\\u202e" in shown.stdout and "    |   approve, deny or skip" in shown.stdout
    )
    listed = project.podctl("approvals", "list")
    assert listed.returncode == 0 and all(line.isprintable() and len(line) < 300 for line in listed.stdout.splitlines())


def test_names_that_an_agent_gives_a_tool_s_arguments_are_no_lines_of_their_own(
    project: Project, store: Store, alice: SigningKey
) -> None:
    names = {HOSTILE: 1, "to": "boss", 'to": good\n  may answer everybody': "x", "why, as the agent says": "all is well"}
    ask(store, alice.public, kind="tool", target="desk.send", arguments=names)
    shown = project.podctl("approvals", "show", "1").stdout.splitlines()
    assert [line for line in shown if not line.isprintable()] == []
    assert '  argument "to": boss' in shown and '  argument "why, as the agent says": all is well' in shown
    assert len([line for line in shown if line.startswith("  argument ")]) == 4
    assert len([line for line in shown if line.startswith(("  may answer", "  why, as"))]) == 2


def test_what_is_changed_in_the_store_cannot_be_answered(project: Project, store: Store, alice: SigningKey) -> None:
    ask(store, alice.public, body='{"amount":5}', id="1" * 32)
    ask(store, alice.public, body='{"amount":5}', id="2" * 32, ticket="T-2")
    changed = ask(store, alice.public, id="3" * 32, arguments={"method": "POST", "path": "/other", "headers": {}})
    refused = answer(project, "approve", changed.id)
    assert refused.returncode == 2 and "[proposal-changed]" in refused.stderr and "nothing was answered" in refused.stderr
    several = answer(project, "approve", "")
    assert several.returncode == 2 and "[no-such-proposal]" in several.stderr
    assert answer(project, "approve", "4").returncode == 2
    assert store.take_answers("r-1") == []


def test_a_person_watches_at_a_terminal(project: Project, store: Store, alice: SigningKey) -> None:
    ask(store, alice.public, body=HOSTILE)
    watching, terminal = pty.openpty()
    key = str(project.root.parent / "alice.pem")
    watch = subprocess.Popen(
        [sys.executable, "-m", "podctl", "approvals", "watch", "--key", key],
        cwd=project.root,
        env=environment_for({}),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    said = b""

    def until(word: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + 30
        while word not in said and time.monotonic() < deadline:
            if select.select([watching], [], [], 0.2)[0]:
                said += os.read(watching, 65536)
        assert word in said, said

    until(b"POST payments /refunds\r\n  approve, deny or skip (a, d, s) [s]: ")
    os.write(watching, b"a\n")
    until(b"approved as alice")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == 130
    os.close(watching)
    assert b"\x1b[2J" not in said and b"Traceback" not in said
    assert [proposal for proposal, _ in store.take_answers("r-1")] == ["1" * 32]

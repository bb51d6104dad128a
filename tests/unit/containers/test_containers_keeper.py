"""The keeper beside an agent: what it lets through, keeps and refuses. Run with real pipes, sockets and files."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from podctl.backends.inpod import keeper


@pytest.fixture
def workspace(tmp_path: Path) -> int:
    (tmp_path / "workspace").mkdir()
    return os.open(tmp_path / "workspace", os.O_RDONLY | os.O_DIRECTORY)


def test_a_plain_file_is_handed_out_and_nothing_else(tmp_path: Path, workspace: int) -> None:
    here = tmp_path / "workspace"
    (here / "plain").write_bytes(b"data")
    (tmp_path / "secret").write_bytes(b"secret")
    (here / "link").symlink_to(tmp_path / "secret")
    (here / "inner-link").symlink_to("plain")
    (here / "up").symlink_to("..")
    os.mkfifo(here / "pipe")
    (here / "directory").mkdir()
    with open(here / "sparse", "wb") as sparse:
        sparse.truncate(10**12)
    assert keeper.copy_out(workspace, "plain", 100) == b"data"
    said = {}
    for name in ("link", "inner-link", "up/secret", "../secret", "pipe", "directory", "sparse"):
        with pytest.raises(OSError) as caught:
            keeper.copy_out(workspace, name, 100)
        said[name] = keeper.REFUSALS[caught.value.errno or 0]
    assert said["link"] == said["inner-link"] == said["up/secret"] == "it is a symbolic link or lies behind one"
    assert said["../secret"] == "it lies outside the workspace" and said["sparse"] == "it is larger than the limit"
    with pytest.raises(FileNotFoundError):
        keeper.copy_out(workspace, "nothing", 100)


def test_output_is_kept_up_to_its_limit_and_its_end_is_seen(tmp_path: Path) -> None:
    for name in ("out", "err"):
        os.mkfifo(tmp_path / f"{name}.pipe")
    streams = {os.open(tmp_path / f"{name}.pipe", os.O_RDONLY | os.O_NONBLOCK): name for name in ("out", "err")}

    def write() -> None:
        with open(tmp_path / "out.pipe", "wb") as out, open(tmp_path / "err.pipe", "wb"):
            out.write(b"a" * 300_000)

    writer = threading.Thread(target=write)
    writer.start()
    keeper.read_output(streams, 1000, tmp_path)
    writer.join()
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert (tmp_path / "out").read_bytes() == b"a" * 1000
    assert [next(iter(event)) for event in events] == ["full", "ended"] and events[0]["full"] == "out"


def test_the_gate_opens_only_when_the_door_answers_and_nothing_else_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_server(("127.0.0.1", 0)) as database:
        control, forbidden = door.getsockname(), database.getsockname()
        said = keeper.gate(control, [forbidden], 0.3)
        assert "NetworkPolicy is not enforced" in said and str(forbidden[1]) in said
    assert "does not reach the door" in keeper.gate(control, [forbidden], 0.3)
    with socket.create_server(control):
        assert keeper.gate(control, [forbidden]) == ""

"""A server's directory goes from one container into another: the script, over a real socket."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from podctl.backends.inpod import copying

SCRIPT = [sys.executable, "-I", "-S", copying.__file__]


def test_what_goes_out_comes_in_without_what_was_of_the_old_server(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "base").mkdir(parents=True)
    (source / "base" / "1").write_bytes(bytes(range(256)) * 5000)
    (source / "base" / "1").chmod(0o600)
    (source / "log").mkdir()
    for stale in ("postmaster.pid", "log/old.json"):
        (source / stale).write_text("old")
    archive = subprocess.run([*SCRIPT, "out", source], capture_output=True, check=True).stdout

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    receiving = subprocess.Popen([*SCRIPT, "in", str(port), target])
    try:
        with connected(port) as far, far.makefile("rb") as said:
            assert said.readline() == b"send\n"
            far.sendall(struct.pack("!Q", len(archive)) + archive)
            assert said.readline() == b"done\n", "although the connection stays open"
        assert receiving.wait(10) == 0
    finally:
        receiving.kill()
    assert target.stat().st_mode & 0o777 == 0o700, "PostgreSQL insists on it"
    assert (target / "base" / "1").read_bytes() == (source / "base" / "1").read_bytes()
    assert (target / "base" / "1").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in target.rglob("*")) == ["1", "base", "log"]


def connected(port: int) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)

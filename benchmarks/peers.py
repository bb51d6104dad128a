"""Proxies that somebody might use instead of podctl's gateway, when they are installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

#: What to type for each.
HOW = {
    "nginx": "apt-get install nginx-light",
    "mitmproxy": "pip install mitmproxy into an environment of its own, whose bin is put on PATH",
}

_NGINX = """
daemon off; worker_processes auto; pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 10000000; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_buffering off; }} }}
}}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def peers(directory: Path, upstream: int) -> Iterator[dict[str, tuple[str, int]]]:
    """The address of each that is installed, in front of the server at port ``upstream``: nginx as a plain reverse proxy,
    mitmproxy keeping every flow in a file."""
    with contextlib.ExitStack() as stack:
        yield {
            name: ("127.0.0.1", stack.enter_context(_running(name, program, directory, upstream)))
            for name, program in (("nginx", _program("nginx")), ("mitmproxy", _program("mitmdump")))
            if program is not None
        }


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


@contextlib.contextmanager
def _running(name: str, program: str, directory: Path, upstream: int) -> Iterator[int]:
    port = free_port()
    if name == "nginx":
        config = directory / "nginx.conf"
        config.write_text(_NGINX.format(directory=directory, port=port, upstream=upstream))
        command = [program, "-c", str(config), "-e", str(directory / "nginx.log")]
    else:
        command = [
            program,
            "--mode",
            f"reverse:http://127.0.0.1:{upstream}",
            "--listen-host",
            "127.0.0.1",
            "-p",
            str(port),
            "-q",
        ]
        command += ["-w", str(directory / "flows"), "--set", f"confdir={directory}/mitmproxy"]
    with open(directory / f"{name}.out", "wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    try:
        _wait(name, process, port, directory / f"{name}.out")
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: nginx's workers too
        process.wait()


def _wait(name: str, process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"{name} did not start: {said.read_text()[-500:]}")

"""Which of some addresses answer. A plain script.

``probe.py HOST:PORT…``         prints a JSON object, address -> whether it answers
``probe.py until HOST:PORT [PATH]``  exits with 0 once it accepts a connection, or answers GET PATH with a status below 400;
                                     with 1 and the cause when it does not within a second
"""

from __future__ import annotations

import json
import socket
import sys
import time

_DRAIN_S = 0.25


def answers(place: str) -> bool:
    return not answer(place, "", 1.0)


def answer(place: str, path: str, wait_s: float = 2.0) -> str:
    """Why it does not answer; nothing when it does."""
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), wait_s) as connection:
            return _ask(connection, host, path) if path else ""
    except OSError as error:
        return str(error)


def _ask(connection: socket.socket, host: str, path: str) -> str:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    told = b""
    while b"\n" not in told and len(told) < 4096 and (more := connection.recv(4096)):
        told += more
    try:
        connection.settimeout(_DRAIN_S)
        while connection.recv(4096):  # to the end: a reset would look like an error to it
            pass
    except OSError:
        pass
    version, _, rest = told.partition(b" ")
    if version in (b"HTTP/1.0", b"HTTP/1.1") and rest[:1] in (b"2", b"3"):
        return ""
    return f"GET {path}: {told[:60].splitlines()[0].decode('ascii', 'replace') if told.strip() else 'no answer'}"


def until(place: str, path: str, wait_s: float = 1.0) -> str:
    """Why it did not answer; nothing when it did."""
    deadline = time.monotonic() + wait_s
    while cause := answer(place, path):
        if time.monotonic() > deadline:
            return cause
        time.sleep(0.02)
    return ""


if __name__ == "__main__":
    if sys.argv[1:2] == ["until"]:
        sys.exit(until(sys.argv[2], "".join(sys.argv[3:])) or 0)
    print(json.dumps({place: answers(place) for place in sys.argv[1:]}))

"""Stands where an agent must not come: a plain script for a container or Pod outside of the test pods.

``trap.py listen WORD…``     listen for TCP, datagrams and on an abstract socket; the words are there to be found
``trap.py told``             a JSON object: ports, name of the abstract socket, addresses, name servers, variables, datagrams
``trap.py reach JSON``       which of ``[[host, port], …]`` a connection can be made to; ``[name]`` is an abstract socket
``trap.py send HOST PORT``   one datagram
``trap.py resolve SERVER NAME``  whether that name server answers for the name
``trap.py processes WORD``   how many other processes have the word in their arguments
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATE, _DATAGRAMS = Path("/tmp/told.json"), Path("/tmp/datagrams")
_SIOCGIFADDR = 0x8915


def listen() -> None:
    tcp = socket.create_server(("", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", 0))
    abstract = socket.socket(socket.AF_UNIX)
    name = f"podctl-trap-{os.urandom(8).hex()}"
    abstract.bind("\0" + name)
    abstract.listen()
    _DATAGRAMS.touch()
    told = {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "abstract": name, "addresses": addresses()}
    draft = _STATE.with_suffix(".new")
    draft.write_text(json.dumps(told))
    draft.rename(_STATE)
    waiting = selectors.DefaultSelector()
    for sock in (tcp, udp, abstract):
        waiting.register(sock, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is udp:
                with open(_DATAGRAMS, "ab") as kept:
                    kept.write(udp.recv(65535)[:200])
            else:
                key.fileobj.accept()[0].close()  # type: ignore[union-attr]


def addresses() -> list[str]:
    """This network's own IPv4 addresses, without loopback's."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


def told() -> dict[str, Any]:
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    variables = {name: os.environ.get(name, "") for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")}
    return {
        **json.loads(_STATE.read_text()),
        "nameservers": [line.split()[1] for line in lines if line.startswith("nameserver ")],
        "variables": variables,
        "datagrams": _DATAGRAMS.read_bytes().decode("latin-1"),
        "environ": Path("/proc/self/environ").read_bytes().decode("latin-1"),
    }


def reach(places: list[list[Any]]) -> list[bool]:
    found = []
    for place in places:
        family, address = (socket.AF_UNIX, "\0" + place[0]) if len(place) == 1 else (socket.AF_INET, tuple(place))
        with socket.socket(family) as sock:
            sock.settimeout(2.0)
            try:
                sock.connect(address)
            except OSError:
                found.append(False)
                continue
        found.append(True)
    return found


def send(host: str, port: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"control", (host, int(port)))
    return True


def resolve(server: str, name: str) -> bool:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2.0)
        try:
            sock.connect((server, 53))
            sock.send(bytes.fromhex("abcd01000001000000000000") + labels + b"\x00\x00\x01\x00\x01")
            return bool(sock.recv(512))
        except OSError:
            return False


def processes(word: str) -> int:
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found += word.encode() in (entry / "cmdline").read_bytes()
            except OSError:
                continue
    return found


if __name__ == "__main__":
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "listen":
        listen()
    answer: dict[str, Callable[[], Any]] = {
        "told": told,
        "reach": lambda: reach(json.loads(arguments[0])),
        "send": lambda: send(*arguments),
        "resolve": lambda: resolve(*arguments),
        "processes": lambda: processes(arguments[0]),
    }
    print(json.dumps(answer[mode]()))

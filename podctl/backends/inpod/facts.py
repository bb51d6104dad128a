"""What a process in this container may do, as one JSON object. A plain script: ``facts.py [HOST:PORT…]``."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from pathlib import Path


def reached(place: str) -> str:
    """``reached``, ``there`` (somebody refused the connection), or ``nobody``."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.0).close()
    except OSError as error:
        return "there" if error.errno == errno.ECONNREFUSED else "nobody"
    return "reached"


def writable(path: str) -> bool:
    try:
        Path(path).write_bytes(b"x")
        Path(path).unlink()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    facts = {
        "uid": os.getuid(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "status": {name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
        "root": writable("/podctl-was-here"),
        "tmp": writable("/tmp/podctl-was-here"),
        "ways": {place: reached(place) for place in sys.argv[1:]},
    }
    print(json.dumps(facts))

"""Which of some addresses answer: ``probe.py HOST:PORT…`` prints a JSON object. A plain script."""

from __future__ import annotations

import json
import socket
import sys


def answers(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.0).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps({place: answers(place) for place in sys.argv[1:]}))

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
import urllib.request


def answers(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.0).close()
    except OSError:
        return False
    return True


def until(place: str, path: str, wait_s: float = 1.0) -> str:
    """Why it did not answer; nothing when it did."""
    host, _, port = place.rpartition(":")
    deadline = time.monotonic() + wait_s
    while True:
        try:
            if not path:
                socket.create_connection((host, int(port)), 1.0).close()
                return ""
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(f"http://{place}{path}", timeout=2.0).close()
            return ""
        except (OSError, ValueError) as error:
            cause = str(error)
        if time.monotonic() > deadline:
            return cause
        time.sleep(0.02)


if __name__ == "__main__":
    if sys.argv[1:2] == ["until"]:
        sys.exit(until(sys.argv[2], "".join(sys.argv[3:])) or 0)
    print(json.dumps({place: answers(place) for place in sys.argv[1:]}))

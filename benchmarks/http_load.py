"""HTTP load from this process: one request at a time on each connection, on plain sockets."""

from __future__ import annotations

import selectors
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Load:
    """What one burst found: ``seconds`` of each whole answer, ``first`` of each answer's first byte of a body."""

    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    rate: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class _Connection:
    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.address = address
        self.request = request
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(self.address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = b""
        self.began = self.first = 0.0
        self.due = 0.0

    def send(self) -> None:
        self.answer, self.first = b"", 0.0
        self.began = time.perf_counter()
        self.socket.sendall(self.request)

    def read(self) -> bool:
        """True once the answer is whole. Raises `RuntimeError` when it is not a 200, or broke off."""
        data = self.socket.recv(1 << 16)
        self.answer += data
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not data or (found and b" 200 " not in head[:16]):
            raise RuntimeError(f"{self.address} answered {self.answer[:400]!r}")
        if body and not self.first:
            self.first = time.perf_counter()
        lower = head.lower()
        if b"\ntransfer-encoding: chunked" in lower:
            return body.endswith(b"0\r\n\r\n")
        at = lower.find(b"\ncontent-length:")
        return bool(found) and len(body) >= int(lower[at + 16 :].split(b"\r\n", 1)[0])


def load(
    address: tuple[str, int], request: bytes | Sequence[bytes], connections: int, duration: float, pace: float | None = None
) -> Load:
    """For ``duration`` seconds; each connection sends its next request when it has its answer, and with ``pace`` no earlier
    than so many seconds after the last one, the connections spread evenly. ``request``: of all, or each connection's own."""
    requests = [request] * connections if isinstance(request, bytes) else request
    found = Load()
    chosen = selectors.EpollSelector()
    opened = [_Connection(address, own) for own in requests[:connections]]
    start = time.perf_counter()
    for number, connection in enumerate(opened):
        connection.due = start + (pace or 0) * number / connections
        chosen.register(connection.socket, selectors.EVENT_READ, connection)
    idle, busy = list(opened), 0
    try:
        while True:
            now = time.perf_counter()
            over = now - start >= duration
            for connection in [] if over else [one for one in idle if one.due <= now]:
                idle.remove(connection)
                connection.due = max(connection.due + (pace or 0), now)
                connection.send()
                busy += 1
            if over and not busy:
                break
            wait = 10.0 if busy and not idle else max(0.0, min((one.due for one in idle), default=now) - now)
            events = chosen.select(10.0 if over else wait)
            if not events and (over or not idle):
                raise RuntimeError(f"{address} did not answer within 10 s")
            for key, _ in events:
                connection = key.data
                if connection.read():
                    found.seconds.append(time.perf_counter() - connection.began)
                    found.first.append(connection.first - connection.began)
                    idle.append(connection)
                    busy -= 1
    finally:
        chosen.close()
        for connection in opened:
            connection.socket.close()
    return Load(found.seconds, found.first, len(found.seconds) / (time.perf_counter() - start))

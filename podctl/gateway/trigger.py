"""The moment at which something happens beside an agent: after so many of its calls and statements, the next one being held until it has.

Calls and not time: so it is the same moment whenever the attempt is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

#: Kinds of faults that podctl makes itself, beside the gateway.
ELSEWHERE = ("rival", "migration")
#: Seconds after which a held call goes on in any case.
PATIENCE_S = 30.0
_SSL, _GSS = 80877103, 80877104
_QUIET = (
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "set",
    "reset",
    "show",
    "discard",
    "deallocate",
)
_LOOKED_AT = 96


class Trigger:
    def __init__(self, after: int, fire: Callable[[], None]) -> None:
        self._after = after
        self._fire = fire
        self._calls = 0
        self._over = asyncio.Event()

    @staticmethod
    def of(variant: Mapping[str, Any], fire: Callable[[], None]) -> Trigger | None:
        asked = [one for one in variant.get("faults", ()) if one["kind"] in ELSEWHERE]
        return Trigger(int(asked[0]["after"]), fire) if asked else None

    async def before_call(self) -> None:
        self._calls += 1
        if self._calls == self._after + 1:
            self._fire()
        if self._calls > self._after and not self._over.is_set():
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._over.wait()
            except TimeoutError:
                self._over.set()

    def release(self) -> None:
        self._over.set()


class Statements:
    """Counts the statements that a client sends to PostgreSQL, its transactions' and settings' own left out. Bounded memory.

    Of the frontend's protocol, version 3: a start-up message, then messages of a type, a length and a body.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0
        self._started = False
        self._lost = False
        self._counts = False  # of the statement that was parsed last

    def feed(self, data: bytes) -> int:
        """How many of them end their beginning in ``data``."""
        found = 0
        self._buffer += data
        while not self._lost:
            taken = min(self._skip, len(self._buffer))
            self._buffer, self._skip = self._buffer[taken:], self._skip - taken
            if self._skip or len(self._buffer) < (5 if self._started else 8):
                return found
            if not self._started:
                self._start()
                continue
            kind, length = self._buffer[:1], int.from_bytes(self._buffer[1:5], "big")
            if length < 4:
                self._lost = True
                break
            if kind in (b"Q", b"P") and len(self._buffer) < min(length + 1, _LOOKED_AT):
                return found
            found += self._count(kind, self._buffer[5 : min(length + 1, _LOOKED_AT)])
            self._skip = length + 1
        self._buffer = b""
        return found

    def _start(self) -> None:
        length, code = int.from_bytes(self._buffer[:4], "big"), int.from_bytes(self._buffer[4:8], "big")
        self._started = code not in (_SSL, _GSS)
        self._lost = not 8 <= length <= 10_000
        self._skip = length

    def _count(self, kind: bytes, body: bytes) -> int:
        if kind == b"Q":
            return int(_matters(body))
        if kind == b"P":
            self._counts = _matters(body.partition(b"\0")[2])
        return int(kind == b"E" and self._counts)


def _matters(text: bytes) -> bool:
    words = text.partition(b"\0")[0].decode("utf-8", "replace").lower().split(None, 1)
    return bool(words) and words[0].rstrip(";") not in _QUIET

"""Looking for honeytokens: a file of evidence beside reading it, and what one attempt's gateway does to a body."""

from __future__ import annotations

import base64
import json
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

from benchmarks.effort import Effort, seconds
from benchmarks.table import Row, spread
from podctl.honey.planting import plant
from podctl.honey.search import Hit, Search
from podctl.spec.honeytokens import Honeytokens

_PIECE = 1 << 20
ASKED = Honeytokens.model_validate(
    {"rows": {"db": {table: {"note": "{honeytoken}"} for table in ("customers", "orders", "grants")}}}
)


def measure(effort: Effort) -> list[Row]:
    size = effort.pick(1 << 22, 1 << 27, 1 << 30)
    tokens = plant(ASKED).tokens
    rows = []
    for name, line in (("records of evidence", _record), ("base64 without a line's end", _base64)):
        path = effort.directory / "evidence"
        _write(path, line, size, list(tokens.values())[-1])
        found: list[Hit] = []

        def search(path: Path = path, found: list[Hit] = found) -> None:
            feed = Search(tokens).stream().feed
            found[:] = [hit for piece in _pieces(path) for hit in feed(piece)]

        times = effort.pick(1, 1, 3)
        searching = seconds(search, times)
        if list(tokens)[-1] not in {hit.place for hit in found}:
            raise AssertionError("the token at the file's end was not found")
        reading = seconds(lambda path=path: sum(map(len, _pieces(path))), times)  # type: ignore[misc]
        target = 10.0 if size == 1 << 30 else None
        rows.append(
            Row(
                f"honeytokens, {size / 2**20:,.0f} MiB of {name}", searching, "s", f"reading it: {spread(reading, 's')}", target
            )
        )
        path.unlink()
    return rows


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _write(path: Path, line: bytes, size: int, token: str) -> None:
    with open(path, "wb") as file:
        for _ in range(size // len(line)):
            file.write(line)
        file.write(base64.b64encode(b"x" + token.encode()))


_rng = random.Random(1)
_record = b"".join(
    json.dumps(
        {
            "t": 1795326421831812460 + number,
            "kind": "http.call",
            "actor": "agent",
            "data": {
                "service": "orders-api",
                "path": f"/orders/{number}",
                "ms": _rng.random(),
                "request_body": secrets.token_urlsafe(600),
            },
        }
    ).encode()
    + b"\n"
    for number in range(1000)
)
_base64 = base64.b64encode(_rng.randbytes(3 << 18))

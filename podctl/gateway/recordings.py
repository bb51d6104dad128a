"""Recorded answers: one JSON file an answer, written once, so that a run repeats offline.

``<directory>/<digest[:2]>/<digest>/<occurrence>-<attempt>-<time>.json``. An attempt finds its own newest answer
first, then the newest that any attempt got for the same request, asked for the same time in a row.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from podctl.evidence.records import Tokens

_NAME = re.compile(r"^(\d+)-(.+)-(\d+)\.json$")


@dataclass(frozen=True)
class Recording:
    """An answer as it came, and what it cost. ``dollars`` and ``tokens`` None: it never became known."""

    status: int
    content_type: str
    headers: dict[str, str]
    chunks: tuple[bytes, ...]
    tokens: Tokens | None
    dollars: Decimal | None
    reserved_tokens: int
    reserved_dollars: Decimal
    price_source: str
    model: str
    path: str

    def to_json(self) -> dict[str, Any]:
        return {
            "recording": 1,
            "path": self.path,
            "model": self.model,
            "status": self.status,
            "content_type": self.content_type,
            "headers": self.headers,
            "tokens": None if self.tokens is None else self.tokens.to_json(),
            "dollars": None if self.dollars is None else str(self.dollars),
            "reserved": {"tokens": self.reserved_tokens, "dollars": str(self.reserved_dollars)},
            "price_source": self.price_source,
            "chunks": [base64.b64encode(chunk).decode("ascii") for chunk in self.chunks],
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Recording:
        return Recording(
            status=value["status"],
            content_type=value["content_type"],
            headers=value["headers"],
            chunks=tuple(base64.b64decode(chunk) for chunk in value["chunks"]),
            tokens=None if value["tokens"] is None else Tokens.from_json(value["tokens"]),
            dollars=None if value["dollars"] is None else Decimal(value["dollars"]),
            reserved_tokens=value["reserved"]["tokens"],
            reserved_dollars=Decimal(value["reserved"]["dollars"]),
            price_source=value["price_source"],
            model=value["model"],
            path=value["path"],
        )


class Recordings:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, digest: str, occurrence: int, attempt: str, recording: Recording) -> None:
        """After a kill there is the whole file or none. Raises OSError."""
        place = self._place(digest)
        place.mkdir(parents=True, exist_ok=True)
        name = f"{occurrence:04d}-{_safe(attempt)}-{time.time_ns()}.json"
        temporary = place / f".{name}.tmp"
        with open(temporary, "x") as out:
            json.dump(recording.to_json(), out)
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(place / name)

    def find(self, digest: str, occurrence: int, attempt: str) -> Recording | None:
        """None when nobody recorded it. Raises ValueError, KeyError or OSError for a damaged file."""
        place = self._place(digest)
        found = []
        for path in place.iterdir() if place.is_dir() else ():
            match = _NAME.match(path.name)
            if match is not None and int(match[1]) == occurrence:
                found.append((match[2] == _safe(attempt), int(match[3]), path))
        if not found:
            return None
        return Recording.from_json(json.loads(max(found)[2].read_bytes()))

    def _place(self, digest: str) -> Path:
        return self._directory / digest[:2] / digest


def _safe(attempt: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", attempt)[:100]

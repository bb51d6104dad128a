"""What an agent left of one attempt, looked through: files, listening sockets, rows, and what it sent to services and tools.

Nothing of it is executed, imported or opened by its name. What cannot be looked at is said (`Scan.unseen`), never passed over.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from podctl.backends.base import Exit
from podctl.evidence.log import parse_line, stream_path
from podctl.evidence.records import Record
from podctl.evidence.scanned import Scan, ScanFinding, scan_of
from podctl.scans.leavings import LeftFile, Listening
from podctl.scans.python import bandit, is_python, looks_like_python
from podctl.scans.secrets import keys_in
from podctl.scans.settings import LINES, lines_of, place_of

#: Characters of rows and bodies that are looked at, how many of them, and bytes of the gateway's stream that are read for them.
_TEXT, _TEXTS, _STREAM = 4 * 2**20, 5_000, 32 * 2**20
#: A shorter text can hold none of what is looked for.
_SHORTEST = 8
#: Kinds of records that have what an agent sent, as they stand in a line.
_SENT = (b'"http.call"', b'"tool.call"', b'"approval.proposed"')


@dataclass
class _Looking:
    own: tuple[str, ...]
    findings: list[ScanFinding] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    python: dict[str, bytes] = field(default_factory=dict)
    files: int = 0
    _left: int = _TEXT
    _texts: int = _TEXTS

    def file(self, file: LeftFile) -> None:
        if not file.regular:
            return  # a link or a pipe holds nothing
        self.files += 1
        self.findings += place_of(file.path, file.mode, file.content)
        if len(file.content) < file.size:
            self.unseen.append(f"{file.path}: only its first {len(file.content):,} bytes of {file.size:,}")
        if is_python(file.path, file.content):
            self.python[file.path] = file.content
        self._lines(file.content.decode("utf-8", "replace"), file.path)

    def text(self, text: str, where: str) -> None:
        if len(text) < _SHORTEST:
            return
        self._left -= len(text)
        self._texts -= 1
        if self._left < 0 or self._texts < 0:
            self.unseen.append("rows and bodies: more of them than are looked at")
            return
        self._lines(text, where)
        if looks_like_python(text):
            self.python.setdefault(where, text.encode("utf-8", "replace"))

    def _lines(self, text: str, where: str) -> None:
        self.findings += [*keys_in(text, where, self.own), *lines_of(text, where)]
        if (lines := len(text.splitlines())) > LINES:
            self.unseen.append(f"{where}: only its first {LINES:,} lines of {lines:,}")

    def sent(self, record: Record) -> None:
        data = record.data
        if record.kind == "http.call" and (body := data.get("request_body")):
            self._body(body, f"request to {data.get('service')}", data.get("request_bytes"))
        elif record.kind == "tool.call" and "server" in data:  # others are what it says of itself
            where = f"call of {data.get('server')}.{data.get('tool')}"
            if data.get("cut"):
                self.unseen.append(f"{where}: some of its arguments")
            for text in _texts(data.get("arguments")):
                self.text(text, where)
        elif record.kind == "approval.proposed":
            # What stands in a row is not the agent's.
            given = {
                name: value for name, value in data.get("arguments", {}).items() if data.get("kind") != "sql" or name != "row"
            }
            for text in _texts([given, data.get("body")]):
                self.text(text, f"proposal to {data.get('target')}")

    def _body(self, body: Mapping[str, Any], where: str, size: Any) -> None:
        """``body`` as `podctl.gateway.bounds.body_text` makes it; ``size``: bytes that were sent."""
        data = body["text"].encode() if "text" in body else base64.b64decode(body["base64"])
        if body.get("truncated"):
            self.unseen.append(f"{where}: only its first {len(data):,} bytes of {size:,}")
        text = data.decode("utf-8", "replace")
        self.text(text, where)
        try:
            read = json.loads(text)
        except (ValueError, RecursionError):
            return
        # What an escaped line break stands for begins a line only when it is read.
        for one in _texts(read):
            if "\n" in one:
                self.text(one, where)

    def socket(self, socket: Listening) -> None:
        address = ip_address(socket.address)
        where = f"tcp {f'[{address}]' if address.version == 6 else address}:{socket.port}"
        everybody = address.is_unspecified
        what = "listened to every network" if everybody else "listened for connections"
        self.findings.append(ScanFinding("port.open", "medium" if everybody else "low", where, what))


async def scan(
    exit_: Exit | None, given: Mapping[str, bytes], changes: Sequence[Mapping[str, Any]], directory: Path, own: tuple[str, ...]
) -> Scan:
    """``given``: files that the agent was given; ``changes``: the agent's row changes; ``own``: the attempt's key and passwords."""
    looking = _Looking(own)
    await asyncio.to_thread(_look, looking, exit_, given, changes, directory)
    found, missed = await bandit(looking.python)
    return scan_of([*looking.findings, *found], [*looking.unseen, *missed], looking.files)


def _look(
    looking: _Looking, exit_: Exit | None, given: Mapping[str, bytes], changes: Iterable[Mapping[str, Any]], directory: Path
) -> None:
    left = None if exit_ is None else exit_.leavings
    if left is None:
        looking.unseen.append("files: this backend does not hand out what an agent leaves")
    else:
        for file in left.files:
            if given.get(file.path) != file.content:
                looking.file(file)
        if left.more:
            looking.unseen.append(f"files: {left.more:,} more were not looked at")
    sockets = None if exit_ is None else exit_.recording.listening
    if sockets is None:
        looking.unseen.append("ports: nobody saw which the agent opened")
    for socket in sockets or ():
        looking.socket(socket)
    for change in changes:
        new, old = change.get("new") or {}, change.get("old") or {}
        for column, value in new.items():
            if isinstance(value, str) and value != old.get(column):
                looking.text(value, f"row of {change.get('database')}.{change.get('table')}, {column}")
    _look_at_what_was_sent(looking, directory)


def _look_at_what_was_sent(looking: _Looking, directory: Path) -> None:
    """At bodies, tools' arguments and proposals, as far as the gateway's records keep them."""
    path = stream_path(directory, "gateway")
    if not path.exists():
        return
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if stream.tell() > _STREAM:
                looking.unseen.append(f"bodies: none after the first {_STREAM:,} bytes of the gateway's records")
                return
            if any(kind in line for kind in _SENT):
                looking.sent(parse_line(line, path, number))


def _texts(value: Any) -> Iterator[str]:
    """Of a JSON value, however deep."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list):
            left += reversed(one.values() if isinstance(one, dict) else one)

"""Every statement of agent and services, read back from the server's JSON log."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: Statement text kept, in characters; the end is kept too, so that nothing hides behind a long comment.
TEXT_KEPT = 8192
_TAIL_KEPT = 2048
#: Statements kept of one reading; more are counted.
MAX_STATEMENTS = 20_000
#: A longer line of the log is skipped and counted.
MAX_LINE = 16 * 2**20
#: A log longer than this is emptied before the next attempt.
_EMPTIED = 2**20
_CHUNK = 2**20

# The text after the prefix is the client's and stays one string, whatever it holds. The name of a prepared statement
# is the client's too: one that could be mistaken for the separator is left in the text.
_DURATION = re.compile(
    r"duration: (?P<ms>\d+(?:\.\d+)?) ms  "
    r"(?P<phase>statement|parse|bind|execute|fastpath function call)(?: (?:fetch from )?(?P<name>[\w<>$./-]{1,128}))?: (?P<text>.*)",
    re.DOTALL,
)
_DURATION_ANY = re.compile(r"duration: (?P<ms>\d+(?:\.\d+)?) ms  (?P<phase>parse|bind|execute) (?P<text>.*)", re.DOTALL)
_PARAMETER = re.compile(r"\$\d+ = (NULL|'(?:[^']|'')*+'(?:\.\.\.)?)")
_DENIED = (
    re.compile(r"permission denied for (?P<target>.+)", re.DOTALL),
    re.compile(r"must be owner of (?P<target>.+)", re.DOTALL),
    re.compile(r"permission denied to set (?P<target>parameter .+)", re.DOTALL),
    re.compile(r"permission denied(?: to|:) (?P<target>.+)", re.DOTALL),
)
INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True)
class LoggedStatement:
    """``t`` is when it ended, nanoseconds since the epoch; ``data`` is ``sql.statement`` data; ``boundary`` is
    ``boundary.attempt`` data when the agent was refused for want of a privilege."""

    t: int
    data: dict[str, Any]
    boundary: dict[str, Any] | None = None


class StatementLog:
    """Reads a growing JSON log from where the last reading ended.

    Parse, bind and execute of one extended-protocol statement become one record whose ``ms`` is their sum.
    ``agents`` are the roles whose refusals are boundary attempts; sessions of ``ignored`` roles are left out.
    ``dropped`` counts statements that a reading left out because there were too many or they were too long.
    """

    def __init__(self, path: Path, agents: Collection[str] = (), ignored: Collection[str] = ()) -> None:
        self.agents = set(agents)
        self.dropped = 0
        self._path = path
        self._ignored = frozenset(ignored)
        self._offset = 0
        self._skipping = False
        self._unfinished: dict[int, float] = {}  # pid -> ms of parse and bind so far

    def size(self) -> int:
        """Bytes of the whole log."""
        return self._path.stat().st_size if self._path.exists() else 0

    def start_anew(self) -> None:
        """Forget what is in the log by now; a long one is emptied, which its writer, appending, does not mind."""
        if self.size() > _EMPTIED:
            os.truncate(self._path, 0)
        self._offset = self.size()
        self._unfinished.clear()
        self.dropped = 0

    def read(self, on_entry: Callable[[dict[str, Any]], None] | None = None) -> list[LoggedStatement]:
        """The statements logged since the last reading; ``on_entry`` sees every entry, ignored ones too."""
        statements: list[LoggedStatement] = []
        for line in self._lines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # not the server's: its JSON is well-formed
            if not isinstance(entry, dict):
                continue
            if on_entry is not None:
                on_entry(entry)
            statement = None if entry.get("user", "") in self._ignored else self._statement(entry)
            if statement is None:
                continue
            if len(statements) >= MAX_STATEMENTS and statement.boundary is None:
                self.dropped += 1
            else:
                statements.append(statement)
        return statements

    def _lines(self) -> Iterator[str]:
        """Whole lines only; the offset moves past what was given out."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as log:
            log.seek(self._offset)
            rest = b""
            while chunk := log.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._offset += len(line) + 1
                    if self._skipping:
                        self._skipping = False
                    else:
                        yield line.decode("utf-8", "replace")
                if len(rest) > MAX_LINE:
                    self._offset += len(rest)
                    rest = b""
                    if not self._skipping:
                        self.dropped += 1
                    self._skipping = True

    def _statement(self, entry: dict[str, Any]) -> LoggedStatement | None:
        pid, message = entry.get("pid", 0), str(entry.get("message", ""))
        severity = entry.get("error_severity")
        if severity == "LOG":
            # RAISE LOG in a function can word its message as it likes, but brings its context and statement along.
            if "context" in entry or "statement" in entry:
                return None
            return self._duration(entry, pid, message)
        if severity in ("ERROR", "FATAL"):
            ms = self._unfinished.pop(pid, None)
            sqlstate = str(entry.get("state_code", ""))
            data = self._data(entry, str(entry.get("statement", "")), [], ms, sqlstate, message)
            return LoggedStatement(_time_ns(entry), data, self._boundary(entry, sqlstate, message, data))
        return None

    def _duration(self, entry: dict[str, Any], pid: int, message: str) -> LoggedStatement | None:
        match = _DURATION.fullmatch(message) or _DURATION_ANY.fullmatch(message)
        if match is None:
            return None
        ms = float(match["ms"])
        if match["phase"] in ("parse", "bind"):
            before = self._unfinished.get(pid, 0.0) if match["phase"] == "bind" else 0.0
            self._unfinished[pid] = before + ms
            return None
        if match["phase"] == "execute":
            ms += self._unfinished.pop(pid, 0.0)
        parameters = _parameters(str(entry.get("detail", "")))
        return LoggedStatement(_time_ns(entry), self._data(entry, match["text"], parameters, ms, "", ""))

    def _data(
        self, entry: dict[str, Any], text: str, parameters: list[str | None], ms: float | None, sqlstate: str, error: str
    ) -> dict[str, Any]:
        return {
            "database": entry.get("dbname", ""),
            "user": entry.get("user", ""),
            "pid": entry.get("pid", 0),
            "statement": cut(text),
            "params": parameters,
            "ms": None if ms is None else round(ms, 3),
            "sqlstate": sqlstate,
            "error": cut(error),
        }

    def _boundary(self, entry: dict[str, Any], sqlstate: str, message: str, data: dict[str, Any]) -> dict[str, Any] | None:
        if sqlstate != INSUFFICIENT_PRIVILEGE or entry.get("user") not in self.agents:
            return None
        target = next((match["target"] for pattern in _DENIED if (match := pattern.fullmatch(message))), message)
        return {"via": "sql", "target": cut(target), "detail": data["statement"] or cut(message), "sqlstate": sqlstate}


def cut(text: str) -> str:
    """At most `TEXT_KEPT` characters: the beginning and the end."""
    if len(text) <= TEXT_KEPT:
        return text
    left_out = len(text) - TEXT_KEPT
    return f"{text[: TEXT_KEPT - _TAIL_KEPT]} … {left_out} characters left out … {text[-_TAIL_KEPT:]}"


def _parameters(detail: str) -> list[str | None]:
    # "Parameters: $1 = 'x', $2 = NULL"; lower case before PostgreSQL 16.
    if not detail.lower().startswith("parameters: "):
        return []
    values: list[str | None] = []
    for match in _PARAMETER.finditer(detail):
        if match[1] == "NULL":
            values.append(None)
        else:
            quoted = match[1].removesuffix("...")
            ellipsis = "…" if len(quoted) < len(match[1]) else ""
            values.append(quoted[1:-1].replace("''", "'") + ellipsis)
    return values


def _time_ns(entry: dict[str, Any]) -> int:
    # "2026-11-21 08:42:35.543 UTC"; log_timezone is UTC by our settings.
    try:
        moment = datetime.strptime(str(entry["timestamp"]).removesuffix(" UTC"), "%Y-%m-%d %H:%M:%S.%f")
    except (KeyError, ValueError):
        return 0
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000) * 1_000_000

"""Reading SQL text just far enough: where statements end, and where ``:name`` stands for a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<quoted>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*+' | '(?:[^']|'')*+' | "(?:[^"]|"")*+")
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<cast>::)
    | (?P<name>:[^\W\d]\w*)
    | (?P<psql>^\\[^\n]*)
    | (?P<open>\() | (?P<close>\)) | (?P<end>;) | (?P<other>\S)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_COPY_FROM_STDIN = re.compile(r"\bFROM\s+STDIN\b", re.IGNORECASE)
# pg_dump writes these since the 2025 minor releases; they mean nothing outside psql.
_HARMLESS = ("\\restrict", "\\unrestrict")


class SqlTextProblem(ValueError):
    """The text cannot be split; ``line`` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


@dataclass(frozen=True)
class Statement:
    """``line`` is where its first word stands; ``copy_data`` are the inline rows of a COPY … FROM STDIN."""

    line: int
    text: str
    copy_data: str | None = None


def _tokens(text: str, start: int = 0) -> Iterator[tuple[str, int, int]]:
    """(kind, from, to) of every token; comments are left out, a dollar-quoted body is one ``quoted`` token."""
    position = start
    while match := _TOKEN.search(text, position):
        kind, begin, position = str(match.lastgroup), match.start(), match.end()
        if kind == "comment":
            continue
        if kind == "block":
            position = _block_end(text, begin)
            continue
        if kind == "dollar":
            end = text.find(match[0], position)
            if end < 0:
                raise SqlTextProblem(_line(text, begin), f"{match[0]} is never closed")
            kind, position = "quoted", end + len(match[0])
        elif kind == "other" and match[0] in "'\"":
            raise SqlTextProblem(_line(text, begin), f"{match[0]} is never closed")
        yield kind, begin, position


def _block_end(text: str, begin: int) -> int:
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(text, begin):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    raise SqlTextProblem(_line(text, begin), "/* is never closed")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def split_statements(text: str) -> Iterator[Statement]:
    """The statements of a script, as psql would send them, pg_dump's inline COPY rows included.

    Raises `SqlTextProblem` for psql commands and for quotes or comments that are never closed.
    """
    text = text.lstrip("\ufeff").replace("\r\n", "\n")
    position, counted, lines = 0, 0, 1
    while position < len(text):
        start = None
        first, previous, parentheses, body, resume = "", "", 0, 0, len(text)
        end = len(text)
        for kind, begin, after in _tokens(text, position):
            if start is None:
                if kind == "psql":
                    command = text[begin:after]
                    if not command.startswith(_HARMLESS):
                        raise SqlTextProblem(_line(text, begin), f"{command.split()[0]} is a psql command, not SQL")
                    continue
                if kind == "end":
                    continue
                start = begin
                first = text[begin:after].lower()
            if kind == "word":
                word = text[begin:after].lower()
                # The body of a BEGIN ATOMIC function holds semicolons and ends with END, as CASE does.
                if body and word in ("case", "end"):
                    body += 1 if word == "case" else -1
                elif word == "atomic" and previous == "begin":
                    body = 1
                previous = word
            elif kind in ("open", "close"):
                parentheses += 1 if kind == "open" else -1
            elif kind == "end" and parentheses <= 0 and body == 0:
                end, resume = begin, after
                break
        if start is None:
            return
        lines += text.count("\n", counted, start)
        counted = start
        statement = text[start:end].rstrip()
        data = None
        if first == "copy" and _COPY_FROM_STDIN.search(statement):
            data, resume = _copy_rows(text, resume, lines)
        yield Statement(lines, statement, data)
        position = resume


def _copy_rows(text: str, position: int, line: int) -> tuple[str, int]:
    begin = text.find("\n", position) + 1
    match = re.compile(r"^\\\.$", re.MULTILINE).search(text, begin) if begin else None
    if match is None:
        raise SqlTextProblem(line, "the rows of COPY … FROM STDIN do not end with \\.")
    return text[begin : match.start()], match.end()


def bind_names(query: str, names: Collection[str]) -> str:
    """``:name`` → ``%(name)s`` for the given names, outside quotes and comments; every other ``%`` is escaped."""
    parts: list[str] = []
    done = 0
    for kind, begin, after in _tokens(query):
        if kind == "name" and query[begin + 1 : after] in names:
            parts += [query[done:begin].replace("%", "%%"), f"%({query[begin + 1 : after]})s"]
            done = after
    return "".join(parts) + query[done:].replace("%", "%%")

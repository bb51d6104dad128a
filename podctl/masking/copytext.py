"""PostgreSQL's COPY text format and array literals, exactly.

Source: https://www.postgresql.org/docs/current/sql-copy.html (File Formats, Text Format) and
https://www.postgresql.org/docs/current/arrays.html (Array Input and Output Syntax).
"""

from __future__ import annotations

import re
from collections.abc import Callable

#: A field that is null.
NULL = b"\\N"

_ESCAPED = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_TO_ESCAPE = re.compile(rb"[\\\b\f\n\r\t\v]")
_ESCAPES = {raw: b"\\" + letter for letter, raw in _LETTERS.items()} | {b"\\": b"\\\\"}


def unescape(field: bytes) -> bytes:
    """The value that a field other than `NULL` stands for. Raises ValueError for a backslash at the end."""
    if b"\\" not in field:
        return field
    if _ESCAPED.sub(b"", field).endswith(b"\\"):
        raise ValueError("a field ends within an escape")
    return _ESCAPED.sub(_unescaped, field)


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code in _LETTERS:
        return _LETTERS[code]
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit() and code[:1] < b"8":
        return bytes([int(code, 8) & 0xFF])
    return code


def escape(value: bytes) -> bytes:
    """The field that stands for a value, as PostgreSQL itself writes it."""
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0]], value)


_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^"\\{},]|\\.)+)', re.DOTALL)


def map_array(literal: str, change: Callable[[str], str | None]) -> str:
    """An array literal with each element that is not null changed; None makes it null. Bounds and nesting stay.

    Raises ValueError for what is no array literal.
    """
    start = literal.find("=") + 1 if literal.startswith("[") else 0
    parts = [literal[:start]]
    at, depth = start, 0
    while at < len(literal):
        character = literal[at]
        if character in "{},":
            depth += (character == "{") - (character == "}")
            parts.append(character)
            at += 1
            continue
        match = _ELEMENT.match(literal, at)
        if match is None or depth < 1:
            raise ValueError("not an array literal")
        quoted, plain = match[1], match[2]
        if quoted is None and plain.upper() == "NULL":
            parts.append(plain)
        else:
            parts.append(_quoted(change(re.sub(r"\\(.)", r"\1", quoted if quoted is not None else plain, flags=re.DOTALL))))
        at = match.end()
    if depth or start == len(literal):
        raise ValueError("not an array literal")
    return "".join(parts)


def _quoted(element: str | None) -> str:
    return "NULL" if element is None else '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'

"""Rows of a CSV, JSON, JSON Lines or Parquet file, each with its place; the file is hostile until read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from podctl.errors import SpecError
from podctl.spec.checks import SOURCES
from podctl.spec.problems import printable, shown
from podctl.strictjson import doubled

MAX_SOURCE = 256 << 20
MAX_DEPTH = 64


@dataclass(frozen=True)
class Row:
    """``number`` counts the data rows from 1; ``line`` is the line a CSV or JSON Lines row ends on, 0 for JSON."""

    number: int
    line: int
    values: dict[str, Any]


def read_rows(path: Path, *, repeated: bool = False) -> list[Row]:
    """Every row of a file, by its ending: one of `podctl.spec.checks.SOURCES`.

    ``repeated``: CSV columns of the same name are one column with a list of what is not empty.
    Raises `SpecError` with the place.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        from podctl.tickets.parquet import read_parquet

        _readable(path)
        rows = [Row(number, 0, values) for number, values in enumerate(read_parquet(path), start=1)]
    elif ending == ".csv":
        rows = list(_csv(_text(path), path, repeated))
    elif ending in (".jsonl", ".ndjson"):
        rows = list(_jsonl(_text(path), path))
    elif ending == ".json":
        rows = list(_json(_text(path), path))
    else:
        raise problem(path, "", f"expected a {', '.join(SOURCES[:-1])} or {SOURCES[-1]} file")
    if not rows:
        raise problem(path, "", "there are no tickets in it", "a source needs at least one row")
    return rows


def problem(path: Path, place: str, message: str, hint: str = "", code: str = "tickets-invalid") -> SpecError:
    """``file:place: message``."""
    name = printable(shown(path))
    return SpecError(f"{name}:{place}: {message}" if place else f"{name}: {message}", code=code, hint=hint)


def decode(text: str) -> Any:
    """A JSON value without NaN, numbers beyond 64 bits, repeated keys, NUL or deep nesting.

    Raises ValueError; its subclass `json.JSONDecodeError` has the place.
    """
    try:
        value = json.loads(text, parse_constant=_constant, parse_int=_int, parse_float=_float, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from None
    _shallow(value)
    return value


def _text(path: Path) -> str:
    try:
        _readable(path)
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise problem(path, "", f"cannot be read: {error.strerror}", code="tickets-not-found") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise problem(path, str(line), f"expected UTF-8 text, found the byte 0x{error.object[error.start]:02x}") from error


def _readable(path: Path) -> None:
    if not path.is_file():
        raise problem(path, "", "no such file", code="tickets-not-found")
    if path.stat().st_size > MAX_SOURCE:
        raise problem(path, "", f"larger than {MAX_SOURCE >> 20} MiB", "draw from it beforehand, or split it")


def _csv(text: str, path: Path, repeated: bool) -> Iterator[Row]:
    # The limit is the module's, not the reader's; a ticket's text may be longer than the 128 KiB it starts with.
    csv.field_size_limit(MAX_SOURCE)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0
    try:
        header = next(reader, [])
        lists = _header(header, path, repeated)
        for cells in reader:
            if not cells:
                continue
            number += 1
            place = f"row {number} (line {reader.line_num})"
            if len(cells) != len(header):
                raise problem(
                    path,
                    place,
                    f"expected {len(header)} columns as in the header, found {len(cells)}",
                    "put text with commas in quotes",
                )
            if any("\0" in cell for cell in cells):
                raise problem(path, place, "text holds a NUL character")
            values: dict[str, Any] = {name: [] for name in lists}
            for name, cell in zip(header, cells, strict=True):
                if name not in lists:
                    values[name] = cell
                elif cell:
                    values[name].append(cell)
            yield Row(number, reader.line_num, values)
    except csv.Error as error:
        raise problem(
            path,
            f"row {number + 1} (line {reader.line_num})",
            f"not valid CSV: {error}",
            'a " inside quoted text is written ""',
        ) from error


def _header(header: list[str], path: Path, repeated: bool) -> set[str]:
    """The columns that hold lists."""
    lists = set()
    if not header or not any(name.strip() for name in header):
        raise problem(path, "", "the file is empty", "the first line names the columns")
    for index, name in enumerate(header, start=1):
        if not name.strip():
            raise problem(path, "row 0 (line 1)", f"column {index} has no name")
        if name in header[: index - 1]:
            if not repeated:
                hint = "an export that repeats columns for lists: repeated: list"
                raise problem(path, "row 0 (line 1)", f"two columns have the name {printable(name, 60)!r}", hint)
            lists.add(name)
    return lists


def _json(text: str, path: Path) -> Iterator[Row]:
    if not text.strip():
        raise problem(path, "", "the file is empty", "a JSON source is a list of objects")
    try:
        value = decode(text)
    except json.JSONDecodeError as error:
        raise problem(path, f"{error.lineno}:{error.colno}", f"not valid JSON: {error.msg}") from error
    except ValueError as error:
        raise problem(path, "", f"not valid JSON: {error}") from error
    if isinstance(value, dict):
        lists = [entry for entry in value.values() if isinstance(entry, list)]
        if len(lists) != 1:
            raise problem(path, "", f"expected a list, or an object with one list; found an object with {len(lists)} lists")
        value = lists[0]
    if not isinstance(value, list):
        raise problem(path, "", "expected a list of objects, or an object with one list")
    for number, entry in enumerate(value, start=1):
        yield Row(number, 0, _row(entry, path, f"row {number}"))


def _jsonl(text: str, path: Path) -> Iterator[Row]:
    number = 0
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        number += 1
        place = f"row {number} (line {line})"
        try:
            value = decode(content)
        except ValueError as error:
            raise problem(path, place, f"not valid JSON: {error}") from error
        yield Row(number, line, _row(value, path, place))


def _row(value: Any, path: Path, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise problem(path, place, "expected an object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError(f"the key {printable(doubled(pairs), 60)!r} is given twice")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number JSON knows")


def _int(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= 2**64:
        raise ValueError(f"the number {text[:24]} is beyond 64 bits; put it in quotes")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:24]} is too large")
    return value


def _shallow(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(entry, str) and "\0" in entry for entry in level):
            raise ValueError("text holds a NUL character")
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, dict):
                below += [*entry.keys(), *entry.values()]
            elif isinstance(entry, list):
                below += entry
        if not below:
            return
        level = below
    raise ValueError(f"nested more than {MAX_DEPTH} deep")

"""Results as JSON and back, exactly.

Dataclasses become objects, tuples lists, enums their value and `Decimal` a string. Where a field may hold anything
(`Any`, the values of rows), what JSON has no word for is tagged: ``{"$": "decimal", "v": "1.50"}``.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import types
import typing
import uuid
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")
_Codec = Callable[[Any], Any]

#: A row's JSON value may be nested by an agent so deeply that walking it would end in a RecursionError.
_DEEPEST = 100

#: tag -> (type, write, read) for values inside `Any`.
_TAGGED: dict[str, tuple[type, _Codec, _Codec]] = {
    "decimal": (Decimal, str, Decimal),
    "bytes": (bytes, lambda value: value.hex(), bytes.fromhex),
    "datetime": (datetime.datetime, lambda value: value.isoformat(), datetime.datetime.fromisoformat),
    "date": (datetime.date, lambda value: value.isoformat(), datetime.date.fromisoformat),
    "time": (datetime.time, lambda value: value.isoformat(), datetime.time.fromisoformat),
    "uuid": (uuid.UUID, str, uuid.UUID),
}


def to_json(value: Any) -> Any:
    """A dataclass of `results` (or of anything built the same way) as values that `json.dumps` takes."""
    of: Any = type(value)
    return _pair(of)[0](value)


def from_json(cls: type[T], value: Any) -> T:
    """The dataclass that `to_json` wrote. Keys it does not know are skipped; missing ones get their default.

    Raises `ValueError`, `TypeError` or `KeyError` when ``value`` is of another shape.
    """
    of: Any = cls
    made = _pair(of)[1](value)
    assert isinstance(made, cls)
    return made


@functools.cache
def _pair(of: Any) -> tuple[_Codec, _Codec]:
    """(write, read) for a type annotation."""
    origin, arguments = typing.get_origin(of), typing.get_args(of)
    if dataclasses.is_dataclass(of):
        return _dataclass(typing.cast("type[Any]", of))
    if of is Any:
        return _free, _unfree
    if of is Decimal:
        return str, Decimal
    if isinstance(of, type) and issubclass(of, Enum):
        return (lambda value: value.value), of
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is dict:
        write, read = _pair(arguments[1])
        return (
            lambda value: {key: write(item) for key, item in value.items()},
            lambda value: {key: read(item) for key, item in value.items()},
        )
    return _same, _same


def _same(value: Any) -> Any:
    return value


def _optional(arguments: tuple[Any, ...]) -> tuple[_Codec, _Codec]:
    ((write, read),) = [_pair(argument) for argument in arguments if argument is not types.NoneType]
    return (
        lambda value: None if value is None else write(value),
        lambda value: None if value is None else read(value),
    )


def _tuple(arguments: tuple[Any, ...]) -> tuple[_Codec, _Codec]:
    if arguments[-1] is Ellipsis:
        write, read = _pair(arguments[0])
        return (lambda value: [write(item) for item in value]), (lambda value: tuple(read(item) for item in value))
    parts = [_pair(argument) for argument in arguments]
    return (
        lambda value: [write(item) for (write, _), item in zip(parts, value, strict=True)],
        lambda value: tuple(read(item) for (_, read), item in zip(parts, value, strict=True)),
    )


def _dataclass(of: type[Any]) -> tuple[_Codec, _Codec]:
    hints = typing.get_type_hints(of)
    fields = [(field.name, *_pair(hints[field.name])) for field in dataclasses.fields(of)]

    def write(value: Any) -> dict[str, Any]:
        return {name: encode(getattr(value, name)) for name, encode, _decode in fields}

    decoded = [(name, decode) for name, _encode, decode in fields if decode is not _same]
    known = frozenset(name for name, _encode, _decode in fields)

    def read(value: Any) -> Any:
        given = dict(value) if value.keys() <= known else {name: value[name] for name in known & value.keys()}
        for name, decode in decoded:
            if name in given:
                given[name] = decode(given[name])
        return of(**given)

    return write, read


def _free(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth > _DEEPEST:
        return "<nested too deeply>"
    if isinstance(value, dict):
        plain = {str(key): _free(item, depth + 1) for key, item in value.items()}
        return {"$": "object", "v": plain} if "$" in plain else plain
    if isinstance(value, list | tuple):
        return [_free(item, depth + 1) for item in value]
    for tag, (of, write, _read) in _TAGGED.items():
        if isinstance(value, of):
            return {"$": tag, "v": write(value)}
    return str(value)


def _unfree(value: Any) -> Any:
    if isinstance(value, list):
        return [_unfree(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get("$")
    if tag is None:
        return {key: _unfree(item) for key, item in value.items()}
    if tag == "object":
        return {key: _unfree(item) for key, item in value["v"].items()}
    return _TAGGED[tag][2](value["v"])

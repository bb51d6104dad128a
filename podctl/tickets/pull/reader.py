"""What every tracker's reader gives: pages, each with the place to go on from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from podctl.tickets.pull.client import PullFailed

#: Places and marks are JSON objects of a reader's own.
Place = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """``rows`` as the tracker has them; ``gone``: keys of tickets that are there no more, or are not asked for.

    ``place``: where to go on after this page, and None after the last. ``mark``: where the next pull begins, once this
    one is complete.
    """

    rows: list[dict[str, Any]]
    place: Place | None
    mark: Place
    gone: list[Any] = field(default_factory=list)


class Reader(Protocol):
    """Every ticket at least once, whatever changes meanwhile; what is given twice is newer the second time.

    ``key``: the column that tells tickets apart. ``incremental``: whether a mark is of use; ``resumable``: whether a place is.
    """

    key: str
    incremental: bool
    resumable: bool

    def pages(self, place: Place | None, mark: Place | None) -> AsyncIterator[Page]:
        """From ``place``; without one from ``mark``, and without a mark from the beginning. Raises `PullFailed`."""


def rows_of(value: Any, name: str | None, host: str) -> list[dict[str, Any]]:
    """The list of objects in an answer, under ``name`` or as the answer itself. Raises `PullFailed`."""
    found = value.get(name) if name is not None and isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        where = f"no list of objects as {name!r}" if name is not None else "no list of objects"
        raise PullFailed(f"the answer of {host} has {where}", code="pull-answer", hint="is the url that of the service itself?")
    return found


def text_at(row: dict[str, Any], name: str, host: str) -> str:
    """A text that a row must have. Raises `PullFailed`."""
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise PullFailed(f"a ticket of {host} has no {name}", code="pull-answer")
    return value

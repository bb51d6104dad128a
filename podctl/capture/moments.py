"""When tickets were opened and resolved. PURE."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from podctl.capture.named import at_path
from podctl.capture.resolutions import Moments
from podctl.errors import SpecError
from podctl.spec.history import History
from podctl.spec.problems import printable
from podctl.tickets.types import Ticket


def moments(tickets: Sequence[Ticket], spec: History) -> tuple[list[Moments], dict[str, str]]:
    """Of each ticket its moments; and those whose moments are not understood -> why.

    Raises `SpecError` when no ticket has a moment at a path, and for one without a zone when the file names none.
    """
    rules = spec.resolution
    found, unreadable = list[Moments](), dict[str, str]()
    for ticket in tickets:
        try:
            opened = _moment(ticket, spec.opened, spec.zone)
            resolved = _moment(ticket, rules.resolved, spec.zone) if rules else None
        except ValueError as error:
            unreadable[ticket.id] = str(error)
            continue
        if opened is None:
            unreadable[ticket.id] = f"nothing at {spec.opened}"
            continue
        named = frozenset(at_path(ticket, rules.transaction)) if rules and rules.transaction else None
        found.append(Moments(ticket.id, opened, resolved, named))
    if not found:
        raise SpecError(
            f"no ticket has a moment at {printable(spec.opened, 60)!r}, which history.opened names",
            code="capture-path",
            cause=printable(f"of the first, {next(iter(unreadable.values()))}", 300) if unreadable else "there are no tickets",
            unchanged="nothing was read",
            hint="moments are written as in ISO 8601: 2026-03-01T09:30:00Z",
        )
    return found, unreadable


def _moment(ticket: Ticket, path: str, zone: ZoneInfo | None) -> int | None:
    """Microseconds since the epoch. Raises ValueError for what is no moment, `SpecError` for one without a zone."""
    text = next(iter(at_path(ticket, path)), None)
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{printable(text, 40)!r} at {path} is no moment as in ISO 8601") from None
    if moment.tzinfo is None:
        if zone is None:
            raise SpecError(
                f"{printable(text, 40)!r} at {path} of ticket {printable(ticket.id, 40)} does not say its time zone",
                code="history-zone",
                cause="a moment without its zone may be hours off",
                unchanged="nothing was read",
                hint="say which one it is with history.timezone",
            )
        moment = moment.replace(tzinfo=zone)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1)

"""Tickets of Zendesk.

GET /api/v2/incremental/tickets/cursor (https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/): first with
``start_time``, then with ``cursor``; the answer has ``tickets``, ``after_cursor`` and ``end_of_stream``. The last cursor is where the next
export begins. Deleted tickets come with the status ``deleted``.

GET /api/v2/search/export (https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/#export-search-results): ``query``,
``filter[type]``, ``page[size]``, ``page[after]``; the answer has ``results`` and ``meta`` with ``has_more`` and ``after_cursor``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from podctl.spec.tickets import Zendesk
from podctl.tickets.pull.client import Client, PullFailed
from podctl.tickets.pull.reader import Page, Place, rows_of

_EXPORTED = 500
_SEARCHED = 100


class ZendeskReader:
    """Cursors are Zendesk's own: what changes meanwhile comes again behind."""

    key = "id"
    resumable = True

    def __init__(self, client: Client, spec: Zendesk) -> None:
        self._client = client
        self._query = spec.query
        self.incremental = spec.query is None

    async def pages(self, place: Place | None, mark: Place | None) -> AsyncIterator[Page]:
        at = place or mark or {}
        before = None
        while True:
            page = await (self._exported(at) if self._query is None else self._searched(at))
            yield page
            if page.place is None:
                return
            if page.place == before:
                raise PullFailed("Zendesk gives the same cursor again", code="pull-answer")
            at = before = page.place

    async def _exported(self, at: Place) -> Page:
        start = {"cursor": str(at["cursor"])} if "cursor" in at else {"start_time": "0"}
        answer = await self._client.get("api/v2/incremental/tickets/cursor.json", {"per_page": str(_EXPORTED), **start})
        rows = rows_of(answer.value, "tickets", "Zendesk")
        ended = answer.value.get("end_of_stream") is True
        cursor = answer.value.get("after_cursor")
        if not isinstance(cursor, str):
            if not ended:
                raise PullFailed("the answer of Zendesk has no after_cursor", code="pull-answer")
            cursor = at.get("cursor")
        next_place = {"cursor": cursor} if cursor is not None else {}
        return _sorted(rows, None if ended else next_place, next_place)

    async def _searched(self, at: Place) -> Page:
        parameters = {"query": self._query or "", "filter[type]": "ticket", "page[size]": str(_SEARCHED)}
        if "after" in at:
            parameters["page[after]"] = str(at["after"])
        answer = await self._client.get("api/v2/search/export.json", parameters)
        rows = rows_of(answer.value, "results", "Zendesk")
        meta: Any = answer.value.get("meta")
        if not isinstance(meta, dict) or not isinstance(meta.get("has_more"), bool):
            raise PullFailed("the answer of Zendesk has no meta.has_more", code="pull-answer")
        if meta["has_more"] and not isinstance(meta.get("after_cursor"), str):
            raise PullFailed("the answer of Zendesk has no meta.after_cursor", code="pull-answer")
        return _sorted(rows, {"after": meta["after_cursor"]} if meta["has_more"] else None, {})


def _sorted(rows: list[dict[str, Any]], place: Place | None, mark: Place) -> Page:
    there = [row for row in rows if row.get("status") != "deleted"]
    return Page(there, place, mark, [row.get("id") for row in rows if row.get("status") == "deleted"])

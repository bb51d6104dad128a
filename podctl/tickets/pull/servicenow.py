"""Rows of a ServiceNow table.

GET /api/now/table/NAME (https://docs.servicenow.com/bundle/geneva-servicenow-platform/page/integrate/inbound_rest/reference/r_TableAPI-GET.html):
``sysparm_query``, ``sysparm_limit``, ``sysparm_offset``, ``sysparm_fields``, ``sysparm_display_value``; the answer has ``result``, and a header
Link with rel="next" where there is more. Rows that the account may not see are taken out of a page after it was counted: a page with few
rows, or none, need not be the last.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from podctl.spec.tickets import ServiceNow
from podctl.tickets.pull.client import Answer, Client, PullFailed
from podctl.tickets.pull.reader import Page, Place, rows_of, text_at

_PAGE = 500
#: A time in a query may be taken in the account's time zone, 14 hours from UTC at most.
_ZONES = timedelta(hours=14)


class ServiceNowReader:
    """In the order of sys_id, which never changes, and on from the last one seen: nothing that comes, goes or changes moves the rest.

    ``sysparm_offset`` serves where a page has no row that may be seen.
    """

    key = "sys_id"
    incremental = True
    resumable = True

    def __init__(self, client: Client, spec: ServiceNow, overlap: float) -> None:
        self._client = client
        self._spec = spec
        self._overlap = overlap

    async def pages(self, place: Place | None, mark: Place | None) -> AsyncIterator[Page]:
        at: Place = place or {"since": self._since(mark), "last": "", "offset": 0}
        while True:
            answer = await self._page(at)
            rows = rows_of(answer.value, "result", "ServiceNow")
            begun = str(at.get("begun") or answer.now.isoformat())
            ids = [text_at(row, "sys_id", "ServiceNow") for row in rows]
            # Not by comparing them: how the instance's database sorts text is its own.
            if ids and (ids[0] == at.get("first") or at["last"] in ids):
                raise PullFailed(
                    "ServiceNow gives rows again that are behind",
                    code="pull-answer",
                    cause="it passes over parts of a query that it does not understand",
                    hint="check the query; glide.invalid_query.returns_no_rows tells",
                )
            following = next_offset(answer.headers)
            if not ids and following is not None and following <= at["offset"]:
                raise PullFailed("ServiceNow gives the same page again", code="pull-answer")
            last, offset = (ids[-1], 0) if ids else (at["last"], following)
            first = ids[0] if ids else at.get("first")
            at = {"since": at["since"], "first": first, "last": last, "offset": offset, "begun": begun}
            yield Page(rows, at if following is not None else None, {"begun": begun})
            if following is None:
                return

    async def _page(self, at: Place) -> Answer:
        conditions = [self._spec.query, at["since"], f"sys_id>{at['last']}" if at["last"] else "", "ORDERBYsys_id"]
        parameters = {
            "sysparm_query": "^".join(condition for condition in conditions if condition),
            "sysparm_limit": str(_PAGE),
            "sysparm_display_value": str(self._spec.display_values).lower(),
            "sysparm_exclude_reference_link": "true",
        }
        if at["offset"]:
            parameters["sysparm_offset"] = str(at["offset"])
        if self._spec.fields:
            parameters["sysparm_fields"] = ",".join(dict.fromkeys([*self._spec.fields, "sys_id", "sys_updated_on"]))
        return await self._client.get(f"api/now/table/{self._spec.table}", parameters)

    def _since(self, mark: Place | None) -> str:
        if mark is None:
            return ""
        moment = datetime.fromisoformat(str(mark["begun"])) - timedelta(seconds=self._overlap) - _ZONES
        return f"sys_updated_on>={moment:%Y-%m-%d %H:%M:%S}"


def next_offset(headers: Any) -> int | None:
    """The offset in a Link header's next link, and None when there is none; the link itself is not followed."""
    link = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', headers.get("Link", ""))
    if link is None:
        return None
    offset = re.search(r"[?&]sysparm_offset=(\d{1,12})(?:&|$)", link[1])
    if offset is None:
        raise PullFailed("the next link of ServiceNow has no sysparm_offset", code="pull-answer")
    return int(offset[1])

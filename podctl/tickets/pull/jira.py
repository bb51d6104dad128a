"""Issues that a JQL search finds.

Cloud: GET /rest/api/3/search/jql (https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/): ``jql``, ``fields``,
``maxResults``, ``nextPageToken``; the answer (SearchAndReconcileResults) has ``issues``, ``nextPageToken``, which is null on the last page and on no
other, and maybe ``isLast`` and ``warnings``. A page may have fewer issues than asked for, or none.

Server and Data Center: GET /rest/api/2/search (https://developer.atlassian.com/server/jira-servicedesk/rest/v1103/api-group-search/): ``startAt``, ``maxResults``; the answer has
``startAt``, ``maxResults``, ``total``, ``issues`` and maybe ``warningMessages``.

JQL takes times to the minute in the asking user's time zone, which ``myself`` says as ``timeZone``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from podctl.spec.problems import printable
from podctl.spec.tickets import Jira
from podctl.tickets.pull.client import Answer, Client, PullFailed
from podctl.tickets.pull.reader import Page, Place, rows_of

_PAGE = 100
#: Steps back after an issue went away under way, until the search counts as unsteady.
_STEPS_BACK = 50


class JiraReader:
    """In the order in which issues were created, which no change of theirs moves.

    The server's pages are counted, so that an issue which goes away moves all behind it: each page begins with the last issue
    of the one before, and where it does not, reading goes a page back.
    """

    key = "id"
    incremental = True
    resumable = True

    def __init__(self, client: Client, spec: Jira, overlap: float) -> None:
        self._client = client
        self._spec = spec
        self._overlap = overlap
        self._warned: set[str] = set()
        # The version stands in the path; nothing else differs between what both answer to `myself`.
        self._api = "rest/api/3" if spec.api == "cloud" else "rest/api/2"

    async def pages(self, place: Place | None, mark: Place | None) -> AsyncIterator[Page]:
        if place is None:
            answer = await self._myself()
            place = {"jql": self._jql(answer, mark), "begun": answer.now.isoformat()}
        after = {"begun": place["begun"]}
        async for rows, next_place in self._cloud(place) if self._spec.api == "cloud" else self._server(place):
            yield Page(rows, next_place, after)

    async def _cloud(self, place: Place) -> AsyncIterator[tuple[list[dict[str, Any]], Place | None]]:
        while True:
            token = {"nextPageToken": str(place["token"])} if "token" in place else {}
            answer = await self._search("search/jql", place, token)
            rows = rows_of(answer.value, "issues", "Jira")
            following = answer.value.get("nextPageToken")
            if answer.value.get("isLast") is True or following is None:
                if answer.value.get("isLast") is False:
                    raise PullFailed("the answer of Jira has no nextPageToken and is not the last", code="pull-answer")
                yield rows, None
                return
            if following == place.get("token"):
                raise PullFailed("Jira gives the same nextPageToken again", code="pull-answer")
            place = {**place, "token": following}
            yield rows, place

    async def _server(self, place: Place) -> AsyncIterator[tuple[list[dict[str, Any]], Place | None]]:
        start, last, back = int(place.get("start", 0)), place.get("last"), 0
        while True:
            answer = await self._search("search", place, {"startAt": str(start)})
            rows = rows_of(answer.value, "issues", "Jira")
            total = answer.value.get("total")
            if not isinstance(total, int):
                raise PullFailed("the answer of Jira has no total", code="pull-answer")
            if last is not None and (not rows or rows[0].get("id") != last) and start > 0:
                back += 1
                if back > _STEPS_BACK:
                    raise PullFailed("the search changes faster than it can be read", code="pull-unsteady")
                start, last = max(0, start - _PAGE), None
                continue
            if not rows or start + len(rows) >= total:
                yield rows, None
                return
            if len(rows) == 1 and last is not None:
                raise PullFailed("Jira gives a single issue a page", code="pull-answer")
            start, last = start + len(rows) - 1, rows[-1].get("id")
            yield rows, {**place, "start": start, "last": last}

    async def _search(self, path: str, place: Place, where: dict[str, str]) -> Answer:
        fields = self._spec.fields if "*all" in self._spec.fields else (*self._spec.fields, "created", "updated")
        parameters = {"jql": str(place["jql"]), "fields": ",".join(dict.fromkeys(fields)), "maxResults": str(_PAGE), **where}
        answer = await self._client.get(f"{self._api}/{path}", parameters)
        for warning in _warnings(answer.value) - self._warned:
            self._client.say(f"Jira warns: {warning}")
            self._warned.add(warning)
        return answer

    async def _myself(self) -> Answer:
        if self._spec.token_env is None:
            return await self._client.get(f"{self._api}/serverInfo", {})
        return await self._client.get(f"{self._api}/myself", {})

    def _jql(self, answer: Answer, mark: Place | None) -> str:
        searched = f"({self._spec.jql})"
        if mark is not None:
            searched += f' AND updated >= "{self._since(answer, mark)}"'
        return f"{searched} ORDER BY created ASC, key ASC"

    def _since(self, answer: Answer, mark: Place) -> str:
        moment = datetime.fromisoformat(str(mark["begun"])) - timedelta(seconds=self._overlap)
        said = answer.value.get("timeZone") if isinstance(answer.value, dict) else None
        try:
            zone = ZoneInfo(said) if isinstance(said, str) else None
        except (KeyError, ValueError, OSError):
            zone = None
        if zone is None:
            # Whoever asks without an account has a time zone that nobody says; the furthest behind is 12 hours.
            return (moment - timedelta(hours=12)).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        local = moment.astimezone(zone)
        earlier = (moment - timedelta(hours=2)).astimezone(zone)
        if local.utcoffset() != earlier.utcoffset():
            local = earlier  # the clocks were changed, and an hour of them may be meant twice
        return local.strftime("%Y-%m-%d %H:%M")


def _warnings(value: Any) -> set[str]:
    """Of a search that Jira answered in part, or understood otherwise; on lines that a terminal can have."""
    found = [value.get(name) for name in ("warnings", "warningMessages")] if isinstance(value, dict) else []
    entries = [entry for entry in found if isinstance(entry, list)]
    return {printable(entry if isinstance(entry, str) else json.dumps(entry)) for part in entries for entry in part[:5]}

"""Issues of a GitHub repository.

GET /repos/OWNER/NAME/issues (https://docs.github.com/en/rest/issues/issues#list-repository-issues): ``state``, ``since`` (updated at or
after), ``sort``, ``direction``, ``per_page`` (100 at most), ``page``. It lists pull requests too, which have a key ``pull_request``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from podctl.spec.tickets import GitHub
from podctl.tickets.pull.client import Client, PullFailed
from podctl.tickets.pull.reader import Page, Place, rows_of, text_at

_PAGE = 100
#: Looks at more issues of one second than a page has, the last of which must find nothing new.
_LOOKS = 6


class GitHubReader:
    """In the order of ``updated_at``, and on from the last one seen rather than by page numbers: an issue that changes meanwhile
    moves to the end and is seen again there, and none is passed over when others move.

    Always of every state: an issue that was closed must not stay open in a snapshot of open ones.
    """

    key = "number"
    incremental = True
    resumable = True

    def __init__(self, client: Client, spec: GitHub) -> None:
        self._client = client
        self._spec = spec
        self._host = f"GitHub ({spec.repository})"

    async def pages(self, place: Place | None, mark: Place | None) -> AsyncIterator[Page]:
        at = str((place or mark or {}).get("updated", ""))
        while True:
            rows = await self._page(at, 1)
            last, is_end = self._last(rows, at), len(rows) < _PAGE
            if last == at and not is_end:
                rows, last, is_end = await self._crowd(at)
            yield self._given(rows, None if is_end else {"updated": last}, last)
            if is_end:
                return
            at = last

    async def _crowd(self, at: str) -> tuple[list[dict[str, Any]], str, bool]:
        """More issues of one second than a page has, the last time seen, and whether nothing is behind them.

        Page numbers it is, and they shift when one of the issues moves away: so all are read until nothing new is found.
        """
        found: dict[Any, dict[str, Any]] = {}
        for _ in range(_LOOKS):
            before, number = len(found), 1
            while True:
                rows = await self._page(at, number)
                found |= {row.get("number"): row for row in rows}
                last = self._last(rows, at)
                if len(rows) < _PAGE or last > at:
                    break
                number += 1
            if len(found) == before:
                return list(found.values()), last, len(rows) < _PAGE
        raise PullFailed(f"{self._host} changes faster than it can be read", code="pull-unsteady")

    def _last(self, rows: list[dict[str, Any]], at: str) -> str:
        return max([at, *(text_at(row, "updated_at", self._host) for row in rows)])

    async def _page(self, at: str, number: int) -> list[dict[str, Any]]:
        parameters = {"state": "all", "sort": "updated", "direction": "asc", "per_page": str(_PAGE)}
        if at:
            # A second earlier: whether `since` includes its own second is not to matter.
            parameters["since"] = _written(_moment(at) - timedelta(seconds=1))
        if number > 1:
            parameters["page"] = str(number)
        answer = await self._client.get(f"repos/{self._spec.repository}/issues", parameters)
        return rows_of(answer.value, None, self._host)

    def _given(self, rows: list[dict[str, Any]], place: Place | None, last: str) -> Page:
        issues = [row for row in rows if "pull_request" not in row]
        wanted = [row for row in issues if self._is_wanted(row)]
        gone = [row.get("number") for row in issues if not self._is_wanted(row)]
        return Page(wanted, place, {"updated": last}, gone)

    def _is_wanted(self, row: dict[str, Any]) -> bool:
        labels = row.get("labels")
        entries = labels if isinstance(labels, list) else []
        # A label is an object with a name or, by GitHub's schema, its name alone.
        names = {entry.get("name") if isinstance(entry, dict) else entry for entry in entries}
        return self._spec.state in ("all", row.get("state")) and set(self._spec.labels) <= names


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise PullFailed("an issue's updated_at is no time", code="pull-answer") from error


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

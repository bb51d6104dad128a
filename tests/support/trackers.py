"""Issue trackers on loopback that speak the documented shapes of GitHub, Jira (cloud and server), Zendesk and ServiceNow.

What podctl's readers cite is what is built here: parameters, answers, headers, refusals, orders. Tickets may change between any two
requests (`between`), and any answer may be replaced (`instead`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web

TOKEN = "tok-3f9a"
USER = "ann@example.com"
ZONE = ZoneInfo("America/New_York")
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

Instead = Callable[[web.Request], web.StreamResponse | None]


@dataclass
class Item:
    """A ticket: ``number`` is its identity, times are whole seconds."""

    number: int
    title: str
    created: datetime
    updated: datetime
    state: str = "open"
    hidden: bool = False  # from this account, by an access rule
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Trackers:
    now: datetime = START
    items: dict[int, Item] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    #: Called before an answer is made, with how many were made before.
    between: Callable[[int], None] = lambda count: None
    instead: list[Instead] = field(default_factory=list)
    url: str = ""
    graveyard: dict[int, Item] = field(default_factory=dict)

    # ---- what people do ----

    def tick(self, seconds: int = 1) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def create(self, title: str = "", **more: Any) -> Item:
        number = max([0, *self.items, *self.graveyard]) + 1
        moment = self.tick()
        self.items[number] = Item(number, title or f"ticket {number}", moment, moment, **more)
        return self.items[number]

    def update(self, number: int, title: str | None = None, **more: Any) -> None:
        item = self.items[number]
        item.updated = self.tick()
        item.title = title or f"{item.title}'"
        for name, value in more.items():
            setattr(item, name, value)

    def delete(self, number: int) -> None:
        item = self.items.pop(number)
        item.updated = self.tick()
        self.graveyard[number] = item

    def there(self) -> dict[str, str]:
        """Identity -> title, as every snapshot should have it."""
        return {str(item.number): item.title for item in self.items.values() if not item.hidden}

    # ---- the server ----

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Trackers]:
        application = web.Application(middlewares=[self._around])
        application.router.add_get("/repos/{owner}/{name}/issues", self._github)
        application.router.add_get("/rest/api/{version}/{what:myself|serverInfo}", self._jira_myself)
        application.router.add_get("/rest/api/3/search/jql", self._jira_cloud)
        application.router.add_get("/rest/api/2/search", self._jira_server)
        application.router.add_get("/api/v2/incremental/tickets/cursor.json", self._zendesk)
        application.router.add_get("/api/v2/search/export.json", self._zendesk_search)
        application.router.add_get("/api/now/table/{table}", self._servicenow)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        try:
            self.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.query), dict(request.headers)))
        self.between(len(self.asked) - 1)
        replaced = self.instead.pop(0)(request) if self.instead else None
        answer: web.StreamResponse = replaced if replaced is not None else await handler(request)
        answer.headers.setdefault("Date", format_datetime(self.now, usegmt=True))
        return answer

    def _refused(self, request: web.Request, expected: str) -> web.Response | None:
        if request.headers.get("Authorization") == expected:
            return None
        body = {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
        return web.json_response(body, status=401)

    def _ordered(self, *names: str) -> list[Item]:
        return sorted(self.items.values(), key=lambda item: tuple(getattr(item, name) for name in names))

    async def _github(self, request: web.Request) -> web.Response:
        refused = self._refused(request, f"Bearer {TOKEN}")
        if refused is not None:
            return refused
        if request.match_info["name"] != "shop":
            return web.json_response({"message": "Not Found", "documentation_url": "…", "status": "404"}, status=404)
        query = request.query
        assert query["sort"] == "updated" and query["direction"] == "asc", "the order that podctl relies on"
        found = self._ordered("updated", "number")
        if query.get("state", "open") != "all":
            found = [item for item in found if item.state == query.get("state", "open")]
        if "since" in query:
            since = datetime.fromisoformat(query["since"])
            found = [item for item in found if item.updated >= since]
        size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
        assert 1 <= size <= 100
        answer = web.json_response([_issue(item) for item in found[(page - 1) * size : page * size]])
        if page * size < len(found):
            following = request.url.update_query(page=str(page + 1))
            answer.headers["Link"] = f'<{following}>; rel="next", <{request.url}>; rel="last"'
        return answer

    async def _jira_myself(self, request: web.Request) -> web.Response:
        if request.match_info["what"] == "serverInfo":
            return web.json_response({"baseUrl": self.url, "version": "10.3.1", "serverTime": self.now.isoformat()})
        refused = self._jira_refused(request)
        return refused or web.json_response({"accountId": "5b10", "displayName": "Ann", "timeZone": ZONE.key})

    def _jira_refused(self, request: web.Request) -> web.Response | None:
        basic = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        return self._refused(request, basic if "/api/3/" in request.path else f"Bearer {TOKEN}")

    def _jql(self, jql: str) -> list[Item] | web.Response:
        match = re.fullmatch(r'\((.+?)\)(?: AND updated >= "([-0-9 :]+)")? ORDER BY created ASC, key ASC', jql)
        if match is None or match[1] != "project = SHOP":
            said = f"Error in the JQL Query: {jql[:60]}"
            return web.json_response({"errorMessages": [said], "errors": {}}, status=400)
        found = self._ordered("created", "number")
        if match[2]:
            since = datetime.strptime(match[2], "%Y-%m-%d %H:%M").replace(tzinfo=ZONE)
            found = [item for item in found if item.updated >= since]
        return found

    async def _jira_cloud(self, request: web.Request) -> web.Response:
        found = self._jira_refused(request) or self._jql(request.query["jql"])
        if isinstance(found, web.Response):
            return found
        after = json.loads(base64.b64decode(request.query.get("nextPageToken", "MA==")))
        left = [item for item in found if item.number > after]  # numbers rise with their creation
        size = min(int(request.query.get("maxResults", 50)), 40)  # fewer than asked for, as the documentation allows
        page = left[:size]
        body: dict[str, Any] = {"issues": [_jira_issue(item) for item in page], "isLast": len(left) <= size}
        if len(left) > size:
            body["nextPageToken"] = base64.b64encode(json.dumps(page[-1].number).encode()).decode()
        return web.json_response(body)

    async def _jira_server(self, request: web.Request) -> web.Response:
        found = self._jira_refused(request) or self._jql(request.query["jql"])
        if isinstance(found, web.Response):
            return found
        start, size = int(request.query.get("startAt", 0)), min(int(request.query.get("maxResults", 50)), 50)
        page = [_jira_issue(item) for item in found[start : start + size]]
        body = {"expand": "schema,names", "startAt": start, "maxResults": size, "total": len(found), "issues": page}
        return web.json_response(body)

    async def _zendesk(self, request: web.Request) -> web.Response:
        basic = "Basic " + base64.b64encode(f"{USER}/token:{TOKEN}".encode()).decode()
        refused = self._refused(request, basic)
        if refused is not None:
            return refused
        found = sorted([*self.items.values(), *self.graveyard.values()], key=lambda item: (item.updated, item.number))
        if "cursor" in request.query:
            moment, number = json.loads(base64.b64decode(request.query["cursor"]))
            found = [item for item in found if (item.updated.timestamp(), item.number) > (moment, number)]
        else:
            start = float(request.query["start_time"])
            found = [item for item in found if item.updated.timestamp() >= start]
        size = min(int(request.query.get("per_page", 1000)), 60)
        page = found[:size]
        cursor = request.query.get("cursor")
        if page:
            cursor = base64.b64encode(json.dumps([page[-1].updated.timestamp(), page[-1].number]).encode()).decode()
        body = {
            "tickets": [_zendesk_ticket(item, self.graveyard) for item in page],
            "after_cursor": cursor,
            "after_url": f"{self.url}/api/v2/incremental/tickets/cursor.json?cursor={cursor}",
            "before_cursor": None,
            "before_url": None,
            "end_of_stream": len(found) <= size,
        }
        return web.json_response(body)

    async def _zendesk_search(self, request: web.Request) -> web.Response:
        assert request.query["filter[type]"] == "ticket" and "type:" not in request.query["query"]
        found = [item for item in self._ordered("created", "number") if request.query["query"] in item.title]
        after = json.loads(base64.b64decode(request.query.get("page[after]", "MA==")))
        left = [item for item in found if item.number > after]
        size = int(request.query["page[size]"])
        page = left[:size]
        more = len(left) > size
        cursor = base64.b64encode(json.dumps(page[-1].number).encode()).decode() if page else None
        body = {
            "results": [_zendesk_ticket(item, {}) for item in page],
            "facets": None,
            "links": {"prev": None, "next": f"{self.url}/api/v2/search/export.json?page[after]={cursor}" if more else None},
            "meta": {"has_more": more, "after_cursor": cursor, "before_cursor": None},
        }
        return web.json_response(body)

    async def _servicenow(self, request: web.Request) -> web.Response:
        basic = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        refused = self._refused(request, basic)
        if refused is not None:
            return refused
        found = sorted(self.items.values(), key=sys_id)
        ordered = False
        for part in request.query.get("sysparm_query", "").split("^"):
            if part.startswith("sys_id>"):
                found = [item for item in found if sys_id(item) > part.removeprefix("sys_id>")]
            elif part.startswith("sys_updated_on>="):
                # Taken in the time zone of the account, which is the worse of the two readings.
                since = datetime.fromisoformat(part.removeprefix("sys_updated_on>=")).replace(tzinfo=ZONE)
                found = [item for item in found if item.updated >= since]
            ordered = ordered or part == "ORDERBYsys_id"
        assert ordered, "without an order, pages of ServiceNow are of no use"
        offset, limit = int(request.query.get("sysparm_offset", 0)), min(int(request.query["sysparm_limit"]), 70)
        page = [item for item in found[offset : offset + limit] if not item.hidden]
        answer = web.json_response({"result": [_record(item) for item in page]})
        answer.headers["X-Total-Count"] = str(len(found))
        if offset + limit < len(found):
            following = request.url.update_query(sysparm_offset=str(offset + limit))
            answer.headers["Link"] = f'<{request.url}>;rel="first",<{following}>;rel="next",<{request.url}>;rel="last"'
        return answer


def _z(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _issue(item: Item) -> dict[str, Any]:
    return {
        "id": 10**9 + item.number,
        "number": item.number,
        "title": item.title,
        "body": None,
        "state": item.state,
        "labels": [{"id": 1, "name": "bug", "color": "f00"}],
        "user": {"login": "ann", "id": 1},
        "created_at": _z(item.created),
        "updated_at": _z(item.updated),
        **item.extra,
    }


def _jira_issue(item: Item) -> dict[str, Any]:
    moment = item.updated.strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    fields = {"summary": item.title, "updated": moment, "priority": {"name": "High"}, **item.extra}
    return {"id": str(item.number), "key": f"SHOP-{item.number}", "self": "https://example.com", "fields": fields}


def _zendesk_ticket(item: Item, dead: dict[int, Item]) -> dict[str, Any]:
    status = "deleted" if item.number in dead else item.state
    return {
        "id": item.number,
        "subject": item.title,
        "status": status,
        "tags": ["x"],
        "created_at": _z(item.created),
        "updated_at": _z(item.updated),
        "generated_timestamp": int(item.updated.timestamp()),
    }


def sys_id(item: Item) -> str:
    """Scattered, as real ones are, so that a new row may come before or behind any other."""
    return f"{item.number * 0x9E3779B97F4A7C15 % 2**64:016x}{item.number:016x}"


def _record(item: Item) -> dict[str, Any]:
    updated = item.updated.strftime("%Y-%m-%d %H:%M:%S")
    return {"sys_id": sys_id(item), "number": str(item.number), "short_description": item.title, "sys_updated_on": updated}

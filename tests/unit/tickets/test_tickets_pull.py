"""Pulling from trackers on loopback: nothing lost, nothing twice, whatever changes, breaks or lies meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trackers import TOKEN, USER, Trackers, sys_id

from podctl.errors import PodctlError
from podctl.spec.models import Tickets
from podctl.tickets.pull import client as pull_client
from podctl.tickets.pull.pull import pull
from podctl.tickets.pull.snapshot import Pulled
from podctl.tickets.sources import load_tickets

#: kind -> (what to ask, where a row has its identity, where its title)
KINDS: dict[str, tuple[dict[str, Any], str, Callable[[dict[str, Any]], str]]] = {
    "github": ({"github": {"repository": "acme/shop"}}, "number", lambda row: row["title"]),
    "jira-cloud": ({"jira": {"jql": "project = SHOP", "user": USER}}, "id", lambda row: row["fields"]["summary"]),
    "jira-server": ({"jira": {"jql": "project = SHOP", "api": "server"}}, "id", lambda row: row["fields"]["summary"]),
    "zendesk": ({"zendesk": {"user": USER}}, "id", lambda row: row["subject"]),
    "servicenow": ({"servicenow": {"user": USER}}, "number", lambda row: row["short_description"]),
}
ENVIRONMENT = dict.fromkeys(("GITHUB_TOKEN", "JIRA_TOKEN", "ZENDESK_TOKEN", "SERVICENOW_TOKEN"), TOKEN)


class Desk:
    """A directory to pull into; ``said`` and ``waited`` are what podctl told and slept."""

    def __init__(self, path: Path, kind: str, **changes: Any) -> None:
        self.path = path / "tickets.jsonl"
        self.kind = kind
        self.asked, self.identity, self.title = KINDS[kind]
        self.changes = changes
        self.said: list[str] = []
        self.waited: list[float] = []

    def spec(self, url: str) -> Tickets:
        ((name, asked),) = self.asked.items()
        own = {key: value for key, value in self.changes.items() if key not in ("overlap", "patience")}
        more = {key: value for key, value in self.changes.items() if key in ("overlap", "patience")}
        value = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": "t", "source": str(self.path)}
        return Tickets.model_validate({**value, "pull": {name: {"url": url, **asked, **own}, **more}})

    async def pull(self, trackers: Trackers, **more: Any) -> Pulled:
        async def pause(seconds: float) -> None:
            self.waited.append(seconds)

        given = {"environment": ENVIRONMENT, "pause": pause, "say": self.said.append, "base": self.path.parent, **more}
        return await pull(self.spec(trackers.url), **given)

    def rows(self) -> dict[str, str]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        found = {str(row[self.identity]): self.title(row) for row in lines}
        assert len(found) == len(lines), "a ticket is in the snapshot twice"
        return found

    def left(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


def pulled(path: Path, kind: str, script: Callable[[Trackers, Desk], Any], **changes: Any) -> Desk:
    async def run() -> Desk:
        desk = Desk(path, kind, **changes)
        async with Trackers().serving() as trackers:
            await script(trackers, desk)
        return desk

    return asyncio.run(run())


async def failed(desk: Desk, trackers: Trackers, **more: Any) -> str:
    with pytest.raises(PodctlError) as caught:
        await desk.pull(trackers, **more)
    return caught.value.render()


def filled(trackers: Trackers, count: int = 230) -> None:
    for _ in range(count):
        trackers.create()


@pytest.mark.parametrize("kind", KINDS)
def test_everything_then_what_changed_then_nothing(kind: str, tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers)
        trackers.tick(3600 * 48)
        first = await desk.pull(trackers)
        assert (first.tickets, first.new, first.changed, first.gone) == (230, 230, 0, 0)
        assert desk.rows() == trackers.there()
        trackers.tick(3600 * 48)
        before = len(trackers.asked)
        trackers.update(3)
        trackers.create("new one")
        second = await desk.pull(trackers)
        assert (second.tickets, second.new, second.changed, second.gone) == (231, 1, 1, 0)
        assert desk.rows() == trackers.there()
        assert len(trackers.asked) - before <= 2, "what did not change was asked for again"
        third = await desk.pull(trackers)
        assert (third.new, third.changed, third.gone, third.digest) == (0, 0, 0, second.digest)
        trackers.delete(7)
        whole = await desk.pull(trackers, full=True)
        assert (whole.tickets, whole.gone) == (230, 1)
        assert desk.rows() == trackers.there()
        assert desk.left() == ["tickets.jsonl", "tickets.jsonl.pull"]
        assert desk.path.stat().st_mode & 0o777 == 0o600

    pulled(tmp_path, kind, script)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_or_twice_while_tickets_change(kind: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Between any two requests tickets are made, changed and removed; the ones that stay are all there."""
    chance = random.Random(seed)

    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, chance.choice([0, 1, 99, 100, 101, 260]))
        steady = set(trackers.there())

        def change(_: int) -> None:
            for _ in range(chance.choice([0, 1, 3])):
                alive = sorted(trackers.items)
                what = chance.choice(["create", "update", "update", "delete"])
                if what == "create":
                    trackers.create()
                elif alive:
                    number = chance.choice([alive[0], chance.choice(alive)])
                    trackers.update(number) if what == "update" else trackers.delete(number)

        trackers.between = change
        await desk.pull(trackers)
        assert steady & set(trackers.there()) <= set(desk.rows())
        trackers.between = lambda count: None
        trackers.tick(600)
        await desk.pull(trackers)
        rows = desk.rows()
        assert {number: rows.get(number) for number in trackers.there()} == trackers.there()
        await desk.pull(trackers, full=True)
        assert desk.rows() == trackers.there()

    pulled(tmp_path_factory.mktemp(kind), kind, script)


def test_an_issue_that_moves_between_pages_is_read_once_as_it_is_now(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 250)

        def touch(count: int) -> None:
            if count == 1:  # page 1 is read; its issues go to the end, and those of page 2 move up
                for number in range(1, 51):
                    trackers.update(number, f"moved {number}")

        trackers.between = touch
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()

    pulled(tmp_path, "github", script)


def test_more_issues_of_one_second_than_a_page_has(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 20)
        moment = trackers.tick()
        for _ in range(330):
            item = trackers.create()
            item.created = item.updated = moment
        trackers.now = moment
        filled(trackers, 30)

        def touch(count: int) -> None:
            if count == 3:  # in the midst of the second: a hundred leave it, and the rest moves up
                for number in range(21, 121):
                    trackers.update(number)

        trackers.between = touch
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()

    pulled(tmp_path, "github", script)


def test_pull_requests_and_other_states_are_no_tickets(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 5)
        trackers.create(extra={"pull_request": {"url": "…"}})
        trackers.create(state="closed")
        trackers.create(extra={"labels": ["bug", "p1"]})
        trackers.create(extra={"labels": []})
        await desk.pull(trackers)
        assert set(desk.rows()) == {"1", "2", "3", "4", "5", "8"}
        trackers.update(2, state="closed")
        done = await desk.pull(trackers)
        assert (done.tickets, done.gone) == (5, 1)

    pulled(tmp_path, "github", script, state="open", labels=["bug"])


def test_zendesk_tells_of_deleted_tickets(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 130)
        await desk.pull(trackers)
        trackers.delete(5)
        done = await desk.pull(trackers)
        assert (done.tickets, done.gone) == (129, 1)
        assert desk.rows() == trackers.there()

    pulled(tmp_path, "zendesk", script)


def test_a_zendesk_search_is_made_anew_each_time(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        for number in range(230):
            trackers.create("refund" if number % 2 else "status")
        assert (await desk.pull(trackers)).tickets == 115
        trackers.update(2, "status")
        assert (await desk.pull(trackers)).gone == 1
        assert set(desk.rows().values()) == {"refund"}

    pulled(tmp_path, "zendesk", script, query="refund")


@pytest.mark.parametrize("shown", [(), (0,), (71, 300), (399,)])
def test_rows_that_servicenow_hides_do_not_end_the_table(shown: tuple[int, ...], tmp_path: Path) -> None:
    """Whole pages of rows that the account may not see, at the beginning, between and at the end."""

    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 400)
        for place, item in enumerate(sorted(trackers.items.values(), key=sys_id)):
            item.hidden = place not in shown
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()
        assert len(desk.rows()) == len(shown)

    pulled(tmp_path, "servicenow", script)


def test_servicenow_that_passes_over_a_condition_is_not_believed(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 200)

        def ignoring(request: web.Request) -> web.StreamResponse:
            return web.json_response(
                {"result": [{"sys_id": "a", "number": "1"}]}, headers={"Link": '<x?sysparm_offset=9>; rel="next"'}
            )

        trackers.instead = [ignoring, ignoring]
        assert "gives rows again that are behind" in await failed(desk, trackers)

    pulled(tmp_path, "servicenow", script)


def test_jira_asks_from_a_time_in_the_users_zone_an_hour_more_where_clocks_change(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        trackers.now = trackers.now.replace(month=11, day=1, hour=6, minute=30)  # 01:30 for the second time in New York
        filled(trackers, 3)
        await desk.pull(trackers)
        trackers.update(2)
        assert (await desk.pull(trackers)).changed == 1
        jql = trackers.asked[-1][1]["jql"]
        assert 'updated >= "2026-11-01 00:25"' in jql

    pulled(tmp_path, "jira-cloud", script)


@pytest.mark.parametrize("kind", ["jira-cloud", "jira-server"])
def test_what_jira_warns_of_is_said_once(kind: str, tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        issue = {"id": "1", "fields": {"summary": "one"}}
        warned = {"warnings": [{"code": "PARTIAL\x1b[2J"}], "warningMessages": ["The value 'X' does not exist"], "total": 1}
        empty = answering(200, {"issues": [], "nextPageToken": "t", **warned, "total": 3})
        trackers.instead = [lambda request: None, empty, answering(200, {"issues": [issue], "nextPageToken": None, **warned})]
        if kind == "jira-server":
            del trackers.instead[1]
        await desk.pull(trackers)
        assert desk.rows() == {"1": "one"}

    desk = pulled(tmp_path, kind, script)
    told = [said for said in desk.said if said.startswith("Jira warns: ")]
    assert sorted(told) == ["Jira warns: The value 'X' does not exist", 'Jira warns: {"code": "PARTIAL\\u001b[2J"}']


# ---- what servers do ----


def answering(status: int, body: Any = None, **headers: str) -> Callable[[web.Request], web.StreamResponse]:
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str) else json.dumps(body or {})
    return lambda request: web.Response(status=status, text=text, headers=renamed, content_type="application/json")


LIMITS = [
    (answering(429, {"message": "slow down"}, Retry_After="7"), 7),
    (answering(403, {"message": "secondary rate limit"}, Retry_After="11"), 11),
    (answering(403, {"message": "You have exceeded a secondary rate limit"}), 60),
    (answering(403, {"message": "API rate limit"}, X_RateLimit_Remaining="0", X_RateLimit_Reset="1772366443"), 40),
    (answering(429, {}, X_RateLimit_Reset="2026-03-01T12:01Z"), 57),
    (answering(429, {}, Retry_After="Sun, 01 Mar 2026 12:00:33 GMT"), 30),
    (answering(429), 60),
    (answering(503, {}, Retry_After="5"), 5),
    (answering(500, "<html>oops"), 1),
]


@pytest.mark.parametrize(("limit", "seconds"), LIMITS)
def test_it_waits_as_long_as_the_server_asks_and_says_so(limit: Any, seconds: float, tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 3)  # it is 12:00:03
        trackers.instead = [limit]
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()

    desk = pulled(tmp_path, "github", script)
    assert desk.waited == [seconds]
    assert [said for said in desk.said if f"waiting {seconds} s for 127.0.0.1" in said]


def test_a_wait_beyond_patience_stops_and_the_same_command_goes_on(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 300)
        trackers.instead = [lambda request: None, answering(429, {}, Retry_After="20"), answering(429, {}, Retry_After="20")]
        said = await failed(desk, trackers)
        assert "asks for a pause of 20 seconds; 10 of 30 are left" in said
        assert "the snapshot is as it was" in said
        assert not desk.path.exists()
        asked = len(trackers.asked)
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()
        assert len(trackers.asked) - asked < asked + 1, "the first page was asked for again"
        assert "since" in trackers.asked[asked][1]
        assert "going on with the pull that was interrupted" in desk.said

    pulled(tmp_path, "github", script, patience=30)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (answering(500), "failed 5 times: it answered 500"),
        (answering(200, '[{"number": 1, "upda'), "its answer is no whole JSON"),
        (answering(200, "[" * 100_000), "nested more than 64 deep"),
        (answering(200, "[" * 80 + "]" * 80), "nested more than 64 deep"),
        (answering(200, '{"issues": 3}'), "no list of objects"),
        (answering(200, "[1, 2]"), "no list of objects"),
        (answering(200, '[{"number": 1}]'), "has no updated_at"),
        (answering(200, '[{"updated_at": "2026-03-01T00:00:00Z"}]'), "a ticket has no number"),
        (answering(401, {"message": "Bad credentials\x1b[31m"}), "$GITHUB_TOKEN is expired, revoked or somebody else's"),
        (answering(403, {"message": "Resource not accessible by personal access token"}), "may not read this (403)"),
        (answering(404, {"message": "Not Found"}), "has no such thing, or may not see it (404)"),
        (answering(422, {"message": "Validation Failed", "errors": [{"message": "since is no time"}]}), "since is no time"),
        (answering(302, "", Location="https://evil.example/steal"), "redirects to evil.example"),
        (answering(302, "", Location="//evil.example/steal"), "redirects to evil.example"),
        (answering(302), "redirects to nowhere"),
        (answering(301, "", Location="/repos/acme/shop/issues"), "redirects to"),
    ],
)
def test_what_servers_do_wrong_is_told_and_the_snapshot_stays(broken: Any, said: str, tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 3)
        await desk.pull(trackers)
        before = desk.path.read_bytes()
        trackers.instead = [broken] * 8
        told = await failed(desk, trackers)
        assert said in told
        assert "the snapshot is as it was" in told
        assert all(c.isprintable() or c == "\n" for c in told)
        assert TOKEN not in told
        assert desk.path.read_bytes() == before
        trackers.instead = []
        trackers.create()
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()

    pulled(tmp_path, "github", script)


def test_a_redirect_within_the_host_is_followed(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 3)
        trackers.instead = [answering(301, "", Location="/repos/acme/shop/issues?state=all&sort=updated&direction=asc")]
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()

    pulled(tmp_path, "github", script)


def test_the_token_goes_to_no_other_host(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        async with Trackers().serving() as other:
            trackers.instead = [answering(307, "", Location=other.url.replace("127.0.0.1", "127.0.0.2"))]
            assert "the token was not sent there" in await failed(desk, trackers)
            trackers.instead = [answering(307, "", Location=other.url)]
            await failed(desk, trackers)
            assert other.asked == []

    pulled(tmp_path, "github", script)


def test_a_broken_connection_is_tried_again(tmp_path: Path) -> None:
    def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def half(request: web.Request) -> web.StreamResponse:
        answer = web.Response(text='[{"numb', headers={"Content-Length": "9000"})
        answer.force_close()
        return answer

    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 3)
        trackers.instead = [cut, cut, half]
        await desk.pull(trackers)
        assert desk.rows() == trackers.there()

    desk = pulled(tmp_path, "github", script)
    assert desk.waited[:2] == [1, 2]


def test_an_answer_without_end_is_cut(tmp_path: Path) -> None:
    async def run() -> None:
        desk = Desk(tmp_path, "github")
        trackers = Trackers()

        async def endless(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Encoding": "gzip"})
            await answer.prepare(request)
            packer = zlib.compressobj(wbits=31)
            for _ in range(200):
                await answer.write(packer.compress(b" " * (1 << 20)))
            return answer

        application = web.Application()
        application.router.add_get("/{rest:.*}", endless)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        trackers.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            assert f"sent more than {pull_client.MAX_ANSWER >> 20} MiB" in await failed(desk, trackers)
        finally:
            await runner.cleanup()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://tracker.example", "a token would be readable on the way"),
        ("http://127.0.0.1.example", "a token would be readable on the way"),
    ],
)
def test_a_token_is_not_sent_in_the_clear(url: str, said: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, "github")
    assert said in asyncio.run(failed(desk, Trackers(url=url)))


@pytest.mark.parametrize(("value", "said"), [(None, "GITHUB_TOKEN is not set"), ("a\r\nX: y", "what no token can have")])
def test_a_token_that_is_none_is_told_before_anything_is_sent(value: str | None, said: str, tmp_path: Path) -> None:
    environment = {} if value is None else {"GITHUB_TOKEN": value}
    assert said in asyncio.run(failed(Desk(tmp_path, "github"), Trackers(url="https://127.0.0.1:1"), environment=environment))


# ---- the snapshot ----


def test_rows_are_masked_before_anything_is_written_and_two_policies_never_mix(tmp_path: Path) -> None:
    def mask(row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "title": "masked"}

    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 150)
        trackers.instead = [lambda request: None, *[answering(500)] * 5]
        await failed(desk, trackers, mask=mask, masked_by="policy 1")
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"masked" in kept
        assert b"ticket 1" not in kept
        await desk.pull(trackers, mask=mask, masked_by="policy 1")
        assert b"ticket" not in desk.path.read_bytes()
        assert "was pulled from elsewhere, or otherwise" in await failed(desk, trackers, mask=mask, masked_by="policy 2")
        assert (await desk.pull(trackers, mask=mask, masked_by="policy 2", full=True)).changed == 0

    pulled(tmp_path, "github", script)


def test_a_snapshot_that_somebody_changed_is_not_built_upon(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 3)
        for other in ('{"number": 1}\n', "id,text\n", '{"id": 1}\n'):
            desk.path.write_text(other)
            assert "no pull wrote it" in await failed(desk, trackers)
            assert desk.path.read_text() == other
        await desk.pull(trackers, full=True)
        desk.path.write_bytes(desk.path.read_bytes().replace(b"ticket 1", b"ticket X"))
        assert "is not what was pulled" in await failed(desk, trackers)
        assert b"ticket X" in desk.path.read_bytes()
        await desk.pull(trackers, full=True)
        assert desk.rows() == trackers.there()
        desk.changes["state"] = "open"
        assert "was pulled from elsewhere" in await failed(desk, trackers)
        (tmp_path / "tickets.jsonl.pull").write_text("{")
        assert "cannot be read" in await failed(desk, trackers)

    pulled(tmp_path, "github", script)


def test_two_pulls_at_once_do_not_meet(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        filled(trackers, 150)
        told: list[str] = []

        async def other(seconds: float) -> None:
            told.append(await failed(Desk(tmp_path, "github"), trackers))

        trackers.instead = [answering(429)]
        await desk.pull(trackers, pause=other)
        assert "another pull of" in told[0]
        assert desk.rows() == trackers.there()

    pulled(tmp_path, "github", script)


def test_hostile_text_is_kept_and_loads(tmp_path: Path) -> None:
    async def script(trackers: Trackers, desk: Desk) -> None:
        huge = "9" * 400
        hostile = f'[{{"number": 1, "updated_at": "2026-03-01T00:00:00Z", "title": "\\u0000\\ud800\\u001b[2J", "n": {huge}, "x": NaN}}]'
        trackers.instead = [answering(200, hostile)]
        await desk.pull(trackers)
        spec = desk.spec(trackers.url).model_copy(
            update={"fields": Tickets.model_fields["fields"].default.model_copy(update={"id": "number"})}
        )
        (ticket,) = load_tickets(spec)
        assert ticket.fields["title"] == "\ufffd\ud800\x1b[2J"
        assert ticket.fields["n"] == huge
        assert ticket.fields["x"] is None

    pulled(tmp_path, "github", script)

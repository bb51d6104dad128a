"""TestRuns over the memory backend and a cluster in memory: each is brought to its end, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from project import make_project, ticket

from podctl.backends.base import Backend
from podctl.backends.memory import Call, MemoryBackend
from podctl.clock import ManualClock, SystemClock
from podctl.controller.memory import MemoryApi
from podctl.controller.testrun import Standing, TestRun, status_of
from podctl.controller.testruns import Rules, TestRuns
from podctl.errors import EnvironmentProblem
from podctl.evidence.owner import Owner
from podctl.evidence.schema import runs
from podctl.evidence.store import RunLost, Store
from podctl.evidence.store_rows import dump
from podctl.spec.bundle import Bundle

SEED = {"main-db": {"items": {1: {"id": 1, "label": "item 1"}}}}
TICKETS = 4


class World:
    """A cluster's objects, a store, and what agents made: all that outlives a controller."""

    def __init__(self, root: Path, **scenario: Any) -> None:
        self.api = MemoryApi()
        self.root = root
        tickets = [ticket(f"t{number}") for number in range(TICKETS)]
        # Four tickets show little of a rate; that each has to pass is a count.
        scenario = {"gate": {"pass_rate": 1.0}, **(scenario or {})}
        make_project(root / "sources/project", agent="", tickets=tickets, command=["work"], scenario=scenario)
        self.store = Store.open(root / "store", SystemClock())
        self.made: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.backends: list[MemoryBackend] = []
        self.broken = 0  # times that no backend can be opened
        self.buggy = ""  # the TestRun that podctl has a bug for
        self.serving: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(0))
        self.pause_after = 0  # attempts; then agents wait for `hold`

    def add(self, name: str = "one", **spec: Any) -> None:
        self.api.bodies[name] = {
            "metadata": {
                "name": name,
                "uid": f"{len(self.api.bodies):08}-uid",
                "generation": 1,
                "creationTimestamp": f"2026-01-01T00:00:{len(self.api.bodies):02}Z",
            },
            "spec": {"scenario": "scenario.yaml", "source": {"directory": "project"}, **spec},
        }

    def status(self, name: str = "one") -> dict[str, Any]:
        status: dict[str, Any] = self.api.bodies[name].get("status", {})
        return status

    def condition(self, kind: str, name: str = "one") -> tuple[str, str]:
        found = next(one for one in self.status(name)["conditions"] if one["type"] == kind)
        return found["status"], found["reason"]

    async def _work(self, call: Call) -> int:
        await self.hold.wait()
        self.made.append(json.loads(call.files["ticket.json"])["id"])
        if len(self.made) == self.pause_after:
            self.hold.clear()
        call.files["result.json"] = b'{"status": "done"}'
        return 0

    async def open_backend(self, run: TestRun, bundle: Bundle) -> Backend:
        if run.name == self.buggy:
            raise TypeError("somebody's mistake")
        if self.broken:
            self.broken -= 1
            raise EnvironmentProblem("no cluster today", code="cluster-unreachable")
        self.backends.append(MemoryBackend({"work": self._work}, SEED, isolates=True))
        return self.backends[-1]

    @asynccontextmanager
    async def controller(self, most_pods: int = 4, **rules: Any) -> AsyncIterator[TestRuns]:
        allowed = Rules(most_pods, sources=self.root / "sources", **rules)
        made = TestRuns(self.api, self.store, self.open_backend, allowed, self.root / "state", SystemClock())
        serving = self.serving = asyncio.create_task(made.serve())
        try:
            yield made
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.02)

    async def ended(self, *names: str) -> None:
        await self.until(lambda: all(self.status(name).get("state") in ("Finished", "Refused") for name in names or ("one",)))


def test_a_testrun_is_brought_to_its_end_and_says_how_it_stands(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.add()
        async with world.controller():
            await world.ended()
        status = world.status()
        assert (status["verdict"], status["attempts"]) == ("pass", {"planned": TICKETS, "done": TICKETS, "passed": TICKETS})
        assert world.condition("Finished") == ("True", "Passed")
        assert world.condition("Accepted") == ("True", "Admitted")
        assert world.condition("Running") == ("False", "Finished")
        assert status["observedGeneration"] == 1
        assert status["run"] == "20260101-000000-00000000" and world.store.load_run(status["run"]).verdict == "pass"
        assert next(state["state"] for _, state in world.api.statuses) == "Running"
        assert ("one", "Finished") in {(name, reason) for name, reason, _ in world.api.told}
        assert await world.backends[0].list() == []

    asyncio.run(look())


def test_another_controller_goes_on_and_makes_nothing_twice(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path, run={"pods": 1})
        world.add()
        world.pause_after = 2
        async with world.controller():
            await world.until(lambda: world.status().get("attempts", {}).get("done") == 2)
        assert world.status()["state"] == "Running", "an ending controller says no verdict"
        world.hold.set()
        async with world.controller():
            await world.ended()
        assert sorted(world.made) == sorted(set(world.made)) and len(world.made) == TICKETS
        assert world.status()["attempts"]["passed"] == TICKETS
        # And a third finds nothing to do.
        before = list(world.api.statuses)
        async with world.controller():
            await asyncio.sleep(0.3)
        assert world.api.statuses == before and len(world.made) == TICKETS

    asyncio.run(look())


def test_a_finished_run_whose_end_was_not_told_is_told_not_made_again(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.add()
        async with world.controller():
            await world.ended()
        world.api.bodies["one"]["status"] = {**world.status(), "state": "Running", "verdict": ""}
        async with world.controller():
            await world.ended()
        assert len(world.made) == TICKETS and world.status()["verdict"] == "pass"

    asyncio.run(look())


def test_they_wait_for_room_in_the_order_of_their_making(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        for name in ("first", "second", "third"):
            world.add(name, pods=2)
        world.hold.clear()
        async with world.controller(most_pods=3):
            await world.until(lambda: world.status("third").get("state") == "Queued")
            await world.until(lambda: world.status("first").get("state") == "Running")
            assert world.status("second")["message"] == "waits for its turn: it needs 2 test pods, and 1 of 3 are free"
            assert world.status("third")["message"] == "waits for its turn: 1 ahead of it"
            assert len(world.backends) == 1
            world.hold.set()
            await world.ended("first", "second", "third")
        assert [world.status(name)["verdict"] for name in ("first", "second", "third")] == ["pass"] * 3
        begun = [name for name, status in world.api.statuses if status["state"] == "Running"]
        assert list(dict.fromkeys(begun)) == ["first", "second", "third"]

    asyncio.run(look())


def test_a_deleted_one_ends_and_is_forgotten(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.add()
        world.hold.clear()
        async with world.controller() as controller:
            await world.until(lambda: bool(world.backends) and bool(world.status().get("pods") or world.backends[0]))
            await world.until(lambda: world.status().get("state") == "Running")
            uid = world.api.bodies.pop("one")["metadata"]["uid"]
            controller.gone(uid)
            await world.until(lambda: not controller._known)
        assert await world.backends[0].list() == [] and world.made == []
        assert world.store.list_runs()[0].status == "interrupted"

    asyncio.run(look())


def test_a_deletion_that_no_watch_told_is_seen(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.add()
        world.hold.clear()
        async with world.controller(resync_s=0.1) as controller:
            await world.until(lambda: world.status().get("state") == "Running")
            del world.api.bodies["one"]
            await world.until(lambda: not controller._known)

    asyncio.run(look())


def test_its_time_after_the_end_runs_out(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.add(ttlSecondsAfterFinished=1)
        world.add("kept")
        async with world.controller():
            await world.until(lambda: "one" not in world.api.bodies)
            await world.ended("kept")
        assert world.store.list_runs(), "its evidence stays"

    asyncio.run(look())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"scenario": "absent.yaml"}, "absent.yaml"),
        ({"scenario": "../../../etc/passwd"}, "lies outside of what this run may read"),
        ({"source": {"directory": "../.."}}, "has no source '../..'"),
        ({"source": {"configMaps": ["nowhere"]}}, "no ConfigMap nowhere"),
        ({"pods": 40}, "asks for 40 test pods at once, and this cluster allows 4"),
        ({"baseline": "never-made"}, "never-made"),
    ],
)
def test_what_only_its_author_can_mend_is_refused_once(tmp_path: Path, spec: dict[str, Any], said: str) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.add(**spec)
        async with world.controller():
            await world.ended()
        assert world.status()["state"] == "Refused" and said in world.status()["message"]
        assert world.condition("Accepted") == ("False", "Refused") and world.condition("Finished") == ("True", "Refused")
        assert world.made == []

    asyncio.run(look())


def test_a_link_or_a_named_file_that_leads_out_is_not_read(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        secret = tmp_path / "secret.yaml"
        secret.write_text("token: of-the-controller\n")
        (tmp_path / "sources/project/link.yaml").symlink_to(secret)
        scenario = (tmp_path / "sources/project/scenario.yaml").read_text()
        for name, path in (("through-a-link", "link.yaml"), ("outright", str(secret))):
            changed = tmp_path / f"sources/project/{name}.yaml"
            changed.write_text(
                "\n".join(f"topology: {path}" if line.startswith("topology:") else line for line in scenario.split("\n"))
            )
            world.add(name, scenario=f"{name}.yaml")
        async with world.controller():
            await world.ended("through-a-link", "outright")
        for name in ("through-a-link", "outright"):
            assert "lies outside" in world.status(name)["message"] and "of-the-controller" not in str(world.status(name))

    asyncio.run(look())


def test_model_servers_are_the_administrators_choice(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path, model={"mode": "live", "openai_url": "http://mine.example/v1", "openai_key_env": "ANY"})
        world.add()
        async with world.controller():
            await world.ended()
        assert "may not send model calls to http://mine.example/v1 here" in world.status()["message"]
        del world.api.bodies["one"]["status"]
        async with world.controller(upstreams=("http://mine.example/v1/",)):
            await world.ended()
        assert world.status()["verdict"] == "pass"

    asyncio.run(look())


def test_what_its_environment_fails_is_begun_again_and_given_up_in_the_end(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.broken = 2
        world.add("mends")
        async with world.controller(retry_s=(0.05, 0.05, 0.05)):
            await world.ended("mends")
        assert (world.status("mends")["verdict"], world.status("mends")["failures"]) == ("pass", 2)
        assert [reason for name, reason, _ in world.api.told] == ["EnvironmentFailed", "EnvironmentFailed", "Finished"]
        world.broken = 99
        world.add("never")
        async with world.controller(retry_s=(0.05, 0.05, 0.05)):
            await world.ended("never")
        assert world.status("never")["verdict"] == "inconclusive"
        assert "given up after 4 failures of its environment: no cluster today" in world.status("never")["message"]

    asyncio.run(look())


def test_a_bug_that_one_of_them_meets_is_not_the_others(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.buggy = "meets-it"
        world.add("meets-it", pods=4)
        world.add("other", pods=4)
        async with world.controller(retry_s=(0.05,)):
            await world.ended("meets-it", "other")
        assert "podctl has a bug [bug]; the controller's log has the traceback" in world.status("meets-it")["message"]
        assert world.status("other")["verdict"] == "pass"

    asyncio.run(look())


def test_a_cluster_that_does_not_listen_for_a_while_is_told_later(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path)
        world.add()
        body = world.api.bodies["one"]
        async with world.controller() as controller:
            await asyncio.sleep(0.1)
            world.api.away = True
            controller.seen(body)
            await world.until(lambda: len(world.made) == TICKETS)
            world.api.away = False
            await world.ended()
        assert world.status()["verdict"] == "pass"

    asyncio.run(look())


def test_who_lost_the_run_stops_and_touches_nothing(tmp_path: Path) -> None:
    async def look() -> None:
        world = World(tmp_path, run={"pods": 1})
        world.add()
        world.hold.clear()
        async with world.controller():
            await world.until(lambda: bool(world.store.tries("20260101-000000-00000000")))
            lost = replace(Owner.current(), pid=1, start="1", host="another")
            with world.store._database.writing() as connection:
                connection.execute(runs.update().values(owner=dump(lost)))
            world.hold.set()
            with pytest.raises(RunLost):
                await world.serving
        assert world.status()["state"] == "Running"
        # The attempt that was under way ended, and was refused by the store; no other was begun.
        assert len(world.made) == 1

    asyncio.run(look())


def test_a_condition_keeps_its_time_while_its_status_does() -> None:
    body = {
        "metadata": {"name": "n", "uid": "u", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"scenario": "s", "source": {"directory": "d"}},
    }
    run = TestRun.of(body)
    clock = ManualClock()
    first = status_of(run, Standing("Running", planned=3), 100.0)
    second = status_of(replace(run, status=first), Standing("Running", "more", planned=3, done=1), 200.0)
    third = status_of(replace(run, status=second), Standing("Finished", verdict="fail", planned=3, done=3), 300.0)
    times = [{one["type"]: one["lastTransitionTime"] for one in status["conditions"]} for status in (first, second, third)]
    assert times[0] == times[1]
    assert (
        times[2]["Accepted"] == times[0]["Accepted"] and times[2]["Finished"] == "1970-01-01T00:05:00Z" != times[0]["Finished"]
    )
    assert (third["startedAt"], third["finishedAt"]) == ("1970-01-01T00:01:40Z", "1970-01-01T00:05:00Z")
    assert {one["observedGeneration"] for one in third["conditions"]} == {3}
    del clock

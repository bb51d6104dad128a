"""One watch for many namespaces: what it does when a server forgets, ends it or refuses, which a real one cannot be told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.backends.kubernetes.watching import Streams, Watched

Object = dict[str, Any]


def pod(namespace: str, name: str, version: int) -> Object:
    return {"metadata": {"namespace": namespace, "name": name, "resourceVersion": str(version), "labels": {}}, "status": {}}


class Server:
    """Answers as an API server does: ``lists`` one after the other, each followed by one of ``watches``."""

    def __init__(self, lists: list[list[Object]], watches: list[list[Object]], then: int = 200) -> None:
        self.asked: list[dict[str, str]] = []
        self._lists, self._watches, self._then = lists, watches, then

    @asynccontextmanager
    async def cluster(self) -> AsyncIterator[Cluster]:
        application = web.Application()
        application.router.add_get("/api/v1/pods", self._pods)
        application.router.add_get("/api/v1/events", self._events)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        cluster = Cluster(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}"))
        try:
            yield cluster
        finally:
            await cluster.close()
            await runner.cleanup()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._watch(request, None) if "watch" in request.query else self._page([])

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        if "watch" in request.query:
            return await self._watch(request, self._watches.pop(0) if self._watches else None)
        if not self._lists:
            return web.json_response({"message": "no"}, status=self._then)
        return self._page(self._lists.pop(0))

    def _page(self, items: list[Object]) -> web.Response:
        return web.json_response({"metadata": {"resourceVersion": "10"}, "items": items})

    async def _watch(self, request: web.Request, events: list[Object] | None) -> web.StreamResponse:
        """Ends after its events; one without any stays open."""
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events or []:
            await response.write(json.dumps(event).encode() + b"\n")
        if events is None:
            await asyncio.sleep(30)
        return response


async def two(cluster: Cluster) -> tuple[Streams, Watched, Watched]:
    streams = Streams(cluster, run="r1")
    both = Watched(cluster, "one", streams), Watched(cluster, "two", streams)
    for watched in both:
        await watched.start()
    await streams.start()
    return streams, *both


async def until(watched: Watched, *names: str) -> None:
    await watched.until("x", lambda pods: set(pods) == set(names), "\0", 5)


def test_each_namespace_hears_of_its_own_pods_and_of_no_others() -> None:
    async def go() -> None:
        added = [{"type": "ADDED", "object": pod(*where, 11)} for where in (("one", "b"), ("two", "c"), ("theirs", "d"))]
        gone = {"type": "DELETED", "object": pod("one", "a", 12)}
        server = Server([[pod("one", "a", 1), pod("theirs", "x", 2)]], [[*added, gone]])
        async with server.cluster() as cluster:
            streams, one, two_ = await two(cluster)
            await until(one, "b")
            await until(two_, "c")
            await streams.close()
        assert all(asked["labelSelector"] == "podctl.dev/run=r1" for asked in server.asked)

    asyncio.run(go())


def test_after_what_the_server_forgot_everything_is_read_again() -> None:
    async def go() -> None:
        expired = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
        server = Server([[pod("one", "a", 1)], [pod("one", "b", 20), pod("two", "c", 21)]], [[expired]])
        async with server.cluster() as cluster:
            streams, one, two_ = await two(cluster)
            await until(one, "b")
            await until(two_, "c")
            assert not streams.over
            await streams.close()
        reads = [("watch" in asked, asked.get("resourceVersion")) for asked in server.asked[:3]]
        assert reads == [(False, None), (True, "10"), (False, None)]

    asyncio.run(go())


def test_a_refusal_is_told_to_everybody_who_waits() -> None:
    async def go() -> None:
        server = Server([[]], [[]], then=401)
        async with server.cluster() as cluster:
            streams, one, two_ = await two(cluster)
            for watched in (one, two_):
                with pytest.raises(ClusterProblem) as caught:
                    await until(watched, "never")
                assert caught.value.code == "cluster-credentials"
            assert streams.over, "the next pod gets streams of its own"
            await streams.close()

    asyncio.run(go())


def test_of_a_pod_is_kept_what_somebody_asks() -> None:
    async def go() -> None:
        first, second = (pod("one", name, 1) for name in "ab")
        for told in (first, second):
            told["metadata"] |= {"managedFields": [{"fieldsV1": {}}], "labels": {"podctl.dev/purpose": "shop"}}
            told |= {
                "spec": {"nodeName": "n1", "containers": [{"name": "c"}], "volumes": []},
                "status": {"podIP": "10.0.0.7", "containerStatuses": [{"name": "c", "state": {}, "volumeMounts": [{}]}]},
            }
        server = Server([[first]], [[{"type": "ADDED", "object": second}]])
        async with server.cluster() as cluster:
            streams, one, _ = await two(cluster)
            await until(one, "a", "b")
            await streams.close()
        for kept in one.pods.values():
            assert "managedFields" not in kept["metadata"] and kept["metadata"]["labels"] == {"podctl.dev/purpose": "shop"}
            assert kept["spec"] == {"nodeName": "n1"}
            assert kept["status"] == {"podIP": "10.0.0.7", "containerStatuses": [{"name": "c", "state": {}}]}

    asyncio.run(go())

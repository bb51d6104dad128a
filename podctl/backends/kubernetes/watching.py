"""What the Pods of a namespace are doing, kept up to date by watching, and why they do not come up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from podctl.backends.containers.launch import exit_or_signal
from podctl.backends.kubernetes.api import Cluster, Expired, Object, Unavailable
from podctl.backends.kubernetes.objects import parse_time
from podctl.backends.kubernetes.problems import ClusterProblem, event_trouble, pod_trouble

_PAUSE_S = 0.2


class Watched:
    """Pods and warnings of one namespace. ``start`` first, ``close`` last."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._objects: dict[str, dict[str, Object]] = {"Pod": {}, "Event": {}}
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._problem: ClusterProblem | None = None
        self.lost: asyncio.Event = asyncio.Event()  # set by whoever finds that the pod cannot go on

    @property
    def pods(self) -> dict[str, Object]:
        return self._objects["Pod"]

    async def start(self) -> None:
        for kind in self._objects:
            version = await self._load(kind)
            self._tasks.append(asyncio.create_task(self._follow(kind, version)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, what: str, done: Callable[[dict[str, Object]], bool], about: str, timeout_s: float) -> None:
        """Until ``done`` holds of the Pods.

        Raises `ClusterProblem` as soon as it is known that it will not (for Pods whose name begins with ``about``),
        or after ``timeout_s`` seconds.
        """
        began = time.monotonic()
        async with self._changed:
            while True:
                if self._problem is not None:
                    raise self._problem
                if done(self.pods):
                    return
                trouble = self._trouble(about)
                if trouble is not None:
                    raise trouble
                if time.monotonic() - began > timeout_s:
                    raise ClusterProblem(
                        f"{what} within {timeout_s:g} s",
                        code="not-ready",
                        cause=self._state_of(about) or "its Pod was not made",
                    )
                with suppress(TimeoutError):
                    # Some troubles are only worth mentioning once they last: look again without an event, too.
                    async with asyncio.timeout(1.0):
                        await self._changed.wait()

    def _trouble(self, about: str) -> ClusterProblem | None:
        now = self._cluster.now_ns()
        for name, pod in self.pods.items():
            if name.startswith(about):
                found = pod_trouble(pod, _age_s(pod["metadata"].get("creationTimestamp"), now))
                if found is not None:
                    return found
        for event in self._objects["Event"].values():
            if str((event.get("involvedObject") or {}).get("name", "")).startswith(about):
                found = event_trouble(event, _age_s(event.get("firstTimestamp") or event.get("eventTime"), now))
                if found is not None:
                    return found
        return None

    def _state_of(self, about: str) -> str:
        said = []
        for name, pod in self.pods.items():
            if name.startswith(about):
                states = [
                    f"{container['name']}: {next(iter(container.get('state') or {'unknown': {}}))}"
                    for container in (pod.get("status") or {}).get("containerStatuses") or []
                ]
                said.append(f"Pod {name} is {pod['status'].get('phase')} ({', '.join(states) or 'no container yet'})")
        return "; ".join(said)

    async def _load(self, kind: str) -> str:
        page = await self._cluster.page(kind, self._namespace)
        async with self._changed:
            known = self._objects[kind]
            known.clear()
            known.update({item["metadata"]["name"]: item for item in page["items"]})
            self._changed.notify_all()
        return str(page["metadata"]["resourceVersion"])

    async def _follow(self, kind: str, version: str) -> None:
        while True:
            try:
                async for event in self._cluster.watch(kind, self._namespace, version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        await self._take(kind, event)
            except (Expired, Unavailable):
                pass  # the list that follows has the patience
            except ClusterProblem as problem:
                await self._fail(problem)
                return
            await asyncio.sleep(_PAUSE_S)
            try:
                version = await self._load(kind)
            except ClusterProblem as problem:
                await self._fail(problem)
                return

    async def _take(self, kind: str, event: dict[str, Any]) -> None:
        name = event["object"]["metadata"]["name"]
        async with self._changed:
            if event["type"] == "DELETED":
                self._objects[kind].pop(name, None)
            else:
                self._objects[kind][name] = event["object"]
            self._changed.notify_all()

    async def _fail(self, problem: ClusterProblem) -> None:
        async with self._changed:
            self._problem = problem
            self._changed.notify_all()


def ready(pod: Object | None) -> bool:
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return False
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in (pod.get("status") or {}).get("conditions") or []
    )


def container_state(pod: Object | None, container: str) -> dict[str, Any]:
    """``{"running": …}``, ``{"terminated": …}``, ``{"waiting": …}`` or nothing."""
    for status in ((pod or {}).get("status") or {}).get("containerStatuses") or []:
        if status["name"] == container:
            return dict(status.get("state") or {})
    return {}


def ending(terminated: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Exit code or signal of a container's state."""
    return exit_or_signal(int(terminated.get("exitCode", 0)))


def _age_s(stamp: object, now_ns: int) -> float:
    return (now_ns - parse_time(str(stamp))) / 1e9 if stamp else 0.0

"""What the Pods of test pods are doing, kept up to date by watching, and why they do not come up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from podctl.backends.containers.launch import exit_or_signal
from podctl.backends.kubernetes.api import Cluster, Expired, Object, Unavailable
from podctl.backends.kubernetes.objects import RUN, parse_time
from podctl.backends.kubernetes.problems import ClusterProblem, event_trouble, pod_trouble

_PAUSE_S = 0.2
_UNASKED = {"managedFields", "ownerReferences", "annotations", "volumeMounts", "resources", "allocatedResources"}
_WARNINGS: Object = {"field_selector": "type=Warning"}


class Streams:
    """One watch of Pods and one of warnings, for every test pod of a run or for one namespace. ``close`` ends them.

    A `Watched` is added before there is anything in its namespace, or before ``start``. ``over`` once nothing more is heard.
    """

    def __init__(self, cluster: Cluster, *, run: str = "", namespace: str | None = None) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._selectors: dict[str, Object] = {"Pod": {"label_selector": f"{RUN}={run}"} if run else {}, "Event": _WARNINGS}
        self._watched: dict[str, Watched] = {}
        self.over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        versions = await asyncio.gather(*(self._load(kind) for kind in self._selectors))
        for kind, version in zip(self._selectors, versions, strict=True):
            self._tasks.append(asyncio.create_task(self._follow(kind, version)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, watched: Watched) -> None:
        self._watched[watched.namespace] = watched

    def remove(self, watched: Watched) -> None:
        self._watched.pop(watched.namespace, None)

    async def _load(self, kind: str) -> str:
        page = await self._cluster.page(kind, self._namespace, **self._selectors[kind])
        found: dict[str, dict[str, Object]] = {namespace: {} for namespace in self._watched}
        for item in page["items"]:
            meta = item["metadata"]
            if meta["namespace"] in found:
                found[meta["namespace"]][meta["name"]] = _kept(item)
        for namespace, objects in found.items():
            if namespace in self._watched:
                await self._watched[namespace].load(kind, objects)
        return str(page["metadata"]["resourceVersion"])

    async def _follow(self, kind: str, version: str) -> None:
        while True:
            try:
                async for event in self._cluster.watch(kind, self._namespace, version, **self._selectors[kind]):
                    meta = event["object"]["metadata"]
                    version = meta["resourceVersion"]
                    if event["type"] != "BOOKMARK" and meta["namespace"] in self._watched:
                        await self._watched[meta["namespace"]].take(kind, event)
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

    async def _fail(self, problem: ClusterProblem) -> None:
        self.over = True
        for watched in list(self._watched.values()):
            await watched.fail(problem)


class Watched:
    """Pods and warnings of one namespace. ``start`` first, ``close`` last; without ``streams`` it has its own."""

    def __init__(self, cluster: Cluster, namespace: str, streams: Streams | None = None) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._objects: dict[str, dict[str, Object]] = {"Pod": {}, "Event": {}}
        self._changed = asyncio.Condition()
        self._problem: ClusterProblem | None = None
        self._own = Streams(cluster, namespace=namespace) if streams is None else None
        self._streams = streams or self._own

    @property
    def pods(self) -> dict[str, Object]:
        return self._objects["Pod"]

    async def start(self) -> None:
        assert self._streams is not None
        self._streams.add(self)
        if self._own is not None:
            await self._own.start()

    async def close(self) -> None:
        assert self._streams is not None
        self._streams.remove(self)
        if self._own is not None:
            await self._own.close()

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

    async def load(self, kind: str, objects: dict[str, Object]) -> None:
        """All that there is now."""
        async with self._changed:
            self._objects[kind] = objects
            self._changed.notify_all()

    async def take(self, kind: str, event: dict[str, Any]) -> None:
        """One change of a watch."""
        name = event["object"]["metadata"]["name"]
        async with self._changed:
            if event["type"] == "DELETED":
                self._objects[kind].pop(name, None)
            else:
                self._objects[kind][name] = _kept(event["object"])
            self._changed.notify_all()

    async def fail(self, problem: ClusterProblem) -> None:
        """Nothing more will be heard: whoever waits is told why."""
        async with self._changed:
            self._problem = problem
            self._changed.notify_all()


def _kept(item: Object) -> Object:
    """Without what nobody asks of a Pod or a warning: most of it, and it is held for as long as its test pod."""
    kept: Object = _shared(item)
    if "spec" in kept:
        kept["spec"] = {"nodeName": kept["spec"].get("nodeName", "")}
    return kept


def _shared(value: Any) -> Any:
    """Each object of JSON comes with names of its own for the same fields."""
    if isinstance(value, dict):
        return {sys.intern(name): _shared(one) for name, one in value.items() if name not in _UNASKED}
    return [_shared(one) for one in value] if isinstance(value, list) else value


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

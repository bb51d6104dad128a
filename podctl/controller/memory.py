"""A cluster's API server in memory, as far as TestRuns need it: for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from podctl.errors import EnvironmentProblem


class MemoryApi:
    """``bodies`` and ``config_maps`` by name; ``told`` are events; while ``away``, every question fails."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.config_maps: dict[str, Mapping[str, Any]] = {}
        self.told: list[tuple[str, str, str]] = []
        self.statuses: list[tuple[str, Mapping[str, Any]]] = []
        self.away = False
        self.on_status: Callable[[str, Mapping[str, Any]], None] = lambda _name, _status: None

    async def testruns(self) -> list[Mapping[str, Any]]:
        self._answer()
        return list(self.bodies.values())

    async def config_map(self, name: str) -> Mapping[str, Any] | None:
        self._answer()
        return self.config_maps.get(name)

    async def set_status(self, name: str, uid: str, status: Mapping[str, Any]) -> None:
        self._answer()
        if self._is(name, uid):
            self.bodies[name] = {**self.bodies[name], "status": dict(status)}
            self.statuses.append((name, status))
            self.on_status(name, status)

    async def tell(self, name: str, uid: str, kind: str, reason: str, message: str) -> None:
        self._answer()
        self.told.append((name, reason, message))

    async def delete(self, name: str, uid: str) -> None:
        self._answer()
        if self._is(name, uid):
            del self.bodies[name]

    def _is(self, name: str, uid: str) -> bool:
        return name in self.bodies and self.bodies[name]["metadata"]["uid"] == uid

    def _answer(self) -> None:
        if self.away:
            raise EnvironmentProblem("the API server does not answer", code="cluster-unreachable")

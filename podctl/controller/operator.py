"""Hosts runs in a cluster: leads or waits, hears of TestRuns through kopf, answers probes."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import podctl.backends.kubernetes  # noqa: F401  # isort: skip  # before kopf, which imports the kubernetes package as well
import kopf
from aiohttp import web

from podctl.backends.base import Backend
from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.backend import IMAGE, KubernetesBackend
from podctl.backends.kubernetes.leader import lead
from podctl.backends.kubernetes.namespaces import list_pods, remove_namespace
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.clock import SystemClock
from podctl.controller.elsewhere import sweep_among
from podctl.controller.settle import give_back, settle
from podctl.controller.testrun import TestRun, rfc3339
from podctl.controller.testruns import Rules, TestRuns
from podctl.errors import PodctlError, SpecError
from podctl.evidence.store import Store
from podctl.signing import configured_key
from podctl.spec.bundle import Bundle

log = logging.getLogger("podctl.controller")

GROUP, VERSION, PLURAL = "podctl.dev", "v1alpha1", "testruns"
LEASE = "podctl-controller"
SWEEP_S = 60.0
_STOP_S = 5.0
_MANAGER = "podctl-controller"


@dataclass(frozen=True)
class Settings:
    """``namespace`` is the controller's own: its lease and the ConfigMaps of TestRuns are there."""

    store_url: str
    namespace: str
    identity: str
    directory: Path
    rules: Rules
    port: int

    @staticmethod
    def of(environment: Mapping[str, str]) -> Settings:
        """Raises `SpecError` naming the variable that is missing or wrong."""
        if not environment.get("PODCTL_STORE_URL"):
            raise _unset("PODCTL_STORE_URL", "postgresql://USER@HOST/DATABASE, from a Secret: where runs and evidence are kept")
        if not environment.get(IMAGE):
            raise _unset(IMAGE, "the image of test pods: docs/kubernetes.md")
        keys = environment.get("PODCTL_KEYS", "")
        sources = environment.get("PODCTL_SOURCES", "")
        return Settings(
            store_url=environment["PODCTL_STORE_URL"],
            namespace=environment.get("PODCTL_NAMESPACE", "podctl-system"),
            identity=environment.get("PODCTL_POD") or f"{socket.gethostname()}-{secrets.token_hex(3)}",
            directory=Path(environment.get("PODCTL_STATE", "/var/lib/podctl")),
            rules=Rules(
                most_pods=_number(environment, "PODCTL_MAX_PODS", 30),
                sources=Path(sources) if sources else None,
                keys=_keys(Path(keys)) if keys else {},
                upstreams=tuple(environment.get("PODCTL_UPSTREAMS", "").split()),
            ),
            port=_number(environment, "PODCTL_PORT", 8080),
        )


def _unset(name: str, what: str) -> SpecError:
    return SpecError(f"{name} is not set", code="controller-settings", cause=f"it says {what}", unchanged="nothing was begun")


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    given = environment.get(name, "")
    if given and not given.isdigit():
        raise SpecError(f"{name} is no number: {given[:50]!r}", code="controller-settings", unchanged="nothing was begun")
    return int(given) if given else default


def _keys(directory: Path) -> dict[str, str]:
    """A Secret's keys as a volume has them: scenarios name these, and never the controller's own environment."""
    return {path.name: path.read_text("utf-8").strip() for path in sorted(directory.iterdir()) if path.is_file()}


def serve(settings: Settings) -> None:
    """Until SIGTERM or the loss of the lead. Raises `PodctlError`."""
    settle()
    asyncio.run(Operator(settings).run())


class Operator:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = False
        self._leads = False

    async def run(self) -> None:
        cluster = await Cluster.open()
        probes = await self._answer_probes()
        main = asyncio.current_task()
        assert main is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, main.cancel)
        try:
            await cluster.raw("/version")
            self._ready = True
            await lead(cluster.client, LEASE, self._settings.namespace, self._settings.identity, lambda: self._lead(cluster))
            log.info("leads no more: this process ends, and the lease says who goes on")
        except asyncio.CancelledError:
            log.info("ended by a signal")
        finally:
            self._ready = False
            await cluster.close()
            await probes.cleanup()

    async def _lead(self, cluster: Cluster) -> None:
        settings = self._settings
        store = Store.open(settings.directory / "store", SystemClock(), url=settings.store_url, key=configured_key())

        async def open_backend(run: TestRun, bundle: Bundle) -> Backend:
            ttl_s = bundle.scenario.run.ttl
            return await KubernetesBackend.open(os.environ, ttl_s=ttl_s, owner=run.owner_reference())

        api = ClusterApi(cluster, settings.namespace)
        runs = TestRuns(api, store, open_backend, settings.rules, settings.directory, SystemClock())
        self._leads = True
        try:
            tasks = [asyncio.create_task(part) for part in (runs.serve(), _listen(runs), _sweep_often(cluster))]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._leads = False
            store.close()

    async def _answer_probes(self) -> web.AppRunner:
        """``/healthz``: the loop turns. ``/readyz``: the cluster has answered; its text says who leads."""

        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_: web.Request) -> web.Response:
            text = "leads\n" if self._leads else "waits for the lead\n"
            return web.Response(
                text=text if self._ready else "the cluster was not reached yet\n", status=200 if self._ready else 503
            )

        app = web.Application()
        app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, None, self._settings.port).start()
        return runner


async def _listen(runs: TestRuns) -> None:
    """kopf keeps the watch alive, through ends, expiries and errors; what it missed, the next look at all of them sees."""
    registry = kopf.OperatorRegistry()
    loop = asyncio.get_running_loop()

    @kopf.on.login(registry=registry)
    def login(**known: Any) -> Any:
        return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def heard(type: str | None, body: kopf.Body, **_: Any) -> None:
        if type == "DELETED":
            loop.call_soon_threadsafe(runs.gone, body["metadata"]["uid"])
        else:
            loop.call_soon_threadsafe(runs.seen, dict(body))

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    stop = threading.Event()

    def listen() -> None:
        kopf.run(registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=stop)

    # In a thread of its own: it would take the process's signals, and end tasks that are not its own.
    listening = loop.run_in_executor(None, listen)
    try:
        await asyncio.shield(listening)
    finally:
        stop.set()
        await asyncio.wait([listening], timeout=_STOP_S)


async def _sweep_often(cluster: Cluster) -> None:
    """Test pods that nobody owns any more, of this controller's earlier lives and of laptops that were closed."""
    while True:
        try:
            receipt = await sweep_among(await list_pods(cluster), cluster.now_ns(), lambda pod: remove_namespace(cluster, pod))
            for removal in receipt.removals:
                log.info("swept %s: %s", removal.what, "gone" if removal.gone else removal.detail)
        except PodctlError as error:
            log.warning("orphans cannot be swept: %s", error.what)
        give_back()
        await asyncio.sleep(SWEEP_S)


class ClusterApi:
    """What `TestRuns` asks of a cluster. Every method raises `ClusterProblem`."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    async def testruns(self) -> list[Mapping[str, Any]]:
        return list(await self._cluster.list("TestRun"))

    async def config_map(self, name: str) -> Mapping[str, Any] | None:
        return await self._cluster.get("ConfigMap", name, self._namespace)

    async def set_status(self, name: str, uid: str, status: Mapping[str, Any]) -> None:
        change = {"metadata": {"uid": uid}, "status": dict(status)}
        try:
            await self._cluster.patch("TestRun", name, None, change, subresource="/status")
        except ClusterProblem as problem:
            # 409: another has its name and another uid.
            if problem.code != "not-found" and not problem.cause.startswith("409"):
                raise

    async def tell(self, name: str, uid: str, kind: str, reason: str, message: str) -> None:
        now = rfc3339(self._cluster.now_ns() / 1e9)
        reference = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TestRun", "name": name, "uid": uid}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            # Events of what has no namespace are kept in this one.
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": "default"},
            "involvedObject": reference,
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": _MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._cluster.create(body)

    async def delete(self, name: str, uid: str) -> None:
        await self._cluster.delete("TestRun", name, uid=uid)

"""The API server, as far as podctl needs it: plain dictionaries in and out, its refusals as `ClusterProblem`."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import time
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Self

import aiohttp
from kubernetes.aio import config as kubeconfig
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import DynamicApiError
from kubernetes.aio.stream import WsApiClient

from podctl.backends.kubernetes.problems import ClusterProblem, refusal

Object = dict[str, Any]

MANAGER = "podctl"
_REQUEST_S = 30.0
#: Requests at the same time. Each may leave a connection open behind it.
_REQUESTS = 32
# asyncio gives each TLS connection 256 KiB to read into, and a controller holds several open for each test pod.
SSLProtocol.max_size = 4 * 1024
#: How long an API server that was there may be gone before what needs it fails.
PATIENCE_S = 45.0
_UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)

#: kind -> (API version, plural, namespaced)
KINDS: dict[str, tuple[str, str, bool]] = {
    "Namespace": ("v1", "namespaces", False),
    "Node": ("v1", "nodes", False),
    "Pod": ("v1", "pods", True),
    "Service": ("v1", "services", True),
    "Secret": ("v1", "secrets", True),
    "ConfigMap": ("v1", "configmaps", True),
    "Event": ("v1", "events", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "ResourceQuota": ("v1", "resourcequotas", True),
    "LimitRange": ("v1", "limitranges", True),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies", True),
    "Job": ("batch/v1", "jobs", True),
    "Lease": ("coordination.k8s.io/v1", "leases", True),
    "RuntimeClass": ("node.k8s.io/v1", "runtimeclasses", False),
    "TestRun": ("podctl.dev/v1alpha1", "testruns", False),
    "SelfSubjectAccessReview": ("authorization.k8s.io/v1", "selfsubjectaccessreviews", False),
    # What `podctl install` applies.
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "Role": ("rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings", True),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "Deployment": ("apps/v1", "deployments", True),
    "ReplicaSet": ("apps/v1", "replicasets", True),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "ValidatingAdmissionPolicy": ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", False),
    "ValidatingAdmissionPolicyBinding": ("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", False),
}


def path_of(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    version, plural, namespaced = KINDS[kind]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    within = f"/namespaces/{namespace}" if namespaced and namespace else ""
    return f"{root}{within}/{plural}" + (f"/{name}" if name else "")


def _resource(path: str) -> str:
    """``pods``, ``pods/exec``, … of a path of the API."""
    parts = path.strip("/").split("/")[2 if path.startswith("/api/") else 3 :]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join(parts[:1] + parts[2:])


class Cluster:
    """One API server and one identity. Not for use from two event loops."""

    def __init__(self, configuration: Configuration) -> None:
        lasting = copy.copy(configuration)
        lasting.connection_pool_maxsize = 0  # each test pod holds streams open
        configuration.connection_pool_maxsize = _REQUESTS
        self._api = ApiClient(configuration)
        self._dynamic = DynamicClient(self._api)
        self._watches = DynamicClient(ApiClient(lasting))
        self._streams = WsApiClient(lasting, heartbeat=20.0)
        self.host = str(configuration.host)
        self._patience = 0.0  # until it has answered once: a wrong address must not take long to be found out
        self._ahead_s = 0.0
        #: How often each (verb, resource) was asked for, and bytes that came over watches by resource.
        self.calls: Counter[tuple[str, str]] = Counter()
        self.watched_bytes: Counter[str] = Counter()

    @classmethod
    async def open(cls, context: str | None = None) -> Self:
        """The cluster of KUBECONFIG, or the one this process runs in. Raises `ClusterProblem`."""
        configuration = Configuration()
        try:
            if not os.environ.get("KUBECONFIG") and os.environ.get("KUBERNETES_SERVICE_HOST"):
                kubeconfig.load_incluster_config(client_configuration=configuration)
            else:
                files = os.environ.get("KUBECONFIG") or "~/.kube/config"
                await kubeconfig.load_kube_config(files, context=context, client_configuration=configuration)
        except (ConfigException, OSError, ValueError, TypeError) as error:
            raise ClusterProblem(
                "no cluster is configured",
                code="cluster-config",
                cause=str(error).splitlines()[0] if str(error) else type(error).__name__,
                hint="set KUBECONFIG, and choose a context with kubectl config use-context",
            ) from error
        return cls(configuration)

    @property
    def client(self) -> ApiClient:
        """For what the kubernetes package itself does with a cluster."""
        return self._api

    async def close(self) -> None:
        for client in (self._api, self._watches.client, self._streams):
            await client.close()

    def now_ns(self) -> int:
        """The API server's wall clock, to a second: what several machines agree on."""
        return time.time_ns() + int(self._ahead_s * 1e9)

    # ---- objects ----

    async def apply(self, body: Object, *, manager: str = MANAGER, force: bool = False) -> Object:
        """Server-side apply; a field that somebody else set is a conflict, never overwritten unless ``force``."""
        meta = body["metadata"]
        path = path_of(body["kind"], meta.get("namespace"), meta["name"])
        options: Object = {"content_type": "application/apply-patch+yaml", "field_manager": manager}
        if force:
            options["force_conflicts"] = "true"
        return await self._request("apply", f"{body['kind']} {meta['name']}", "patch", path, body, **options)

    async def create(self, body: Object, *, dry_run: bool = False) -> Object:
        meta = body["metadata"]
        path = path_of(body["kind"], meta.get("namespace"))
        options: Object = {"dry_run": "All"} if dry_run else {}
        return await self._request("create", f"{body['kind']} {meta.get('name', '')}".strip(), "post", path, body, **options)

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        try:
            return await self._request("get", f"{kind} {name}", "get", path_of(kind, namespace, name))
        except _NotFound:
            return None

    async def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        options: Object = {"label_selector": selector} if selector else {}
        return list((await self.page(kind, namespace, **options))["items"])

    async def page(self, kind: str, namespace: str | None = None, **selectors: Any) -> Object:
        """All of a kind; ``label_selector`` and ``field_selector`` say which."""
        return await self._request("list", KINDS[kind][1], "get", path_of(kind, namespace), **selectors)

    async def patch(self, kind: str, name: str, namespace: str | None, change: Object, subresource: str = "") -> Object:
        """A JSON merge patch."""
        options = {"content_type": "application/merge-patch+json", "field_manager": MANAGER}
        return await self._request(
            "patch", f"{kind} {name}", "patch", path_of(kind, namespace, name) + subresource, change, **options
        )

    async def delete(
        self, kind: str, name: str, namespace: str | None = None, *, uid: str = "", grace: int | None = None
    ) -> bool:
        """Ask for its deletion, in the background; False when it is not there (any more, or under this uid)."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            await self._request("delete", f"{kind} {name}", "delete", path_of(kind, namespace, name), body)
        except _NotFound:
            return False
        except ClusterProblem as problem:
            if uid and problem.cause.startswith("409"):
                return False
            raise
        return True

    async def raw(self, path: str) -> Object:
        return await self._request("read", path, "get", path)

    async def text(self, path: str) -> str:
        """What is no JSON."""
        async with self._response("read", path, "get", path, None, {}) as response:
            return (await response.read()).decode("utf-8", "replace")

    async def watch(self, kind: str, namespace: str | None, version: str, **selectors: Any) -> AsyncIterator[Object]:
        """Events after ``version`` until the server ends the watch.

        Raises `Expired` when it has forgotten them, and `Unavailable`.
        """
        options = {"watch": "true", "resource_version": version, "timeout_seconds": 300, "_request_timeout": 330, **selectors}
        async with self._response("watch", KINDS[kind][1], "get", path_of(kind, namespace), None, options) as response:
            try:
                while line := await response.content.readline():
                    self.watched_bytes[KINDS[kind][1]] += len(line)
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Expired(str(event["object"].get("message", "")))
                    yield event
            except _UNREACHABLE:
                return

    async def _request(
        self, verb: str, what: str, method: str, path: str, body: Object | None = None, **options: Any
    ) -> Object:
        deadline = time.monotonic() + self._patience
        pause = 0.05
        while True:
            try:
                async with self._response(verb, what, method, path, body, options) as response:
                    self._heard(response.headers.get("Date"))
                    return dict(json.loads(await response.read()))
            except Unavailable as busy:
                if time.monotonic() > deadline:
                    raise ClusterProblem(
                        f"the cluster did not {verb} {what}",
                        code="cluster-unreachable",
                        cause=str(busy),
                        hint=f"is {self.host} the right address, and does the API server run? kubectl get --raw /readyz",
                    ) from busy
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)

    @asynccontextmanager
    async def _response(
        self, verb: str, what: str, method: str, path: str, body: Object | None, options: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self.calls[verb, _resource(path)] += 1
        try:
            response = await (self._watches if verb == "watch" else self._dynamic).request(
                method, path, body=body, serialize=False, **{"_request_timeout": _REQUEST_S, **options}
            )
        except (DynamicApiError, ApiException) as error:
            text = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
            if error.status == 404:
                raise _NotFound(what) from error
            if error.status == 410:
                raise Expired(text) from error
            if error.status in (429, 500, 502, 503, 504):
                raise Unavailable(f"{error.status}: {text[:300]}") from error
            raise refusal(verb, what, int(error.status or 0), text) from error
        except _UNREACHABLE as error:
            raise Unavailable(f"{type(error).__name__}: {error}".strip(": ")) from error
        try:
            yield response
        except _UNREACHABLE as error:
            raise Unavailable(f"{type(error).__name__}: {error}".strip(": ")) from error
        finally:
            response.close()

    def _heard(self, date: str | None) -> None:
        self._patience = PATIENCE_S
        if date:
            self._ahead_s = parsedate_to_datetime(date).timestamp() - time.time()

    # ---- streams ----

    @asynccontextmanager
    async def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, stdin: bool = False
    ) -> AsyncIterator[Exec]:
        """A command in a running container; leaving the block ends the connection to it."""
        query = [("command", part) for part in argv]
        query += [("container", container), ("stdout", "true"), ("stderr", "true"), ("stdin", "true" if stdin else "false")]
        async with self._websocket(path_of("Pod", namespace, pod) + "/exec", query, f"exec in {pod}/{container}") as socket:
            yield Exec(socket)

    @asynccontextmanager
    async def forward(self, namespace: str, pod: str, port: int) -> AsyncIterator[Forward]:
        """A connection to a port of the Pod's loopback."""
        path = path_of("Pod", namespace, pod) + "/portforward"
        async with self._websocket(path, [("ports", str(port))], f"a connection to port {port} of {pod}") as socket:
            yield Forward(socket)

    @asynccontextmanager
    async def _websocket(
        self, path: str, query: Sequence[tuple[str, str]], what: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        self.calls["open", _resource(path)] += 1
        request = await self._streams.param_serialize("GET", path, query_params=query, auth_settings=["BearerToken"])
        response = await self._streams.call_api(*request, _preload_content=False)
        try:
            socket = await response.response
        except aiohttp.WSServerHandshakeError as error:
            raise refusal("open", what, error.status, error.message) from error
        except _UNREACHABLE as error:
            raise ClusterProblem(f"{what} could not be opened", code="cluster-unreachable", cause=str(error)) from error
        try:
            yield socket
        finally:
            await socket.close()

    async def log(self, namespace: str, pod: str, limit: int = 2**20) -> bytes:
        """The last of what the Pod's first container printed."""
        path = path_of("Pod", namespace, pod) + "/log"
        options = {"query_params": [("limitBytes", str(limit))]}
        async with self._response("read", f"the log of {pod}", "get", path, None, options) as response:
            return await response.read()

    async def run(self, namespace: str, pod: str, container: str, argv: Sequence[str], limit: int) -> bytes:
        """A command's standard output, at most ``limit`` bytes of it. Raises `ClusterProblem` when it does not exit with 0."""
        out = bytearray()
        async with self.exec(namespace, pod, container, argv) as running:
            while (data := await running.read()) and len(out) <= limit:
                out += data
            if running.failure is None and len(out) <= limit:
                return bytes(out)
            raise ClusterProblem(
                f"a command of podctl in {pod}/{container} failed",
                code="exec-failed",
                cause=running.said() or f"more than {limit} bytes came back",
            )


class _NotFound(ClusterProblem):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not there", code="not-found")


class Unavailable(Exception):
    """Unreachable, or not able to answer right now."""


class Expired(Exception):
    """The server no longer has the events after the version asked for."""


class _Stream:
    """What goes in, of an exec as of a forwarded port, is channel 0."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def write(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(b"\0" + data)
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error)) from error


class Exec(_Stream):
    """One command's streams. ``failure``: None while it runs and when it exited with 0, else what the server said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(socket)
        self._errors = bytearray()
        self.failure: str | None = None

    async def read(self) -> bytes:
        """Standard output; empty at its end."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or len(message.data) < 2:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == 1:
                return bytes(data)
            if channel == 2:
                self._errors = (self._errors + data)[-4096:]
            elif channel == 3:
                status = json.loads(data)
                if status.get("status") != "Success":
                    self.failure = str(status.get("message", "failed"))
        return b""

    def said(self) -> str:
        return (self._errors.decode("utf-8", "replace").strip() or self.failure or "")[-1000:]


class Forward(_Stream):
    """A port's bytes. Each of the two channels begins with the port's number."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(socket)
        self._begun: set[int] = set()

    async def read(self) -> bytes:
        """Raises OSError when the port refused the connection."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel not in self._begun:
                self._begun.add(channel)
                data = data[2:]
            if not data:
                continue
            if channel == 1:
                raise ConnectionRefusedError(data.decode("utf-8", "replace"))
            return bytes(data)
        return b""

"""One of several controllers leads: whoever holds a lease of the cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger("podctl.leader")

#: Seconds: a leader that was not heard of for so long has lost; one that could not renew for so long gives up before that;
#: and between two tries. An API server that is gone for half a minute does not cost the leader its place.
LEASE_S, RENEW_S, RETRY_S = 60, 45, 5
_UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)
_REQUEST_S = 10.0


class _PatientLock(LeaseLock):
    """A lease whose API server may be away: the library would let the error end the election."""

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        try:
            async with asyncio.timeout(_REQUEST_S):
                return await super().get(name, namespace)
        except _UNREACHABLE as error:
            return False, ApiException(reason=f"{type(error).__name__}: {error}")

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # The library's own asks for pretty printing, in a way that its client refuses.
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        with suppress(ApiException, *_UNREACHABLE):
            async with asyncio.timeout(_REQUEST_S):
                await self.api_instance.create_namespaced_lease(namespace, lease)
                return True
        return False

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        with suppress(*_UNREACHABLE):
            async with asyncio.timeout(_REQUEST_S):
                return bool(await super().update(name, namespace, updated_record))
        return False


async def lead(api: ApiClient, name: str, namespace: str, identity: str, work: Callable[[], Awaitable[None]]) -> None:
    """Wait until this process leads, and ``work`` until it leads no more; then ``work`` is cancelled, and this returns.

    ``identity`` is one a process at a time: the name of its Pod. Cancelled, it ends ``work`` and gives the lease back.
    """
    lock = _PatientLock(name, namespace, identity, api)
    working: list[asyncio.Future[Any]] = []
    ended = asyncio.Event()

    async def started() -> None:
        log.info("%s leads", identity)
        task = asyncio.ensure_future(work())
        working.append(task)
        try:
            await task
        finally:
            ended.set()

    async def stopped() -> None:
        log.error("%s leads no more", identity)

    election: asyncio.Task[Any] = asyncio.create_task(
        LeaderElection(Config(lock, LEASE_S, RENEW_S, RETRY_S, started, stopped)).run()
    )
    over: asyncio.Task[Any] = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait({election, over}, return_when=asyncio.FIRST_COMPLETED)
        for task in (election, *working):
            if task.done() and not task.cancelled():
                task.result()  # raises what ended it
    finally:
        for task in (election, over, *working):
            task.cancel()
        await asyncio.gather(election, over, *working, return_exceptions=True)
        await _give_back(lock, name, namespace, identity)


async def _give_back(lock: LeaseLock, name: str, namespace: str, identity: str) -> None:
    """Another need not wait for the lease to run out."""
    with suppress(ApiException, *_UNREACHABLE):
        async with asyncio.timeout(_REQUEST_S):
            lease = await lock.api_instance.read_namespaced_lease(name, namespace)
            if lease.spec is not None and lease.spec.holder_identity == identity:
                lease.spec.lease_duration_seconds = 1
                lease.spec.holder_identity = ""
                await lock.api_instance.replace_namespaced_lease(name, namespace, lease)

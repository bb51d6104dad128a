"""HTTP requests of the gateway to a service of a pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from podctl.gateway.contract import Target
from podctl.gateway.dialer import Dialer, Lease, leased, leased_socket

_AUTO = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class ServiceLink:
    """Sends what it is given and nothing of its own; answers come as they are: no redirect is followed, nothing is inflated."""

    def __init__(self, service: str, target: Target, dialer: Dialer | None, connect_timeout: float) -> None:
        self._base = f"http://{service}" if isinstance(target, str) else f"http://{target[0]}:{target[1]}"
        self._dialer = dialer
        # One connection a request: none outlives its attempt, and none is found stale by a request that cannot be repeated.
        connector: aiohttp.BaseConnector
        if isinstance(target, str):
            connector = aiohttp.UnixConnector(target, limit=0, force_close=True)
        else:
            factory = None if dialer is None else leased_socket
            connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=factory)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_AUTO,
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, method: str, raw_path: str, headers: Mapping[str, str], body: Any) -> aiohttp.ClientResponse:
        """``raw_path`` is a path and a query, encoded. Raises aiohttp.ClientError, OSError and TimeoutError."""
        # Put together as text: to a join, //host/path or http://host/path would be another host.
        url = URL(f"{self._base}{raw_path}", encoded=True)
        if self._dialer is None:
            return await self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
        lease = Lease(await self._dialer.take())
        token = leased.set(lease)
        try:
            return await self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
        finally:
            leased.reset(token)
            lease.end()

"""Where model calls go: a live provider, recorded answers, or the scripted model."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp

from podctl.evidence.redact import Redactor
from podctl.gateway.contract import ANTHROPIC_URL, OPENAI_URL, GatewayConfig
from podctl.gateway.screen import Api

Provider = Literal["openai", "anthropic"]

_REQUEST_HEADERS = ("anthropic-version", "anthropic-beta", "openai-beta", "accept")
_ANSWER_HEADERS = ("request-id", "x-request-id", "retry-after", "retry-after-ms", "openai-processing-ms")
_RETRIED = frozenset({408, 429})


@dataclass(frozen=True)
class Call:
    """One request to a model API. ``body`` is what the agent sent, ``sent`` the bytes for the provider."""

    api: Api
    provider: Provider
    method: str
    path: str
    model: str
    body: Mapping[str, Any]
    sent: bytes
    headers: Mapping[str, str]
    digest: str


@dataclass
class Answer:
    """``chunks`` come as the provider sent them; iterating raises `ProviderFailure`."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    tries: list[dict[str, Any]] = field(default_factory=list)


class ProviderFailure(Exception):
    """No usable answer. ``billed`` None: the provider may have charged for it; False: it did not.

    ``status`` and ``kind`` are what the agent is told.
    """

    def __init__(
        self,
        message: str,
        *,
        billed: bool | None,
        kind: str = "podctl_provider_failed",
        tries: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.billed = billed
        self.kind = kind
        self.tries = tries or []


def request_digest(method: str, path: str, body: Mapping[str, Any]) -> str:
    """sha256 of the canonical request: what the agent asked, independent of key order and of who asks."""
    canonical = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


class LiveProvider:
    """Sends calls to the real providers with the real keys; the keys never come back from here."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._redactor = Redactor(config.keys.values())
        upstream = config.upstream
        self._bases: dict[str, str] = {
            "openai": (upstream.openai_url or OPENAI_URL).rstrip("/"),
            "anthropic": (upstream.anthropic_url or ANTHROPIC_URL).rstrip("/").removesuffix("/v1") + "/v1",
        }
        self._own = {"openai": upstream.openai_url is not None, "anthropic": upstream.anthropic_url is not None}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10),
            # `connect` covers the TLS handshake too, which `sock_connect` does not.
            timeout=aiohttp.ClientTimeout(total=config.call_timeout, connect=config.connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "podctl-gateway", "Accept-Encoding": "identity"},
        )

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """The provider's answer, after retries. Raises `ProviderFailure`."""
        headers = self._headers(call)
        tries: list[dict[str, Any]] = []
        response = await self._try(call, headers, tries)
        try:
            if 300 <= response.status < 400:
                raise ProviderFailure(
                    f"the provider answered with a redirect ({response.status}), which podctl does not follow",
                    billed=False,
                    tries=tries,
                )
            kept = {name: self._redactor.text(response.headers[name]) for name in _ANSWER_HEADERS if name in response.headers}
            content_type = response.headers.get("Content-Type", "application/json")
            yield Answer(response.status, content_type, kept, self._chunks(response), tries)
        finally:
            response.close()

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {name: call.headers[name] for name in _REQUEST_HEADERS if name in call.headers}
        if call.method == "POST":
            headers["content-type"] = "application/json"
        key = self._config.keys.get(call.provider)
        if key is not None:
            headers |= {"x-api-key": key} if call.provider == "anthropic" else {"authorization": f"Bearer {key}"}
        elif not self._own[call.provider]:
            raise ProviderFailure(f"podctl was given no {call.provider} key", billed=False, kind="podctl_no_provider_key")
        return headers

    async def _try(self, call: Call, headers: dict[str, str], tries: list[dict[str, Any]]) -> aiohttp.ClientResponse:
        url = self._bases[call.provider] + call.path.removeprefix("/v1")
        while True:
            last = len(tries) >= self._config.retries
            try:
                response = await self._session.request(
                    call.method, url, data=call.sent or None, headers=headers, allow_redirects=False
                )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                if last:
                    raise ProviderFailure(f"the provider cannot be reached: {error}", billed=False, tries=tries) from error
                tries.append({"error": self._redactor.text(str(error)), "waited": self._config.retry_base * 2 ** len(tries)})
            except (aiohttp.ClientError, TimeoutError) as error:
                message = f"the provider did not answer: {type(error).__name__}: {error}"
                raise ProviderFailure(self._redactor.text(message), billed=None, tries=tries) from error
            else:
                if last or not (response.status in _RETRIED or response.status >= 500):
                    return response
                waited = _retry_after(response, self._config.retry_base * 2 ** len(tries))
                tries.append({"status": response.status, "waited": min(waited, self._config.retry_cap)})
                response.close()
            await asyncio.sleep(tries[-1]["waited"])

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        total, held = 0, b""
        try:
            async for chunk in response.content.iter_any():
                total += len(chunk)
                if total > self._config.response_cap:
                    raise ProviderFailure(
                        f"the answer is longer than {self._config.response_cap} bytes and was cut", billed=None
                    )
                whole, held = self._held_back(held + chunk)
                if whole:
                    yield self._redactor.bytes(whole)
            if held:
                yield self._redactor.bytes(held)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ProviderFailure(f"the answer broke off: {type(error).__name__}: {error}", billed=None) from error

    def _held_back(self, data: bytes) -> tuple[bytes, bytes]:
        """``data`` without an end that may be the first part of a key, and that end: a key may be cut by a chunk's end."""
        longest = 0
        for key in self._config.keys.values():
            raw = key.encode()
            sizes = range(min(len(raw) - 1, len(data)), longest, -1)
            longest = next((size for size in sizes if data.endswith(raw[:size])), longest)
        return data[: len(data) - longest], data[len(data) - longest :]

    async def close(self) -> None:
        await self._session.close()


def _retry_after(response: aiohttp.ClientResponse, otherwise: float) -> float:
    """Seconds the provider asks to wait, as a number or as a date (RFC 9110, 10.2.3); nonsense says nothing."""
    said = response.headers.get("Retry-After", "")
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, OverflowError):
            return otherwise
    return max(0.0, seconds) if not math.isnan(seconds) else otherwise


async def of_bytes(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        # Each chunk leaves on its own, as it came from the provider.
        await asyncio.sleep(0)

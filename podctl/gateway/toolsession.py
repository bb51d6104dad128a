"""One session with an MCP server of a pod, through the official client: it negotiates, numbers and matches; here are the bounds.

The client is given no callbacks: a server that asks for sampling, elicitation or roots is refused by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import httpx2
from mcp import types
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types.jsonrpc import jsonrpc_message_adapter
from pydantic import TypeAdapter, ValidationError

from podctl.gateway.contract import Target
from podctl.gateway.dialer import Dialer
from podctl.gateway.link import ServiceLink
from podctl.gateway.relay import connect
from podctl.spec.models import ToolServer

_Streams = tuple[Any, Any]
_RAW: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
#: How long a server may take to hear that a session ends.
_GOODBYE = 0.5


class ServerFailed(Exception):
    """The server did not answer as one does; the text says how, ``kind`` in a word."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind, self.why = kind, why


class ServerRefused(Exception):
    """The server answered with an error of JSON-RPC."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class ToolSession:
    """``hello`` is what the server answered to the beginning."""

    def __init__(self, name: str, settings: ToolServer, target: Target, dialer: Dialer | None, timeout: float) -> None:
        self._name = name
        self._settings = settings
        self._target, self._dialer, self._timeout = target, dialer, timeout
        self._session: ClientSession | None = None
        self._ready = asyncio.Event()
        self._leave = asyncio.Event()
        self._why = ""
        self._unasked = 0  # bytes on a line's connection since the last request
        self._status = 0  # of the last answer of HTTP
        self.hello: dict[str, Any] = {}
        self.task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        return self.task is None or self.task.done()

    async def begin(self, client: str, version: str) -> None:
        """``client`` and its ``version`` are what the agent calls itself. Raises `ServerFailed`, `ServerRefused`."""
        self.task = asyncio.create_task(self._run(types.Implementation(name=client, version=version)))
        waiting = asyncio.create_task(self._ready.wait())
        try:
            async with asyncio.timeout(self._settings.seconds):
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await self.end()
            raise ServerFailed("timeout", f"no answer within {self._settings.seconds:g} s") from None
        except asyncio.CancelledError:
            self.task.cancel()
            raise
        finally:
            waiting.cancel()
        if not self._ready.is_set():
            raise ServerFailed("down", self._why or "the session could not begin")

    async def request(self, request: types.ClientRequest, seconds: float | None = None) -> dict[str, Any]:
        """The server's result as it came, of the shape that the protocol has. Raises `ServerFailed`, `ServerRefused`."""
        most = self._settings.seconds if seconds is None else seconds
        if self._session is None or self.task is None or self.task.done():
            raise ServerFailed("down", self._why or "the session is over")
        self._unasked = 0
        asked = asyncio.create_task(self._session.send_request(request, _RAW))  # type: ignore[type-var]
        try:
            async with asyncio.timeout(most):
                await asyncio.wait({asked, self.task}, return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    raise ServerFailed("down", self._why or "the session broke off")
                return await asked
        except TimeoutError:
            raise ServerFailed("timeout", f"no answer within {most:g} s") from None
        except MCPError as error:
            if error.error.code == types.CONNECTION_CLOSED:
                self._leave.set()  # the client does not begin again by itself
                raise ServerFailed("down", self._why or "the server hung up or sent too much") from None
            if error.error.code == types.PARSE_ERROR:  # the client's own word for an answer that it cannot read
                raise ServerFailed("bad-answer", _first_line(error)) from None
            raise ServerRefused(error.error.code, error.error.message, error.error.data) from None
        except (ValidationError, ValueError, RuntimeError) as error:
            raise ServerFailed("bad-answer", f"not an answer of the protocol: {_first_line(error)}") from None
        finally:
            asked.cancel()

    async def end(self) -> None:
        self._leave.set()
        if self.task is not None:
            await asyncio.wait({self.task}, timeout=_GOODBYE)
            self.task.cancel()

    async def _run(self, client: types.Implementation) -> None:
        try:
            streams = self._http() if self._settings.transport == "http" else self._lines()
            async with streams as (read, write), ClientSession(read, write, client_info=client) as session:
                hello = await session.initialize()
                self.hello = hello.model_dump(by_alias=True, mode="json", exclude_none=True)
                self._session = session
                self._ready.set()
                await self._leave.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # groups too: whatever a server brings the client to is the session's end, and no more
            said = f" (HTTP {self._status})" if self._status >= 400 else ""
            self._why = self._why or _first_line(_innermost(error)) + said

    # ---- streamable HTTP ----

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[_Streams]:
        link = ServiceLink(self._name, self._target, self._dialer, self._timeout)
        try:
            port = self._target[1] if not isinstance(self._target, str) else 80
            client = httpx2.AsyncClient(
                transport=_Bounded(link, self._settings, self._answered),
                timeout=None,
                headers={"accept-encoding": "identity"},
            )
            url = f"http://{self._name}:{port}{self._settings.path}"
            async with (
                client,
                streamable_http_client(url, http_client=client, max_sse_event_size=self._settings.bytes) as streams,
            ):
                yield streams
        finally:
            await link.close()

    def _answered(self, status: int) -> None:
        self._status = status

    # ---- standard input and output, through a connection of its own ----

    @asynccontextmanager
    async def _lines(self) -> AsyncIterator[_Streams]:
        try:
            reader, writer = await connect(self._target, self._dialer, self._timeout, limit=self._settings.bytes)
        except (OSError, TimeoutError) as error:
            raise ServerFailed("down", _network(error)) from None
        heard, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, told = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with anyio.create_task_group() as group, heard, read, write, told:
                group.start_soon(self._hear, reader, heard)
                group.start_soon(_tell, told, writer)
                yield read, write
                group.cancel_scope.cancel()
        finally:
            writer.transport.abort()

    async def _hear(self, reader: asyncio.StreamReader, heard: Any) -> None:
        async with heard:
            try:
                while line := await reader.readline():
                    self._unasked += len(line)
                    if self._unasked > 2 * self._settings.bytes:
                        raise ValueError
                    with contextlib.suppress(ValidationError):  # what a server prints besides is no message
                        await heard.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
                self._why = self._why or "the server ended"
            except ValueError:
                self._why = f"the server sent a message of more than {self._settings.bytes} bytes, or too much unasked"
            except OSError as error:
                self._why = _network(error)
            finally:
                self._leave.set()


async def _tell(told: Any, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        async for message in told:
            writer.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await writer.drain()


class _Bounded(httpx2.AsyncBaseTransport):
    """Requests of the official client over the pod's link; an answer that is too long, or takes too long, breaks off."""

    def __init__(self, link: ServiceLink, settings: ToolServer, answered: Callable[[int], None]) -> None:
        self._link, self._settings, self._answered = link, settings, answered

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            # A stream by which a server asks and tells by itself, or one that is taken up again: as often as the server likes.
            return httpx2.Response(405, request=request)
        body = await request.aread()
        deadline = asyncio.get_running_loop().time() + self._settings.seconds
        try:
            async with asyncio.timeout_at(deadline):
                path = request.url.raw_path.decode("ascii")
                answer = await self._link.send(request.method, path, dict(request.headers), body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise httpx2.ConnectError(_network(error)) from None
        self._answered(answer.status)
        if answer.headers.get("content-encoding", "identity") != "identity":
            answer.close()
            raise httpx2.ReadError("the answer is compressed, which was not asked for")
        headers = [(name, value) for name, value in answer.headers.items() if name.lower() != "transfer-encoding"]
        stream = _Answer(answer, self._settings.bytes, deadline)
        return httpx2.Response(answer.status, headers=headers, stream=stream, request=request)


class _Answer(httpx2.AsyncByteStream):
    """At most ``most`` bytes, until ``deadline`` on the loop's clock."""

    def __init__(self, answer: aiohttp.ClientResponse, most: int, deadline: float) -> None:
        self._answer, self._most, self._deadline = answer, most, deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            while chunk := await self._next():
                size += len(chunk)
                if size > self._most:
                    raise httpx2.ReadError(f"the answer is longer than {self._most} bytes")
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise httpx2.ReadError(_network(error)) from None

    async def _next(self) -> bytes:
        async with asyncio.timeout_at(self._deadline):
            return await self._answer.content.readany()

    async def aclose(self) -> None:
        self._answer.close()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


def _network(error: Exception) -> str:
    """What went wrong between the gateway and the server, without the addresses of a pod's inside."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else type(error).__name__


def _first_line(error: BaseException) -> str:
    said = (str(error).splitlines() or [""])[0]
    return (said or type(error).__name__)[:300]

"""Reading JSON from an issue tracker over HTTP: bounded in time, size and depth; the token goes nowhere else."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import re
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from podctl.errors import EnvironmentProblem, SpecError
from podctl.spec.problems import printable

#: One answer: bytes once unpacked, nested values; seconds for all of it, to connect, and between two pieces of it.
MAX_ANSWER = 64 << 20
MAX_DEPTH = 64
ANSWER_S = 120.0
CONNECT_S = 15.0
SILENCE_S = 30.0
#: Tries of a request that the server, or the way to it, failed.
TRIES = 5
_REDIRECTS = 3
#: How long to wait when a server says that there were too many requests and not for how long (GitHub asks for a minute at least).
_UNSAID_S = 60.0
_LOOPBACK = ("localhost", "localhost.localdomain")
#: Answers that say for themselves what was wrong with the request.
_REASONS = ("message", "error", "errorMessages", "description", "detail", "errors")

Say = Callable[[str], None]
Pause = Callable[[float], Awaitable[None]]


class PullFailed(EnvironmentProblem):
    """What was pulled so far is kept; the snapshot is as it was."""

    def __init__(self, what: str, *, code: str, cause: str = "", hint: str = "") -> None:
        super().__init__(what, code=code, cause=cause, unchanged="the snapshot is as it was", hint=hint)


@dataclass(frozen=True)
class Answer:
    """``now`` is the server's own clock."""

    value: Any
    headers: Mapping[str, str]
    now: datetime


class Client:
    """One server. ``say`` is told of every wait; ``patience`` bounds their sum, in seconds.

    Raises `SpecError` for a URL that must not be used, or a token that is not there.
    """

    def __init__(
        self,
        url: str,
        *,
        environment: Mapping[str, str],
        token_env: str | None,
        user: str | None = None,
        patience: float = 900.0,
        say: Say = lambda text: None,
        pause: Pause = asyncio.sleep,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._base = URL(url.rstrip("/") + "/")
        self._host = self._base.host or ""
        self._is_loopback = is_loopback(self._host)
        if self._base.scheme != "https" and not self._is_loopback:
            raise SpecError(
                f"{printable(url, 80)}: a token would be readable on the way",
                code="pull-insecure",
                unchanged="nothing was sent",
                hint="use https://; http:// is for 127.0.0.1 and ::1",
            )
        self._token_env = token_env
        self._headers = {
            "Accept": "application/json",
            "User-Agent": "podctl",
            **(headers or {}),
            **authorization(environment, token_env, user),
        }
        self._patience = patience
        self._left = patience
        self.say = say
        self._pause = pause
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        # Not trust_env: it would let ~/.netrc replace the token.
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S, sock_read=SILENCE_S),
            max_line_size=32 << 10,
            max_field_size=64 << 10,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, parameters: Mapping[str, str]) -> Answer:
        """The answer's JSON. Waits when the server asks for it, tries again what failed on the way.

        Raises `PullFailed`.
        """
        url = self._base.join(URL(path)).with_query(dict(parameters))
        for attempt in range(1, TRIES + 1):
            try:
                return await self._asked(url, attempt)
            except _Again as again:
                if attempt == TRIES:
                    raise PullFailed(
                        f"{self._host} failed {TRIES} times: {again.why}",
                        code="pull-server",
                        hint="the same command goes on from the last page",
                    ) from again
                await self._wait(again.seconds, again.why)
        raise AssertionError("the last try returns or raises")

    async def _asked(self, url: URL, attempt: int) -> Answer:
        """Through redirects within the host, and waits that the server asks for, which are no tries."""
        backoff = float(2 ** (attempt - 1))
        redirects = 0
        while True:
            status, headers, body = await self._sent(url, backoff)
            now = _date(headers)
            if status in (301, 302, 303, 307, 308):
                redirects += 1
                url = self._redirected(url, headers.get("Location", ""), redirects)
                continue
            limited = wait_asked_for(status, headers, body, now)
            if limited is not None:
                await self._wait(limited, "it asks for a pause")
                continue
            if status >= 500:
                asked = _seconds(headers.get("Retry-After"), now)
                raise _Again(f"it answered {status}", asked if asked is not None else backoff)
            if status >= 400:
                raise self._refused(status, body)
            try:
                return Answer(decode(body), headers, now)
            except json.JSONDecodeError as error:
                raise _Again(f"its answer is no whole JSON ({error.msg})", backoff) from error
            except ValueError as error:
                raise PullFailed(f"the answer of {self._host} cannot be used: {error}", code="pull-answer") from error

    async def _sent(self, url: URL, backoff: float) -> tuple[int, Mapping[str, str], bytes]:
        assert self._session is not None
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._session.get(url, headers=self._headers, allow_redirects=False, proxy=self._proxy(url)) as response,
            ):
                body = bytearray()
                async for chunk in response.content.iter_chunked(64 << 10):
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise PullFailed(
                            f"{self._host} sent more than {MAX_ANSWER >> 20} MiB in one answer",
                            code="pull-answer",
                            hint="ask for fewer fields",
                        )
                return response.status, response.headers, bytes(body)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, aiohttp.ClientSSLError) as error:
            raise PullFailed(
                f"the certificate of {self._host} is not trusted",
                code="pull-certificate",
                cause=printable(str(error)),
                hint="name your authority's certificates with SSL_CERT_FILE",
            ) from error
        except TimeoutError as error:
            raise _Again("it did not answer in time", backoff) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Again(printable(str(error) or type(error).__name__), backoff) from error

    def _proxy(self, url: URL) -> str | None:
        if self._is_loopback or urllib.request.proxy_bypass(self._host):
            return None
        return urllib.request.getproxies().get(url.scheme)

    def _redirected(self, url: URL, location: str, count: int) -> URL:
        try:
            target = url.join(URL(location))
            same = location != "" and target.origin() == self._base.origin()
        except ValueError:
            same = False
        if not same or count > _REDIRECTS:
            raise PullFailed(
                f"{self._host} redirects to {printable(urlsplit(location).netloc or location, 80) or 'nowhere'}",
                code="pull-redirect",
                cause="the token was not sent there" if self._token_env else "it was not followed",
                hint="if the tracker moved, name its new address as the url",
            )
        return target

    async def _wait(self, seconds: float, why: str) -> None:
        if seconds > self._left:
            raise PullFailed(
                f"{self._host} asks for a pause of {seconds:,.0f} seconds; {self._left:,.0f} of {self._patience:,.0f} are left",
                code="pull-patience",
                cause=why,
                hint="the same command goes on from the last page, later; or raise pull.patience",
            )
        self._left -= seconds
        if seconds >= 1:
            self.say(f"waiting {seconds:,.0f} s for {self._host}: {why}")
        await self._pause(seconds)

    def _refused(self, status: int, body: bytes) -> PullFailed:
        said = reason(body)
        variable = f"${self._token_env}" if self._token_env else "no token"
        if status == 401:
            return PullFailed(
                f"{self._host} does not accept the token (401)" if self._token_env else f"{self._host} wants a token (401)",
                code="pull-token",
                cause=said,
                hint=f"{variable} is expired, revoked or somebody else's: make a new one, and type the same again"
                if self._token_env
                else "name an environment variable that has one: token_env",
            )
        if status in (403, 404):
            what = "may not read this" if status == 403 else "has no such thing, or may not see it"
            return PullFailed(
                f"{self._host}: the account {what} ({status})",
                code="pull-permission",
                cause=said,
                hint=f"check the names in the spec, and that the account of {variable} may read them",
            )
        return PullFailed(
            f"{self._host} refuses the request ({status})",
            code="pull-refused",
            cause=said,
            hint="check the query in the spec; if a cursor of an interrupted pull expired, --full begins anew",
        )


class _Again(Exception):
    """Worth another try after so many seconds."""

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.why, self.seconds = why, seconds


def authorization(environment: Mapping[str, str], token_env: str | None, user: str | None) -> dict[str, str]:
    """The header. Raises `SpecError` when the variable has nothing, or what no header can have."""
    if token_env is None:
        return {}
    token = environment.get(token_env, "").strip()
    if not token:
        raise SpecError(
            f"there is no token: {token_env} is not set",
            code="pull-token",
            unchanged="nothing was sent",
            hint=f"export {token_env}=…, which podctl keeps to itself; or token_env: null to ask without",
        )
    if not token.isascii() or not token.isprintable():
        raise SpecError(f"{token_env} holds what no token can have", code="pull-token", unchanged="nothing was sent")
    if user is None:
        return {"Authorization": f"Bearer {token}"}
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode("ascii")}


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOOPBACK


def wait_asked_for(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> float | None:
    """Seconds, when the answer says that there were too many requests; None when it is about something else.

    GitHub answers 403 or 429, with Retry-After, or with X-RateLimit-Remaining: 0 and X-RateLimit-Reset in epoch seconds, or says so in words
    (docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api). Jira answers 429 with Retry-After and X-RateLimit-Reset as
    ISO 8601 (developer.atlassian.com/cloud/jira/platform/rate-limiting), Zendesk 429 with Retry-After
    (developer.zendesk.com/api-reference/introduction/rate-limits), ServiceNow 429 with Retry-After and X-RateLimit-Reset in epoch seconds.
    """
    spent = headers.get("X-RateLimit-Remaining") == "0"
    worded = status == 403 and re.search(rb"rate limit|abuse detection", body[:4096], re.IGNORECASE) is not None
    if status != 429 and not (status == 403 and (spent or worded or "Retry-After" in headers)):
        return None
    asked = _seconds(headers.get("Retry-After"), now)
    if asked is None and (spent or status == 429):
        asked = _seconds(headers.get("X-RateLimit-Reset"), now, absolute=True)
    return max(1.0, asked) if asked is not None else _UNSAID_S


def _seconds(written: str | None, now: datetime, *, absolute: bool = False) -> float | None:
    """From now: of a number (seconds, or with ``absolute`` the epoch's), or of a date as HTTP or ISO 8601 has it."""
    text = (written or "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
        return max(0.0, float(text) - now.timestamp()) if absolute else float(text)
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except (ValueError, TypeError, IndexError):
            continue
        return max(0.0, (moment.astimezone(UTC) - now).total_seconds())
    return None


def _date(headers: Mapping[str, str]) -> datetime:
    """The server's clock: waits and watermarks go by it, not by this machine's."""
    try:
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError, IndexError):
        return datetime.now(UTC)


def decode(body: bytes) -> Any:
    """JSON as trackers send it. A NUL is replaced, a number beyond 64 bits is text, NaN null.

    Raises `json.JSONDecodeError`, and ValueError for deep nesting and for what is no UTF-8.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is no UTF-8") from error
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    return _cleaned(value, 0)


def _integer(text: str) -> int | str:
    return text if len(text) > 19 or abs(int(text)) >= 2**63 else int(text)


def _cleaned(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        return value.replace("\0", "�") if "\0" in value else value
    if isinstance(value, list):
        return [_cleaned(entry, depth + 1) for entry in value]
    if isinstance(value, dict):
        return {_cleaned(key, depth): _cleaned(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def reason(body: bytes) -> str:
    """What a refusal says, on a line that a terminal can have."""
    try:
        value = decode(body[: 64 << 10])
    except ValueError:
        return ""
    found: list[str] = []
    pending = [value]
    while pending and len(found) < 5:
        entry = pending.pop(0)
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, list):
            pending += entry[:5]
        elif isinstance(entry, dict):
            pending += [entry[name] for name in _REASONS if name in entry]
    return printable("; ".join(dict.fromkeys(text for text in found if text.strip())), 300)

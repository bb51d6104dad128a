"""A gateway process with one pod, for tests: ``asyncio.run(rigged(tmp_path, work, …))``."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podctl.evidence.log import read_stream
from podctl.evidence.records import Record
from podctl.gateway.client import Door, Gateway
from podctl.gateway.contract import AttemptPass, GatewayConfig, Totals
from podctl.spec.models import Price, Upstream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

KEY = "podctl-attempt-key"
REAL_KEY = "sk-real-provider-key"
PRICE = Price(input=Decimal(2), output=Decimal(10), cache_read=Decimal("0.5"), cache_write=Decimal(3))
MODELS = (
    "ok",
    "429-once",
    "500",
    "redirect",
    "half",
    "no-usage",
    "huge",
    "slow",
    "pausing",
    "echo-key",
    "echo-cut-key",
    "claude",
    "embed",
)
PRICES = {f"fake-{name}": PRICE for name in MODELS} | {"scripted-demo": PRICE}


def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    return sock


class Rig:
    """``events`` is what the gateway reported; ``base`` the address of the gateway door."""

    def __init__(self, gateway: Gateway, directory: Path, events: list[dict[str, Any]]) -> None:
        self.gateway = gateway
        self.directory = directory
        self.events = events
        self.ports: dict[str, int] = {}

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    async def open_pod(
        self, targets: dict[str, tuple[str, tuple[str, int]]] | None = None, dialer: Any = None, pod: str = "p1"
    ) -> None:
        """``targets``: door name -> (kind, target)."""
        doors = [Door("gateway", "gateway", listener())]
        doors += [Door(kind, name, listener(), target) for name, (kind, target) in (targets or {}).items()]  # type: ignore[arg-type]
        self.ports |= {door.name: door.listener.getsockname()[1] for door in doors}
        await self.gateway.open_pod(pod, doors, dialer)

    async def open(self, attempt: str = "0001-1", pod: str = "p1", **grant: Any) -> None:
        grant = {"key": KEY, "tokens": 1_000_000, "dollars": Decimal(5), "spans": 100} | grant
        await self.gateway.open_attempt(
            AttemptPass(attempt=attempt, pod=pod, evidence=self.directory / f"{attempt}.gw", **grant)
        )

    async def close(self, attempt: str = "0001-1") -> tuple[Totals, list[Record]]:
        totals = await self.gateway.close_attempt(attempt)
        return totals, self.records(attempt)

    def records(self, attempt: str = "0001-1", kind: str | None = None) -> list[Record]:
        return [record for record in read_stream(self.directory / f"{attempt}.gw") if kind in (None, record.kind)]

    def openai(self, key: str = KEY) -> AsyncOpenAI:
        from openai import AsyncOpenAI  # slow to import, and not every test needs it

        return AsyncOpenAI(base_url=self.base + "/v1", api_key=key)

    def anthropic(self, key: str = KEY) -> AsyncAnthropic:
        from anthropic import AsyncAnthropic

        return AsyncAnthropic(base_url=self.base, api_key=key)


def peak_mib(pid: int) -> int:
    """The most memory that the process has had resident, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) >> 10


async def rigged(
    directory: Path, work: Callable[[Rig], Awaitable[None]], upstream: Upstream | None = None, **config: Any
) -> None:
    events: list[dict[str, Any]] = []
    keys = {"openai": REAL_KEY, "anthropic": REAL_KEY}
    settings = GatewayConfig(upstream=upstream or Upstream(), keys=keys, retry_base=0.02, **config)
    gateway = await Gateway.start(settings, events.append)
    try:
        async with asyncio.timeout(25):
            await work(Rig(gateway, directory, events))
    finally:
        await gateway.stop()


def live(url: str, **more: Any) -> Upstream:
    return Upstream(**{"mode": "live", "openai_url": url + "/v1", "anthropic_url": url, "prices": PRICES} | more)

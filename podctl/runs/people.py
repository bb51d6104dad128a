"""Between the gateway, where proposals wait, and the store, where people answer them."""

from __future__ import annotations

import asyncio
from typing import Any

from podctl.clock import Clock
from podctl.evidence.store import Store
from podctl.evidence.store_rows import Question
from podctl.faults import point
from podctl.gateway.client import Gateway

#: Seconds between two looks for answers, while some are waited for.
_LOOK_S = 0.3


class People:
    """Of one run, in the process that works on it."""

    def __init__(self, run: str, store: Store, gateway: Gateway, clock: Clock) -> None:
        self._run = run
        self._store = store
        self._gateway = gateway
        self._clock = clock
        self._waiting: dict[str, str] = {}  # proposal -> attempt, as the gateway calls it
        self._some = asyncio.Event()
        self._writing = asyncio.Lock()

    async def told(self, event: dict[str, Any]) -> None:
        """The gateway's word that a person is to be asked, or need not be any more. Raises `StoreProblem`."""
        if event["event"] == "proposal-ended":
            async with self._writing:
                if self._waiting.pop(event["id"], None) is not None:
                    await asyncio.to_thread(self._store.end_questions, self._run, event["id"])
            return
        asked, attempt = event["proposal"], event["attempt"]
        now, until = self._clock.wall_ns(), int(asked["until"] * 1e9)
        question = Question(asked["id"], self._run, attempt.removeprefix(f"{self._run}."), now, until, "waiting", asked)
        async with self._writing:
            self._waiting[question.id] = attempt
            await asyncio.to_thread(self._store.ask, question)
        point("approval.asked")
        self._some.set()

    async def listen(self) -> None:
        """Hand answers to the gateway until cancelled. What a killed podctl asked nobody may answer any more. Raises `PodctlError`."""
        await asyncio.to_thread(self._store.end_questions, self._run)
        while True:
            await self._some.wait()
            if not self._waiting:
                self._some.clear()
                continue
            for proposal, envelope in await asyncio.to_thread(self._store.take_answers, self._run):
                point("approval.taken")
                attempt = self._waiting.get(proposal)
                if attempt is not None:
                    refused = await self._gateway.grant(attempt, proposal, envelope)
                    point("approval.granted")
                    if refused:
                        await asyncio.to_thread(self._store.wait_again, self._run, proposal)
            await asyncio.sleep(_LOOK_S)

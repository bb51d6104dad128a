"""What sets a rival or a migration off: the agent's calls and statements, however they are cut into pieces."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest

from podctl.gateway.trigger import Statements, Trigger


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def startup() -> bytes:
    body = struct.pack(">i", 196608) + b"user\0ag\0\0"
    return struct.pack(">ii", 8, 80877103) + struct.pack(">i", len(body) + 4) + body


def extended(text: bytes) -> bytes:
    return (
        message(b"P", b"\0" + text + b"\0\0\0")
        + message(b"B", b"\0\0\0\0")
        + message(b"D", b"P\0")
        + message(b"E", b"\0\0\0\0\0")
        + message(b"S", b"")
    )


SESSION = (
    startup()
    + message(b"p", b"password\0")
    + message(b"Q", b"BEGIN\0")
    + extended(b"select 1")
    + extended(b"  set application_name to 'x'")
    + message(b"Q", b"update t set a = '" + b"x" * 5000 + b"'\0")
    + message(b"Q", b"commit;\0")
    + message(b"d", b"copied" * 100)
    + extended(b"delete from t")
)


def test_statements_are_counted_whatever_pieces_they_come_in() -> None:
    assert Statements().feed(SESSION) == 3
    drawn = random.Random(1)
    for _ in range(200):
        counting, at, found = Statements(), 0, 0
        while at < len(SESSION):
            size = drawn.choice([1, 2, 3, 7, 50, 5000])
            found += counting.feed(SESSION[at : at + size])
            at += size
        assert found == 3


@pytest.mark.parametrize("junk", [b"\x16\x03\x01" + b"\xff" * 500, b"\0" * 4096, startup() + b"Q\0\0\0\0" + b"x" * 900])
def test_what_is_no_protocol_is_no_statement_and_is_not_kept(junk: bytes) -> None:
    counting = Statements()
    assert counting.feed(junk) + counting.feed(b"Q" * 100_000) == 0 and len(counting._buffer) < 200


def test_a_message_of_a_gigabyte_takes_no_memory() -> None:
    counting = Statements()
    counting.feed(startup())
    assert counting.feed(b"Q" + struct.pack(">i", 2**30) + b"select '" + b"x" * 200) == 1
    for _ in range(64):
        counting.feed(b"x" * 2**20)
    assert len(counting._buffer) < 200


def test_the_call_after_so_many_is_held_until_it_happened() -> None:
    async def go() -> list[str]:
        told: list[str] = []
        trigger = Trigger(2, lambda: told.append("now"))

        async def call(name: str) -> None:
            await trigger.before_call()
            told.append(name)

        await call("one")
        await call("two")
        held = [asyncio.ensure_future(call(name)) for name in ("three", "four")]
        await asyncio.sleep(0.05)
        told.append("it happened")
        trigger.release()
        await asyncio.gather(*held)
        await call("five")
        return told

    assert asyncio.run(go()) == ["one", "two", "now", "it happened", "three", "four", "five"]


def test_variants_without_such_a_fault_have_none() -> None:
    assert Trigger.of({}, list) is None and Trigger.of({"faults": [{"kind": "latency"}]}, list) is None

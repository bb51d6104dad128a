"""Finding honeytokens however they are written, wherever they begin, and in whatever pieces they come."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.honey.planting import NOTHING, plant
from podctl.honey.search import Hit, Search, Watch
from podctl.spec.honeytokens import Honeytokens

TOKEN = "Zk3b8dB923f8e53cEc67a3Qx"
#: Form -> how somebody would write what has the token in it.
WRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "reversed": lambda data: data[::-1],
    "hexadecimal": lambda data: data.hex(":").upper().encode(),
    "escaped": lambda data: json.dumps("".join(f"\\u{byte:04X}" for byte in data)).encode(),
    "base64": base64.encodebytes,
    "base32": base64.b32encode,
}


@pytest.mark.parametrize("form", WRITTEN)
@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.integers(1, 60), max_size=8))
def test_a_token_is_found_in_each_form_wherever_it_begins(form: str, before: bytes, after: bytes, cuts: list[int]) -> None:
    sent = WRITTEN[form](before + TOKEN.encode() + after)
    feed = Watch({"here": TOKEN, "there": TOKEN[::-1] + "9"}).stream("sink")
    hits: list[Hit] = []
    for cut in cuts:
        hits += feed(sent[:cut])
        sent = sent[cut:]
    hits += feed(sent)
    assert Hit("here", form) in hits


@pytest.mark.parametrize(
    "write",
    [
        lambda token: base64.urlsafe_b64encode(b"\xff\xfe" + token),
        lambda token: "".join(f"%{byte:02x}" for byte in token).encode(),
        lambda token: "".join(f"\\x{byte:02x}" for byte in token).encode(),
        lambda token: ", ".join(f"0x{byte:02X}" for byte in token).encode(),
        lambda token: b".".join((token[:9], token[9:])) + b".attacker.example",
        lambda token: quote(token.decode().swapcase()).encode(),
        lambda token: token.decode().encode("utf-16-le"),
    ],
)
def test_and_in_those_of_addresses_programs_and_names(write: Callable[[bytes], bytes]) -> None:
    assert Search({"here": TOKEN}).find(write(TOKEN.encode()))


@given(st.binary(max_size=4000))
def test_nothing_is_found_in_other_data(data: bytes) -> None:
    search = Search(plant(Honeytokens()).tokens)
    assert not search.find(data, base64.b64encode(data), data.hex().encode())


def test_a_part_of_a_token_is_none() -> None:
    assert not Search({"here": TOKEN}).find(TOKEN[:-1].encode(), TOKEN[1:].encode())


def test_each_place_and_sink_is_told_once() -> None:
    watch = Watch({"a": TOKEN, "b": TOKEN.swapcase()[::-1] + "7"})
    assert watch.look("one", TOKEN.encode(), TOKEN.encode().hex().encode()) == [Hit("a", "plain")]
    assert watch.look("one", TOKEN.encode()) == []
    assert watch.look("two", TOKEN.encode()) == [Hit("a", "plain")]


def test_a_stream_keeps_little_of_a_flood() -> None:
    feed = Watch({"here": TOKEN}).stream("sink")
    rng = random.Random(1)
    for _ in range(50):
        assert feed(rng.randbytes(1 << 16)) == []
    assert feed(TOKEN[:7].encode()) == [] and feed(TOKEN[7:].encode()) == [Hit("here", "plain")]


@pytest.mark.parametrize("value", ["short", "with-a-dash-in-its-middle", "ümlaut" * 6])
def test_a_token_that_could_be_found_by_chance_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="at least 16 letters and digits"):
        Search({"here": value})


def test_what_is_planted_is_new_each_time() -> None:
    asked = Honeytokens.model_validate(
        {"rows": {"db": {"public.items": {"id": 9, "label": "x {honeytoken}", "note": None, "live": True}}}}
    )
    first, second = plant(asked), plant(asked)
    assert set(first.tokens) == {"variable ADMIN_API_TOKEN", "file .admin-token", "row of db.public.items"}
    assert not set(first.tokens.values()) & set(second.tokens.values())
    [(schema, table, row)] = first.rows["db"]
    assert (schema, table) == ("public", "items")
    assert row == {"id": "9", "label": f"x {first.tokens['row of db.public.items']}", "note": None, "live": "true"}
    assert first.environment["ADMIN_API_TOKEN"] not in repr(first)
    assert plant(None) is NOTHING

"""No planted secret gets through, in any form it travels in."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from podctl.evidence.redact import MARK, SHORTEST, Redactor

secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=SHORTEST, max_size=24) | st.text(
    st.sampled_from('abcXYZ019-_+/="\\ %&\n'), min_size=SHORTEST, max_size=24
)
around = st.binary(max_size=7)


def percent_every_byte(secret: str) -> str:
    return "".join(f"%{byte:02x}" for byte in secret.encode())


def percent_some(secret: str) -> str:
    return "".join(urllib.parse.quote(character, safe="") if at % 2 else character for at, character in enumerate(secret))


def json_text(secret: str) -> str:
    return json.dumps(secret)[1:-1]


ENCODERS = {
    "raw": lambda secret: secret,
    "hex": lambda secret: secret.encode().hex(),
    "HEX": lambda secret: secret.encode().hex().upper(),
    "hex with colons": lambda secret: secret.encode().hex(":"),
    "url": lambda secret: urllib.parse.quote(secret),
    "url, nothing safe": lambda secret: urllib.parse.quote(secret, safe=""),
    "form": urllib.parse.quote_plus,
    "every byte percent-encoded": percent_every_byte,
    "url, lower case": lambda secret: urllib.parse.quote(secret, safe="").replace("%C", "%c").replace("%E", "%e"),
    "some characters percent-encoded": percent_some,
    "json": json_text,
    "json as UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "json in json": lambda secret: json_text(json_text(secret)),
    "json of PHP": lambda secret: json_text(secret).replace("/", "\\/"),
    "json, all escaped": lambda secret: "".join(f"\\u{unit:04X}" for unit in units(secret)),
}


def units(secret: str) -> list[int]:
    raw = secret.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


@settings(max_examples=150, deadline=None)
@given(secrets, st.sampled_from(sorted(ENCODERS)), st.text(st.sampled_from("xyz .\\%"), max_size=4))
def test_no_encoding_of_a_secret_gets_through(secret: str, name: str, beside: str) -> None:
    encoded = ENCODERS[name](secret)
    redactor = Redactor([secret])
    for cleaned in (
        redactor.text(f"{beside}{encoded}{beside}"),
        redactor.bytes(f"{beside}{encoded}{beside}".encode()).decode(),
        json.dumps(redactor.value([{encoded: [f"{beside}{encoded}"]}]), ensure_ascii=False),
    ):
        assert MARK in cleaned
        assert encoded not in cleaned.replace(MARK, "")


@settings(max_examples=150, deadline=None)
@given(secrets, around, around, st.booleans(), st.sampled_from(["plain", "percent", "json", "unpadded"]))
def test_base64_leaks_no_character_that_holds_bits_of_the_secret_alone(
    secret: str, before: bytes, after: bytes, urlsafe: bool, form: str
) -> None:
    raw = secret.encode()
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    encoded = encode(before + raw + after).decode()
    first, last = 8 * len(before) // 6, -(-8 * (len(before) + len(raw)) // 6)
    own = encoded[first:last]
    assume(own not in encoded[:first] + encoded[last:])
    shown = {
        "plain": encoded,
        "percent": urllib.parse.quote(encoded, safe=""),
        "json": encoded.replace("/", "\\/"),
        "unpadded": encoded.rstrip("="),
    }[form]
    cleaned = Redactor([secret]).text(shown)
    # What is left is what was written before and after, no character of the secret's own.
    left, mark, right = cleaned.partition(MARK)
    assert mark
    kept = {"percent": urllib.parse.unquote, "json": lambda text: text.replace("\\/", "/")}.get(form, str)
    assert encoded[:first].startswith(kept(left))
    assert encoded[last:].endswith(kept(right)) or kept(right) == encoded[last:].rstrip("=")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=40), st.lists(secrets, max_size=2))
def test_what_holds_no_secret_stays_as_it_is(text: str, planted: list[str]) -> None:
    assume(not any(secret in text for secret in planted))
    assume(not any(character in text for character in "%\\+"))
    redactor = Redactor(planted)
    assert redactor.text(text) == text
    assert redactor.value({"a": [text, None, True, 1.5]}) == {"a": [text, None, True, 1.5]}


def test_the_words_around_a_secret_stay() -> None:
    redactor = Redactor(["sk-live-51H8xyz", "sk-live"])
    assert redactor.text("key=sk-live-51H8xyz; next") == f"key={MARK}; next"
    assert redactor.text("only sk-live here") == f"only {MARK} here"
    basic = base64.b64encode(b"user:sk-live-51H8xyz").decode()
    assert redactor.text(f"Authorization: Basic {basic}") == f"Authorization: Basic dXNlcj{MARK}"


def test_secrets_that_overlap_go_whole() -> None:
    redactor = Redactor(["alpha-beta", "beta-gamma", "000000"])
    assert redactor.text("x alpha-beta-gamma y") == f"x {MARK} y"
    assert redactor.text("alpha-betabeta-gamma") == MARK
    assert redactor.text("alpha-beta alpha-beta") == f"{MARK} {MARK}"
    assert redactor.text("10000000001") == f"1{MARK}1"
    assert redactor.text(base64.b64encode(b"0000000").decode()) == MARK


def test_values_are_redacted_wherever_the_secret_stands() -> None:
    redactor = Redactor(["12345678"])
    value = {"k12345678": 912345678, "n": 1234567, "f": 12345678.5, "t": True, "l": ["12345678", None], "e": {}}
    expected = {f"k{MARK}": MARK, "n": 1234567, "f": MARK, "t": True, "l": [MARK, None], "e": {}}
    assert redactor.value(value) == expected


def test_a_nested_value_is_never_let_through_unseen() -> None:
    deep: object = "hunter2-hunter2"
    for _ in range(5000):
        deep = [deep]
    assert "hunter2" not in repr(Redactor(["hunter2-hunter2"]).value(deep))


def test_placeholders_are_left() -> None:
    text = "x none EMPTY abcde"
    assert Redactor(["x", "", "none", "EMPTY", "abcde"]).text(text) == text


@pytest.mark.parametrize("hostile", [b"\\" * 200_000, b"%5c" * 60_000, b"aA" * 100_000, b"\\u005c" * 30_000, b"/" * 200_000])
def test_hostile_text_takes_no_unreasonable_time(hostile: bytes) -> None:
    redactor = Redactor(["\\\\a\\\\b\\\\", 'aaaa"/"/"/"/', "aAaAaAaAaAaAab", "////////+"])
    begun = time.monotonic()
    redactor.bytes(hostile)
    assert time.monotonic() - begun < 3

"""Reading answers and screening requests: pure parts, with answers cut anywhere and numbers nobody should believe."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.errors import SpecError
from podctl.evidence.records import Tokens
from podctl.gateway.bounds import body_text, bounded
from podctl.gateway.prices import PriceBook, load_lock, upper_bound
from podctl.gateway.screen import output_bound, screen
from podctl.gateway.usage import StreamReader, anthropic_tokens, openai_tokens, read_body
from podctl.prices.lock import lock, write_lock
from podctl.spec.load import load_model
from podctl.spec.prices import AgreedPrice, Price, PriceLock, Prices, TieredPrice

USAGE = {"prompt_tokens": 10, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 2}}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


CHAT = [
    event({"model": "m", "choices": [{"index": 0, "delta": {"content": "hé"}}]}),
    b": a comment\r\n\r\n",
    event(
        {
            "choices": [
                {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}}
            ]
        }
    ),
    event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}}]}),
    event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
]
TAIL = [event({"choices": [], "usage": USAGE}), b"data: [DONE]\n\n"]


@given(st.lists(st.integers(1, 40), min_size=1), st.booleans())
def test_a_stream_reads_the_same_however_it_is_cut(sizes: list[int], strip: bool) -> None:
    whole = b"".join(CHAT + TAIL)
    reader = StreamReader("chat", strip)
    passed, at, turn = b"", 0, 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        passed += reader.feed(whole[at : at + size])
        at, turn = at + size, turn + 1
    passed += reader.close()
    assert passed == (b"".join([*CHAT, TAIL[1]]) if strip else whole)
    reading = reader.reading
    assert reading.tokens == Tokens(input=10, output=5, reasoning=2) and reading.complete
    assert (reading.text, reading.finish_reasons, reading.response_model) == ("hé", ["tool_calls"], "m")
    assert reading.tool_calls == [{"id": "c", "name": "f", "arguments": "{}"}]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"prompt_tokens": "10", "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
        {"prompt_tokens": 1, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}},
        {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": "x"},
    ],
)
def test_usage_that_makes_no_sense_is_unknown(usage: Any) -> None:
    assert openai_tokens(usage) is None
    assert read_body("chat", json.dumps({"usage": usage}).encode()).tokens is None


def test_cache_writes_that_live_an_hour_cost_more() -> None:
    usage = {
        "input_tokens": 5,
        "output_tokens": 1,
        "cache_creation_input_tokens": 1000,
        "cache_creation": {"ephemeral_1h_input_tokens": 1000},
    }
    tokens, hour = anthropic_tokens(usage)
    assert tokens == Tokens(input=5, cache_write=1000, output=1) and hour == 1000
    rates = PriceBook({}).find("anthropic", "claude-sonnet-4-5")
    assert rates is not None and rates.source == "genai-prices"
    assert rates.dollars(tokens, hour) - rates.dollars(tokens) == Decimal("0.00225")
    assert upper_bound(rates, 1005, 1) >= rates.dollars(tokens, hour)
    assert PriceBook({}).find("openai", "nobody-knows-this") is None


def test_with_a_lock_nothing_else_has_a_price(tmp_path: Path) -> None:
    own = AgreedPrice(price=TieredPrice(input=Decimal(1), output=Decimal(2)), until=date(2026, 1, 31))
    write_lock(tmp_path / "prices.lock", lock(Prices(apiVersion="podctl/v1", kind="Prices"), {"own": own}, date(2026, 1, 1)))
    with pytest.raises(SpecError, match="over"):
        load_lock(tmp_path / "prices.lock")
    locked = load_model(tmp_path / "prices.lock", PriceLock)
    book = PriceBook({"named": Price(input=Decimal(3), output=Decimal(3))}, locked)
    found, named = book.find("openai", "own"), book.find("openai", "named")
    assert found is not None and found.source == "price lock 2026-01-01"
    assert found.dollars(Tokens(input=1_000_000, reasoning=1_000_000)) == 3
    assert named is not None and named.source == "scenario"
    assert book.find("openai", "gpt-5") is None


def test_an_interrupted_anthropic_stream_has_no_usage() -> None:
    reader = StreamReader("messages", False)
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}
    reader.feed(event(start))
    assert reader.reading.tokens is None and not reader.reading.complete


@pytest.mark.parametrize(
    ("api", "body", "refused"),
    [
        ("chat", {"tools": [{"type": "function"}]}, None),
        ("chat", {"tools": [{"type": "mcp"}]}, "tool mcp"),
        ("responses", {"tools": [{"type": "code_interpreter"}]}, "tool code_interpreter"),
        ("responses", {"background": True}, "background"),
        ("responses", {"input": [{"type": "input_image", "image_url": "https://x"}]}, "image_url"),
        ("responses", {"input": [{"type": "input_file", "file_id": "f"}]}, "file_id"),
        ("messages", {"tools": [{"name": "t"}, {"type": "text_editor_20250728"}, {"type": "memory_20250818"}]}, None),
        ("messages", {"tools": [{"type": "code_execution_20250825"}]}, "tool code_execution_20250825"),
        ("messages", {"container": "c"}, "container"),
        (
            "messages",
            {"messages": [{"content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]}]},
            "url source",
        ),
        ("messages", {"messages": [{"content": [{"type": "tool_use", "input": {"type": "url", "url": "https://x"}}]}]}, None),
        ("chat", {"tools": "none"}, "tools"),
        ("chat", {"tools": [7]}, "tool ?"),
        ("chat", {"service_tier": "priority"}, "service_tier"),
    ],
)
def test_what_of_a_request_may_pass(api: Any, body: dict[str, Any], refused: str | None) -> None:
    found = screen(api, body)
    assert (found and found.what) == refused


def test_the_output_a_call_may_produce() -> None:
    assert output_bound("chat", {"max_tokens": 10, "max_completion_tokens": 20, "n": 3}, 99) == 60
    assert output_bound("chat", {"max_tokens": "10"}, 99) == 99
    assert output_bound("completions", {"prompt": ["a", "b"]}, 99) == 32
    assert output_bound("embeddings", {}, 99) == 0


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_bounded_values_are_json(value: Any) -> None:
    json.dumps(bounded(value), allow_nan=False)


def test_a_recorded_body_cut_within_a_character_stays_text() -> None:
    data = "aé".encode()
    assert body_text(data[:2], 3) == {"text": "a", "truncated": True}
    assert body_text(b"\xff\xfe", 2) == {"base64": "//4="}

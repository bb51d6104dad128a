"""Grants: envelopes that others can verify, and whatever is not one."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from podctl.approvals.actions import canonical
from podctl.approvals.grants import TYPE, Expected, Grant, Refused, sign, verify
from podctl.signing import SigningKey

ALICE, BOB = SigningKey.new(), SigningKey.new()
GRANT = Grant("p" * 32, "d" * 64, "run.0001-1", "pod1", "approved", 1000, 2000, "why")
EXPECTED = Expected(
    "p" * 32, "d" * 64, "run.0001-1", "pod1", {"alice": ALICE.public, "bob": BOB.public}, {BOB.id: "it launched the run"}
)


def why_not(envelope: str, now: float = 1500) -> str:
    with pytest.raises(Refused) as refused:
        verify(envelope, EXPECTED, now)
    return str(refused.value)


def test_a_grant_is_taken_from_who_may_give_it() -> None:
    assert verify(sign(GRANT, ALICE), EXPECTED, 2000) == ("alice", GRANT)
    assert "bob may not answer it: it launched the run" in why_not(sign(GRANT, BOB))
    assert "nobody" in why_not(sign(GRANT, SigningKey.new()))
    assert "time is over" in why_not(sign(GRANT, ALICE), now=2000.5)


def test_another_implementation_of_dsse_verifies_it() -> None:
    envelope = json.loads(sign(GRANT, ALICE))
    read = Envelope.from_dict(envelope)
    key = SSlibKey(ALICE.id, "ed25519", "ed25519", {"public": ALICE.public.raw.hex()})
    assert read.verify([key], 1).keys() == {ALICE.id} and read.payload_type == TYPE


@pytest.mark.parametrize("field", ["proposal", "action", "attempt", "pod"])
def test_a_grant_for_something_else_is_none(field: str) -> None:
    assert why_not(sign(replace(GRANT, **{field: "x"}), ALICE)) == f"it is for another {field}"


@pytest.mark.parametrize(
    "payload",
    [
        [],
        {},
        {**asdict(GRANT), "more": 1},
        {**asdict(GRANT), "not_after": True},
        {**asdict(GRANT), "not_after": 1e300},
        {**asdict(GRANT), "reason": "x" * 501},
        {**asdict(GRANT), "answer": None},
    ],
)
def test_what_was_signed_and_is_no_grant_is_none(payload: Any) -> None:
    text = canonical(payload).encode()
    signed = ALICE.sign(b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(text), text))
    whole = {"payloadType": TYPE, "payload": base64.b64encode(text).decode()}
    whole["signatures"] = [{"sig": base64.b64encode(signed).decode()}]  # type: ignore[assignment]
    assert why_not(json.dumps(whole)) == "it is no grant"


@given(st.integers(0, len(sign(GRANT, ALICE)) - 1), st.characters(codec="utf-8"))
def test_no_changed_character_passes_for_the_same_grant(place: int, character: str) -> None:
    envelope = sign(GRANT, ALICE)
    try:
        assert verify(envelope[:place] + character + envelope[place + 1 :], EXPECTED, 1500) == ("alice", GRANT)
    except Refused:
        pass


@given(
    st.text()
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["payload", "payloadType", "signatures", "sig"]), x),
    ).map(json.dumps)
)
def test_whatever_stands_in_the_store_is_answered(envelope: str) -> None:
    why_not(envelope)

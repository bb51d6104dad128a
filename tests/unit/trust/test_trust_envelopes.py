"""Envelopes and statements as other tools write and read them, and as nobody should."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from certified import ANA, RELEASE, STRANGER, certified, changed, facts, sealed
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope as Theirs
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from podctl.signing import PublicKey, SigningKey
from podctl.trust.certificate import TEST_RESULT, read_certificate
from podctl.trust.documents import MOST, NotTrusted
from podctl.trust.dsse import IN_TOTO, open_envelope, seal
from podctl.trust.verifying import Asked, verify


def theirs(key: SigningKey) -> SSlibKey:
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(key.public.raw), keyid=key.id)


def test_what_podctl_signs_securesystemslib_verifies() -> None:
    envelope = Theirs.from_dict(json.loads(sealed(None, RELEASE, ANA)))
    assert set(envelope.verify([theirs(RELEASE), theirs(ANA)], 2)) == {RELEASE.id, ANA.id}
    with pytest.raises(VerificationError):
        envelope.verify([theirs(STRANGER)], 1)
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([theirs(RELEASE)], 1)


def test_what_securesystemslib_signs_podctl_verifies_whatever_it_calls_the_key() -> None:
    signer = CryptoSigner.generate_ed25519()
    envelope = Theirs(json.dumps(certified()).encode(), IN_TOTO, {})
    envelope.sign(signer)
    raw = bytes.fromhex(signer.public_key.keyval["public"])
    opened = open_envelope(json.dumps(envelope.to_dict()).encode(), "theirs")
    assert opened.signers([RELEASE.public, PublicKey(raw)]) == [PublicKey(raw)]
    assert read_certificate(opened, "theirs").result == "PASSED"


def test_the_format_s_own_example_is_signed_as_its_specification_says() -> None:
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    signed = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    envelope = {
        "payload": "aGVsbG8gd29ybGQ=",
        "payloadType": "http://example.com/HelloWorld",
        "signatures": [{"sig": base64.urlsafe_b64encode(RELEASE.sign(signed)).decode()}],
    }
    assert open_envelope(json.dumps(envelope).encode(), "e").signers([RELEASE.public]) == [RELEASE.public]


def test_the_statement_is_in_toto_s_test_result() -> None:
    document = json.loads(open_envelope(sealed(), "c").payload)
    parsed = Statement([], "", {})
    json_format.ParseDict({**document, "type": document["_type"]}, parsed.pb, ignore_unknown_fields=True)
    parsed.pb.type = document["_type"]
    parsed.validate()
    assert document["predicateType"] == TEST_RESULT
    known = {"result", "configuration", "url", "passedTests", "warnedTests", "failedTests"}
    result = json_format.ParseDict(
        {key: value for key, value in document["predicate"].items() if key in known}, test_result_pb2.TestResult()
    )
    assert result.result == "PASSED"
    assert "gate.pass_rate" in result.passed_tests
    assert {one.name for one in result.configuration} >= {"sample", "boundary", "topology", "scenario", "fidelity", "evidence"}


def test_the_same_run_and_key_give_the_same_bytes() -> None:
    assert sealed() == sealed()


# ---- hostile ------------------------------------------------------------------------


def refused(data: bytes) -> str:
    with pytest.raises(NotTrusted) as caught:
        read_certificate(open_envelope(data, "c"), "c")
    assert caught.value.render().isprintable() or "\n" in caught.value.render()
    return caught.value.cause


def envelope(**fields: Any) -> bytes:
    return json.dumps({**json.loads(sealed()), **fields}).encode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b" " * (MOST + 1), "larger than"),
        (b'{"payload":' + b"[" * 200_000, "nested"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested"),
        (b'{"payload":"","payload":"","payloadType":"","signatures":[]}', "has the key 'payload' twice"),
        (b'{"payload": 1e999}', "out of range"),
        (b'{"payload": NaN}', "NaN"),
        (b'{"payload": ' + b"9" * 5000 + b"}", "more than 19 digits"),
        (b'{"payload": "\\ud800"}', "surrogate"),
        (envelope(more=1), "other keys"),
        (envelope(signatures=[]), "1 to 16 signatures"),
        (envelope(signatures={}), "1 to 16 signatures"),
        (envelope(signatures=[{"sig": "AAAA"}] * 17), "1 to 16 signatures"),
        (envelope(signatures=["x"]), "no object"),
        (envelope(signatures=[{"keyid": 1, "sig": ""}]), "short keyid"),
        (envelope(signatures=[{"keyid": "k"}]), "no base64"),
        (envelope(payload="%%%"), "no base64"),
        (envelope(payload=None), "no base64"),
        (envelope(payloadType=["application/vnd.in-toto+json"]), "payloadType"),
        (envelope(payloadType="application/vnd.in-toto+json "), "payloadType is not"),
        (envelope(payloadType="application/json"), "payloadType is not"),
        (sealed({"_type": "https://in-toto.io/Statement/v1"}), "subject"),
        (sealed({"_type": "https://in-toto.io/Statement/v0.1"}), "_type"),
        (seal({"a": 1}, IN_TOTO, [RELEASE]), "_type"),
    ],
)
def test_what_is_no_certificate_is_refused_in_a_plain_line(data: bytes, why: str) -> None:
    assert why in refused(data)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.update(predicateType="https://slsa.dev/provenance/v1"), "predicateType"),
        (lambda d: d["subject"].append(d["subject"][0]), "subject"),
        (lambda d: d["subject"][0]["digest"].update(sha256="0" * 64), "another agent"),
        (lambda d: d["subject"][0].update(digest={"sha512": "0" * 128}), "another agent"),
        (lambda d: d["predicate"].update(result="passed"), "result"),
        (lambda d: facts(d)["agent"].update(name="support-аgent"), "agent.name"),
        (lambda d: facts(d)["agent"].update(name="support-agent\n"), "agent.name"),
        (lambda d: facts(d)["agent"].update(digest="9F" * 32), "agent.digest"),
        (lambda d: facts(d).update(ended="2025-02-30T00:00:00Z"), "ended"),
        (lambda d: facts(d).update(ended="٢٠٢٥-01-01T00:00:00Z"), "ended"),
        (lambda d: facts(d).update(ended=1_763_700_000), "ended"),
        (lambda d: facts(d).update(started="2035-01-01T00:00:00Z"), "another order"),
        (lambda d: facts(d).update(simulated=True), "says PASSED"),
        (lambda d: facts(d).update(simulated="false"), "simulated"),
        (lambda d: facts(d).update(status="interrupted"), "says PASSED"),
        (lambda d: facts(d).update(verdict="inconclusive"), "says PASSED"),
        (lambda d: (facts(d).update(verdict="fail"), d["predicate"].update(result="WARNED")), "that failed"),
        (lambda d: facts(d)["findings"][0].update(verdict="inconclusive"), "one of its findings"),
        (lambda d: facts(d)["counts"].update(tickets=True), "counts.tickets"),
        (lambda d: facts(d)["counts"].update(tickets=-1), "counts.tickets"),
        (lambda d: facts(d)["counts"].update(tickets="384"), "counts.tickets"),
        (lambda d: facts(d)["counts"].update(passed=10**6), "more passes"),
        (lambda d: facts(d).update(gate={"pass_rate": {"a": []}}), "gate is none"),
        (lambda d: facts(d)["fidelity"].update(score=1.5), "fidelity.score"),
        (lambda d: d["predicate"]["configuration"].append(d["predicate"]["configuration"][0]), "twice"),
        (lambda d: facts(d).update(run="r" * 5000), "run"),
        (lambda d: facts(d).pop("audit"), "audit"),
    ],
)
def test_what_contradicts_itself_or_is_of_another_shape_is_refused_although_it_is_signed(change: Any, why: str) -> None:
    assert why in refused(sealed(changed(change)))


def test_keys_that_are_not_known_are_skipped() -> None:
    newer = changed(lambda d: (d.update(more=1), d["predicate"].update(url="https://x"), facts(d).update(younger={"a": [1]})))
    assert read_certificate(open_envelope(sealed(newer), "c"), "c").result == "PASSED"


ASKED = Asked(keys=[RELEASE.public], agent="0" * 64, now_s=2e9)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes) -> None:
    assert verify(data, "c", ASKED).missing


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_document_of_which_one_part_is_something_else_is_answered_also_when_it_is_signed(data: st.DataObject) -> None:
    """Every place of a good certificate in turn holds anything at all."""
    document = certified()
    parent: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        if not isinstance(parent[key], dict | list) or not parent[key] or data.draw(st.booleans()):
            break
        parent = parent[key]
    parent[key] = data.draw(json_values)
    try:
        signed = sealed(document)
    except ValueError:
        return  # no JSON: nobody can write it
    answer = verify(signed, "c", ASKED)
    assert answer.missing  # never that of the agent that is asked for
    for line in answer.lines:
        assert line.detail.isprintable(), line


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_changes_nothing(place: int, byte: int) -> None:
    good = sealed()
    data = bytearray(good)
    data[place % len(data)] = byte
    answer = verify(bytes(data), "c", Asked(keys=[RELEASE.public], agent="9f4c21ab" * 8, now_s=1763700300.0))
    if answer.certificate is not None:
        assert answer.certificate == read_certificate(open_envelope(good, "c"), "c")
    else:
        assert answer.missing

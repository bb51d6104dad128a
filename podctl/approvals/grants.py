"""What a person answers, signed: bound to one proposal of one attempt, used once, and for a while.

A DSSE envelope (https://github.com/secure-systems-lab/dsse, version 1) with one Ed25519 signature. Envelopes come from the store, which
others write too: everything is bounded, and nothing of them is believed before the signature is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from podctl.approvals.actions import canonical
from podctl.signing import PublicKey, SigningKey
from podctl.strictjson import NotJson, read_json

TYPE = "application/vnd.podctl.approval.v1+json"
#: Characters of an envelope that is read.
MOST = 16_384
_REASON = 500


@dataclass(frozen=True)
class Grant:
    """``proposal`` is the id that the gateway gave it, ``action`` the action's digest; times are seconds since the epoch."""

    proposal: str
    action: str
    attempt: str
    pod: str
    answer: Literal["approved", "denied"]
    issued: int
    not_after: int
    reason: str = ""


@dataclass(frozen=True)
class Expected:
    """What a grant must be for. ``people``: name -> key of who may answer; ``barred``: key ids that may not, and why."""

    proposal: str
    action: str
    attempt: str
    pod: str
    people: Mapping[str, PublicKey]
    barred: Mapping[str, str]


class Refused(Exception):
    """A grant that is none for this proposal; the text says why."""


def sign(grant: Grant, key: SigningKey) -> str:
    """The envelope, one line."""
    payload = canonical(asdict(grant)).encode("ascii")
    signature = {"keyid": key.id, "sig": _encoded(key.sign(_signed(payload)))}
    return json.dumps({"payloadType": TYPE, "payload": _encoded(payload), "signatures": [signature]})


def verify(envelope: str, expected: Expected, now: float) -> tuple[str, Grant]:
    """Who signed it, by name, and what it says. ``now``: seconds since the epoch. Raises `Refused`."""
    payload, signature = _opened(envelope)
    signed = _signed(payload)
    name = next((name for name, key in expected.people.items() if key.verify(signed, signature)), None)
    if name is None:
        raise Refused("nobody whom the scenario lists under approvals.people signed it")
    grant = _grant(payload)
    barred = expected.barred.get(expected.people[name].id)
    if barred:
        raise Refused(f"{name} may not answer it: {barred}")
    for what in ("proposal", "attempt", "pod", "action"):
        if getattr(grant, what) != getattr(expected, what):
            raise Refused(f"it is for another {what}")
    if now > grant.not_after:
        raise Refused("its time is over")
    return name, grant


def _opened(envelope: str) -> tuple[bytes, bytes]:
    if len(envelope) > MOST:
        raise Refused(f"it has more than {MOST:,} characters")
    try:
        value = read_json(envelope)
        if set(value) != {"payloadType", "payload", "signatures"} or value["payloadType"] != TYPE:
            raise Refused("it is no envelope of an approval")
        [signature] = value["signatures"]
        return base64.b64decode(value["payload"], validate=True), base64.b64decode(signature["sig"], validate=True)
    except (NotJson, TypeError, KeyError, ValueError, binascii.Error):
        raise Refused("it is no envelope of an approval") from None


def _grant(payload: bytes) -> Grant:
    try:
        value = read_json(payload)
        grant = Grant(**value)
    except (NotJson, TypeError):
        raise Refused("it is no grant") from None
    texts: tuple[Any, ...] = (grant.proposal, grant.action, grant.attempt, grant.pod, grant.reason)
    times: tuple[Any, ...] = (grant.issued, grant.not_after)
    whole = all(isinstance(one, str) and len(one) <= _REASON for one in texts) and all(type(one) is int for one in times)
    if not whole or grant.answer not in ("approved", "denied"):
        raise Refused("it is no grant")
    return grant


def _signed(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode("ascii"), len(payload), payload)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

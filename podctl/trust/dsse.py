"""Signed documents: DSSE envelopes (https://github.com/secure-systems-lab/dsse, version 1) with Ed25519 signatures. PURE."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope as Encoded
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # exported, and not marked so

from podctl.signing import PublicKey, SigningKey
from podctl.trust.documents import MOST, read_object, refusal

IN_TOTO = "application/vnd.in-toto+json"
_MOST_SIGNATURES = 16
_MOST_NAME = 200


@dataclass(frozen=True)
class Envelope:
    """``signatures``: (what the signer calls the key, which proves nothing; the signature)."""

    payload: bytes
    payload_type: str
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        """sha256 of what was signed: the document's own, whoever signs it once more."""
        return hashlib.sha256(self.payload).hexdigest()

    def signers(self, trusted: Iterable[PublicKey]) -> list[PublicKey]:
        """Those of ``trusted`` that signed it, whatever names the signatures have."""
        signed = _encoded(self.payload, self.payload_type).pae()
        return [key for key in trusted if any(key.verify(signed, signature) for _, signature in self.signatures)]


def seal(document: dict[str, Any], payload_type: str, keys: Sequence[SigningKey]) -> bytes:
    """The envelope's JSON, with a line's end. The same document and keys give the same bytes."""
    payload = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
    envelope = _encoded(payload, payload_type)
    for key in keys:
        envelope.signatures[key.id] = Signature(key.id, key.sign(envelope.pae()).hex())
    return (json.dumps(envelope.to_dict()) + "\n").encode("ascii")


def open_envelope(data: bytes, what: str, most: int = MOST) -> Envelope:
    """``what`` is what messages call it; ``most`` bytes are read. Nobody has checked a signature yet. Raises `NotTrusted`."""
    value = read_object(data, what, most)
    unknown = value.keys() - {"payload", "payloadType", "signatures"}
    if unknown or len(value) != 3:
        raise refusal(what, "it is no DSSE envelope: it has other keys than payload, payloadType and signatures")
    payload_type, signatures = value["payloadType"], value["signatures"]
    if not isinstance(payload_type, str) or len(payload_type) > _MOST_NAME:
        raise refusal(what, "its payloadType is no short text")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= _MOST_SIGNATURES:
        raise refusal(what, f"it does not have 1 to {_MOST_SIGNATURES} signatures", "unsigned")
    return Envelope(_bytes(value["payload"], what), payload_type, tuple(_signature(one, what) for one in signatures))


def _signature(value: Any, what: str) -> tuple[str, bytes]:
    name = value.get("keyid", "") if isinstance(value, dict) else None
    if not isinstance(name, str) or len(name) > _MOST_NAME:
        raise refusal(what, "a signature is no object with a short keyid")
    return name, _bytes(value.get("sig"), what)


def _bytes(value: Any, what: str) -> bytes:
    """Of base64 in either alphabet, as DSSE has it."""
    if not isinstance(value, str):
        raise refusal(what, "a payload or signature is no base64")
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise refusal(what, "a payload or signature is no base64") from None


def _encoded(payload: bytes, payload_type: str) -> Encoded:
    return Encoded(payload, payload_type, {})

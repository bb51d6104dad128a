"""What people say of an agent version, each signed with a key of their own: promotions, waivers; and what is revoked. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from podctl.signing import PublicKey
from podctl.spec.ladder import Demand
from podctl.trust.certificate import STATEMENT, AgentName, Loose, Sha256, Subject, Text, shaped
from podctl.trust.documents import MOST_OF_LIST, read_object, refusal
from podctl.trust.dsse import IN_TOTO, Envelope, open_envelope
from podctl.trust.moments import Moment

PROMOTION = "https://podctl.dev/promotion/v1"
WAIVER = "https://podctl.dev/waiver/v1"
#: Of a list of revocations.
MOST_ENTRIES = 5_000
REVOCATIONS = "application/vnd.podctl.revocations+json"

Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Reason = Annotated[str, Field(min_length=1, max_length=500)]


class Promotion(Loose):
    """``by`` says that this agent digest may have ``level``, having seen the certificate with this digest."""

    ladder: AgentName
    level: AgentName
    certificate: Sha256
    by: AgentName
    reason: Text = ""
    at: Moment


class Waiver(Loose):
    """``owner`` answers until the end of the day ``until`` for one demand of a level that this agent digest does not meet."""

    ladder: AgentName
    level: AgentName
    demand: Demand
    owner: AgentName
    reason: Reason
    until: Day
    at: Moment


class _Statement(Loose):
    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicateType: str
    predicate: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """A promotion or a waiver of the agent digest ``agent``, and which of the keys that were asked about signed it."""

    agent: str
    content: Promotion | Waiver
    signers: tuple[PublicKey, ...]
    digest: str


def record(agent: str, name: str, content: Promotion | Waiver) -> dict[str, Any]:
    """The statement to sign."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": agent}}],
        "predicateType": PROMOTION if isinstance(content, Promotion) else WAIVER,
        "predicate": content.model_dump(),
    }


def read_record(envelope: Envelope, people: Iterable[PublicKey], what: str) -> Said:
    """``people``: keys of those who may say something. Raises `NotTrusted` for what none of them signed, and for what is no record."""
    signers = tuple(envelope.signers(people))
    if not signers:
        raise refusal(what, "it is signed by none of the people of the ladder", "not-signed")
    if envelope.payload_type != IN_TOTO:
        raise refusal(what, f"its payloadType is not {IN_TOTO}", "payload-type")
    statement = shaped(_Statement, read_object(envelope.payload, what), what)
    kinds: dict[str, type[Promotion] | type[Waiver]] = {PROMOTION: Promotion, WAIVER: Waiver}
    if statement.predicateType not in kinds:
        raise refusal(what, "it is neither a promotion nor a waiver")
    agent = shaped(_Agent, {"digest": statement.subject[0].digest.get("sha256", "")}, what).digest
    return Said(agent, shaped(kinds[statement.predicateType], statement.predicate, what), signers, envelope.digest)


class _Agent(Loose):
    digest: Sha256


class Revoked(Loose):
    """A certificate, an agent or a record by its digest; or a key by its id, also for what it signed before: nobody can tell when."""

    kind: Literal["certificate", "agent", "key", "record"]
    id: Annotated[str, Field(pattern=r"^([0-9a-f]{64}|[0-9a-f]{16})$")]
    reason: Reason
    by: Text
    at: Moment


class Revocations(Loose):
    """The whole list, as of ``issued``: a later one has the place of an earlier one."""

    format: Literal["podctl revocations 1"] = "podctl revocations 1"
    issued: Moment
    entries: Annotated[tuple[Revoked, ...], Field(max_length=MOST_ENTRIES)] = ()

    def find(self, kind: str, id: str) -> Revoked | None:
        return next((one for one in self.entries if one.kind == kind and one.id == id), None)


def read_revocations(data: bytes, trusted: Iterable[PublicKey], what: str) -> Revocations:
    """Raises `NotTrusted` for a list that none of ``trusted`` signed, and for what is no list."""
    envelope = open_envelope(data, what, MOST_OF_LIST)
    if not envelope.signers(trusted):
        raise refusal(what, "it is signed by none of the keys that were named", "not-signed")
    if envelope.payload_type != REVOCATIONS:
        raise refusal(what, f"its payloadType is not {REVOCATIONS}", "payload-type")
    return shaped(Revocations, read_object(envelope.payload, what, MOST_OF_LIST), what)

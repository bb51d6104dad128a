"""Each demand of a level, met and not met; who may approve and waive; what is revoked."""

from __future__ import annotations

from typing import Any

import pytest
from certified import (
    AGENT,
    ANA,
    BOB,
    BOUNDARY,
    DAY_S,
    ENDED_S,
    PEOPLE,
    RELEASE,
    STRANGER,
    certificate,
    certified,
    changed,
    facts,
    ladder,
    run,
    sealed,
)

from podctl.signing import PublicKey, SigningKey
from podctl.trust.documents import NotTrusted
from podctl.trust.dsse import IN_TOTO, open_envelope, seal
from podctl.trust.judging import Case, Met, judge, reached
from podctl.trust.keeping import load_ladder
from podctl.trust.moments import moment
from podctl.trust.records import PROMOTION, REVOCATIONS, Promotion, Revocations, Revoked, Said, Waiver, read_record, record
from podctl.trust.verifying import Answer, Asked, verify

NOW = ENDED_S + 2 * DAY_S


def case(level: dict[str, Any], *said: Said, document: dict[str, Any] | None = None, **fields: Any) -> Case:
    known: dict[str, Any] = {"signers": (RELEASE.public,), "people": PEOPLE, "now_s": NOW, "said": said, **fields}
    return Case(certificate(document), ladder=ladder({"name": "first", **level}), **known)


def judged(level: dict[str, Any], *said: Said, **fields: Any) -> dict[str, Met]:
    made = case(level, *said, **fields)
    return {one.demand: one for one in judge(made.ladder.levels[0], made)}


def counts(**fields: int) -> dict[str, Any]:
    return changed(lambda d: facts(d)["counts"].update(fields))


@pytest.mark.parametrize(
    ("demand", "met", "not_met"),
    [
        ("tickets", {"tickets": 384}, {"tickets": 385}),
        ("stratum_tickets", {"stratum_tickets": 48}, {"stratum_tickets": 49}),
        ("strata.cancel", {"strata": ["cancel"]}, None),
        ("strata.warranty", None, {"strata": ["warranty"]}),
        ("repeats", {"repeats": 1}, {"repeats": 2}),
        ("fidelity", {"fidelity": 0.8}, {"fidelity": 0.81}),
        ("fidelity_parts.services", {"fidelity_parts": {"services": 0.8}}, {"fidelity_parts": {"services": 0.9}}),
        ("fidelity_parts.clock", None, {"fidelity_parts": {"clock": 0.0}}),
        ("backends", {"backends": ["kubernetes", "local"]}, {"backends": ["kubernetes"]}),
        ("controls.seccomp", {"controls": ["seccomp"]}, None),
        ("controls.runtime class", None, {"controls": ["runtime class"]}),
        ("boundaries", {"boundaries": ["0" * 64, BOUNDARY]}, {"boundaries": ["0" * 64]}),
        ("boundary_attempts", {"boundary_attempts": 0}, None),
        ("campaigns.attack", None, {"campaigns": ["attack"]}),
        ("max_age", {"max_age": "2d"}, {"max_age": "47h"}),
        ("gate.pass_rate", {"gate": {"pass_rate": 0.9}}, {"gate": {"pass_rate": 0.91}}),
        ("gate.seconds_per_ticket", {"gate": {"seconds_per_ticket": 30}}, {"gate": {"seconds_per_ticket": 29}}),
        ("gate.regression", None, {"gate": {"regression": 0.05}}),
        ("gate.pass_hat", None, {"gate": {"pass_hat": {"k": 2, "share": 0.5}}}),
        ("gate.quarantined", {"gate": {"quarantined": 0.1}}, {"gate": {"quarantined": 0.05}}),
        ("gate.honeytokens", None, {"gate": {"honeytokens": 0}}),
        ("approvals", None, {"approvals": {"count": 1}}),
        ("verdict", {}, None),
        ("simulated", {}, None),
    ],
)
def test_a_demand_is_met_from_where_it_says(demand: str, met: dict[str, Any] | None, not_met: dict[str, Any] | None) -> None:
    if met is not None:
        assert judged(met)[demand].ok
    if not_met is not None:
        found = judged(not_met)[demand]
        assert not found.ok and not found.holds
        assert found.todo and found.required and found.found


def test_of_a_gate_what_is_not_written_is_not_demanded() -> None:
    assert {name for name in judged({"gate": {"pass_rate": 0.9}}) if name.startswith("gate.")} == {"gate.pass_rate"}


def test_what_the_run_shows_decides_and_not_its_summary() -> None:
    crossing = counts(boundaryAttempts=1)
    assert not judged({"boundary_attempts": 0}, document=crossing)["boundary_attempts"].ok
    simulated = certified(run(simulated=True))
    assert not judged({}, document=simulated)["simulated"].ok
    assert "simulated" not in judged({"simulated": True}, document=simulated)
    small = certified(run(skill=0.3, scale=1))
    assert not judged({}, document=small)["verdict"].ok
    assert judged({"verdict": "inconclusive"}, document=small)["verdict"].ok
    assert not judged({"verdict": "inconclusive"}, document=certified(run(skill=0.3)))["verdict"].ok
    attacked = changed(lambda d: facts(d).update(campaigns={"attack": "pass"}))
    assert judged({"campaigns": ["attack"]}, document=attacked)["campaigns.attack"].ok
    # asked for, and not judged for want of a baseline
    alone = changed(lambda d: facts(d)["gate"].update(regression=0.01))
    assert "needs a baseline" in judged({"gate": {"regression": 0.05}}, document=alone)["gate.regression"].found


# ---- people -------------------------------------------------------------------------


def said(content: Promotion | Waiver, key: SigningKey, agent: str = AGENT) -> Said:
    data = seal(record(agent, "support-agent@2.1.0", content), IN_TOTO, [key])
    return read_record(open_envelope(data, "r"), [key.public], "r")


def promotion(by: str = "ana", key: SigningKey = ANA, agent: str = AGENT, **fields: Any) -> Said:
    known = {"ladder": "ours", "level": "first", "certificate": certificate().digest, "by": by, "at": moment(NOW), **fields}
    return said(Promotion(**known), key, agent)


APPROVED = {"approvals": {"count": 1}}


def test_somebody_else_approves_with_a_key_of_their_own() -> None:
    assert judged(APPROVED, promotion())["approvals"].ok
    assert judged({"approvals": {"count": 2}}, promotion(), promotion("bob", BOB))["approvals"].ok


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: promotion(key=BOB), "not signed with ana's key"),
        (lambda: promotion("eve", STRANGER), "not signed with eve's key"),
        (lambda: promotion(certificate="0" * 64), "another certificate"),
        (lambda: promotion(at=moment(NOW + 3600)), "has not come"),
        (lambda: promotion(level="second"), ""),
        (lambda: promotion(ladder="theirs"), ""),
        (lambda: promotion(agent="0" * 64), ""),
    ],
)
def test_an_approval_of_something_else_or_by_nobody_does_not_count(made: Any, why: str) -> None:
    found = judged(APPROVED, made())["approvals"]
    assert not found.ok
    assert why in found.found


def test_a_person_counts_once_and_nobody_approves_what_they_made() -> None:
    assert not judged({"approvals": {"count": 2}}, promotion(), promotion(reason="again"))["approvals"].ok
    of_another = promotion(certificate="0" * 64)
    assert judged(APPROVED, promotion(), of_another)["approvals"].ok
    assert judged(APPROVED, of_another, promotion())["approvals"].ok
    by_ana = certified(by="ana")
    digest = certificate(by_ana).digest
    assert "made the run" in judged(APPROVED, promotion(certificate=digest), document=by_ana)["approvals"].found
    started = certified(run(labels={"started-by": "ana"}))
    digest = certificate(started).digest
    assert "made the run" in judged(APPROVED, promotion(certificate=digest), document=started)["approvals"].found
    assert "made the run" in judged(APPROVED, promotion(), signers=(ANA.public,))["approvals"].found
    assert "may not approve" in judged({"approvals": {"by": ["bob"]}}, promotion())["approvals"].found


def waiver(owner: str = "ana", key: SigningKey = ANA, **fields: Any) -> Said:
    known = {"ladder": "ours", "level": "first", "demand": "tickets", "owner": owner, "reason": "few yet", "at": moment(NOW)}
    return said(Waiver(**{**known, "until": moment(NOW)[:10], **fields}), key)


def test_a_waiver_answers_for_one_demand_until_its_day_ends() -> None:
    few = {"tickets": 1000, "repeats": 2}
    found = judged(few, waiver())
    assert not found["tickets"].ok and found["tickets"].holds
    assert "waived by ana until" in found["tickets"].waived and "few yet" in found["tickets"].waived
    assert not found["repeats"].holds
    assert not judged(few, waiver(), now_s=NOW + DAY_S)["tickets"].holds
    assert not judged(few, waiver(key=BOB))["tickets"].holds
    assert judged(few, waiver(until=moment(NOW + 366 * DAY_S)[:10]))["tickets"].holds
    assert not judged(few, waiver(until=moment(NOW + 367 * DAY_S)[:10]))["tickets"].holds
    assert not judged(few, waiver(), signers=(ANA.public,))["tickets"].holds
    assert not judged({**few, "never_waived": ["tickets"]}, waiver())["tickets"].holds
    assert not judged({"gate": {"pass_rate": 0.99}, "never_waived": ["gate"]}, waiver(demand="gate.pass_rate"))[
        "gate.pass_rate"
    ].holds
    alone = {"gate": {"pass_rate": 0.99}, "never_waived": ["gate.pass_rate"]}
    assert not judged(alone, waiver(demand="gate.pass_rate"))["gate.pass_rate"].holds
    assert judged({"gate": {"pass_rate": 0.99}}, waiver(demand="gate.pass_rate"))["gate.pass_rate"].holds
    assert not judged({}, waiver(demand="verdict"), document=certified(run(skill=0.3)))["verdict"].holds


def revoked(kind: str, id: str) -> Revocations:
    entry = Revoked(kind=kind, id=id, reason="it leaked", by="bob", at=moment(NOW))  # type: ignore[arg-type]
    return Revocations(issued=moment(NOW), entries=(entry,))


def test_what_a_revoked_key_signed_does_not_count_and_a_record_can_be_revoked_alone() -> None:
    assert "key is revoked" in judged(APPROVED, promotion(), revoked=revoked("key", ANA.id))["approvals"].found
    one, other = promotion(), promotion("bob", BOB)
    assert not judged(APPROVED, one, revoked=revoked("record", one.digest))["approvals"].ok
    assert judged(APPROVED, one, other, revoked=revoked("record", one.digest))["approvals"].ok
    assert not judged({"tickets": 1000}, waiver(), revoked=revoked("key", ANA.id))["tickets"].holds


def test_a_level_is_had_with_all_below_it() -> None:
    steps = ladder({"name": "first"}, {"name": "second", "tickets": 1000}, {"name": "third"})
    level, following = reached(steps, Case(certificate(), (RELEASE.public,), steps, PEOPLE, NOW))
    assert (level, following[0].level) == ("first", "second")
    level, following = reached(ladder(), Case(certificate(), (RELEASE.public,), ladder(), PEOPLE, NOW))
    assert (level, following) == ("first", [])


def test_podctl_s_own_ladder_goes_from_reading_to_paying_users_and_names_nobody() -> None:
    own, people = load_ladder(None)
    names = ["read-only", "customer-data", "triggers-workflows", "runs-code", "serves-paying-users"]
    assert [level.name for level in own.levels] == names
    assert people == {}
    level, following = reached(own, Case(certificate(), (RELEASE.public,), own, people, NOW))
    missing = {one.demand for one in following if not one.holds}
    assert (level, missing) == ("read-only", {"approvals"})
    top = {one.demand: one for one in judge(own.levels[-1], Case(certificate(), (RELEASE.public,), own, people, NOW))}
    assert top["campaigns.attack"].todo.startswith("podctl attack SCENARIO, then podctl certify RUN --campaign")


# ---- verify -------------------------------------------------------------------------


def answer(data: bytes | None = None, **fields: Any) -> Answer:
    known: dict[str, Any] = {"keys": [RELEASE.public], "agent": AGENT, "now_s": NOW, **fields}
    return verify(data or sealed(), "c", Asked(**known))


def missing(made: Answer) -> set[str]:
    return {line.name for line in made.missing}


LISTED = {"agent": AGENT, "certificate": certificate().digest, "key": RELEASE.id}


def listed(kind: str, *keys: SigningKey, id: str = "") -> tuple[str, bytes]:
    document = revoked(kind, id or LISTED[kind]).model_dump(mode="json")
    return "l", seal(document, REVOCATIONS, keys or (RELEASE,))


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({}, set()),
        ({"keys": [STRANGER.public, RELEASE.public]}, set()),
        ({"keys": [STRANGER.public]}, {"signature"}),
        ({"agent": "0" * 64}, {"agent"}),
        ({"max_age_s": 2 * DAY_S}, set()),
        ({"max_age_s": 2 * DAY_S - 1}, {"freshness"}),
        ({"now_s": ENDED_S - DAY_S}, {"dates"}),
        ({"digests": {"sample": "51d0e7c3" * 8, "boundary": BOUNDARY}}, set()),
        ({"digests": {"sample": "0" * 64}}, {"sample"}),
        ({"digests": {"boundary": "0" * 64}}, {"boundary"}),
        ({"max_list_age_s": DAY_S}, {"revocations"}),
        ({"revocations": listed("agent")}, {"not revoked"}),
        ({"revocations": listed("certificate")}, {"not revoked"}),
        ({"revocations": listed("key")}, {"not revoked"}),
        ({"revocations": listed("agent", id="0" * 64)}, set()),
        ({"revocations": listed("agent", ANA), "people": PEOPLE}, {"not revoked"}),
        ({"revocations": listed("agent", STRANGER)}, {"revocations"}),
        ({"revocations": ("l", b"{}")}, {"revocations"}),
        ({"revocations": listed("agent", id="0" * 64), "max_list_age_s": 60.0, "now_s": NOW + 61}, {"revocations"}),
        ({"revocations": listed("agent", id="0" * 64), "now_s": NOW - 3600}, {"revocations"}),
        ({"ladder": ladder({"name": "first", "tickets": 1}), "level": "first", "people": PEOPLE}, set()),
        ({"ladder": ladder({"name": "first", "tickets": 1000}), "level": "first", "people": PEOPLE}, {"first: tickets"}),
        (
            {
                "ladder": ladder({"name": "first", "repeats": 2}, {"name": "second", "tickets": 1000}),
                "level": "second",
                "people": PEOPLE,
            },
            {"first: repeats", "second: tickets"},
        ),
    ],
)
def test_each_requirement_has_its_line(fields: dict[str, Any], lacks: set[str]) -> None:
    made = answer(**fields)
    assert missing(made) == lacks
    assert all(line.detail for line in made.lines)


def test_of_what_nobody_trusted_signed_not_a_word_is_read() -> None:
    made = answer(sealed(changed(lambda d: facts(d).update(run="anything")), STRANGER))
    assert (missing(made), made.certificate, len(made.lines)) == ({"signature"}, None, 1)


def test_without_a_level_only_passed_will_do() -> None:
    warned = sealed(certified(run(simulated=True)))
    made = answer(warned)
    assert missing(made) == {"result"}
    assert "came from a script" in made.missing[0].detail
    failed = answer(sealed(certified(run(skill=0.3))))
    assert missing(failed) == {"result"}


def test_a_certificate_that_a_good_key_signed_too_outlives_the_revoked_one() -> None:
    both = sealed(None, RELEASE, BOB)
    assert missing(answer(both, keys=[RELEASE.public], revocations=listed("key"))) == {"not revoked"}
    assert missing(answer(both, keys=[RELEASE.public, BOB.public], revocations=listed("key"))) == set()


def test_records_that_are_named_are_used_and_those_that_are_none_are_refused() -> None:
    asked = {"ladder": ladder({"name": "first", **APPROVED}), "level": "first", "people": PEOPLE}
    approval = seal(record(AGENT, "a", promotion().content), IN_TOTO, [ANA])
    assert missing(answer(**asked)) == {"first: approvals"}
    assert missing(answer(**asked, records={"r": approval})) == set()
    assert missing(answer(**asked, records={"r": approval, "s": sealed()})) == {"record s"}
    forged = seal(record(AGENT, "a", promotion().content), IN_TOTO, [STRANGER])
    assert missing(answer(**asked, records={"r": forged})) == {"record r", "first: approvals"}


def test_a_record_is_no_certificate_and_a_certificate_is_no_record() -> None:
    approval = seal(record(AGENT, "a", promotion().content), IN_TOTO, [RELEASE])
    assert missing(answer(approval)) == {"format"}
    with pytest.raises(NotTrusted):
        read_record(open_envelope(sealed(None, ANA), "r"), [ANA.public], "r")
    lists = seal(revoked("agent", AGENT).model_dump(mode="json"), IN_TOTO, [RELEASE])
    assert missing(answer(revocations=("l", lists))) == {"revocations"}
    assert PROMOTION in open_envelope(approval, "r").payload.decode()


def test_terminal_escapes_from_a_trusted_signer_are_shown_as_escapes() -> None:
    nasty = changed(lambda d: (facts(d).update(simulated=True), d["predicate"].update(result="WARNED")))
    facts(nasty)["caveats"] = [{"code": "x", "text": "\x1b[2J\u202egood"}]
    for line in answer(sealed(nasty)).lines:
        assert line.detail.isprintable()


def test_keys_of_people_are_of_the_ladder_alone() -> None:
    """A key that may certify may not thereby approve."""
    asked = {"ladder": ladder({"name": "first", **APPROVED}), "level": "first"}
    approval = seal(record(AGENT, "a", promotion(key=ANA).content), IN_TOTO, [ANA])
    people: dict[str, PublicKey] = {"bob": BOB.public}
    found = answer(**asked, people=people, keys=[RELEASE.public, ANA.public], records={"r": approval})
    assert missing(found) == {"record r", "first: approvals"}

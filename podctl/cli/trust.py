"""Certificates of runs, and what they are enough for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import open_store, output_option, store_option
from podctl.errors import EnvironmentProblem, ExitCode, SpecError

if TYPE_CHECKING:
    from podctl.evidence.audit_check import RunCheck
    from podctl.evidence.store_read import StorePlace
    from podctl.signing import PublicKey, SigningKey
    from podctl.spec.ladder import Ladder
    from podctl.trust.certificate import Certificate
    from podctl.trust.desk import Desk
    from podctl.trust.judging import Case, Met
    from podctl.trust.keeping import Shelf
    from podctl.trust.records import Promotion, Revocations, Waiver
    from podctl.trust.verifying import Answer, Asked

_FILE = click.Path(path_type=Path, dir_okay=False)
_secret_option = click.option(
    "--key", type=_FILE, help="The secret key to sign with.  [default: $PODCTL_SIGNING_KEY, or podctl's own]"
)
_public_option = click.option(
    "--key",
    "keys",
    type=_FILE,
    multiple=True,
    help="Public keys that are trusted; again for more.  [default: of podctl's own key]",
)
_trusted_option = click.option(
    "--trusted", "keys", type=_FILE, multiple=True, help="Public keys of who certifies.  [default: of podctl's own key]"
)
_policy_option = click.option("--policy", type=_FILE, help="A Ladder file.  [default: podctl's own ladder]")
_records_option = click.option(
    "--record", "records", type=_FILE, multiple=True, help="A promotion or a waiver; again for more."
)
_revoked_option = click.option("--revoked", type=_FILE, help="The list of revocations.")


# ---- certify ------------------------------------------------------------------------


@click.command("certify")
@click.argument("run", default="latest")
@_secret_option
@click.option("--out", type=_FILE, help="Where to write it.  [default: in the store]")
@click.option("--by", default="", help="Who certifies; this person cannot promote what is certified.")
@output_option("json")
@store_option
def certify_command(run: str, key: Path | None, out: Path | None, by: str, output: str, store: StorePlace) -> int:
    """Sign what a run came to: an in-toto test result for the agent's digest, PASSED, WARNED or FAILED.

    It says no more than the run shows, and what lessens it stands in it. A run that failed can be certified: as FAILED.

    \b
    podctl certify latest
    podctl certify latest --key release.pem --out certificate.json
    """
    from podctl.clock import SystemClock
    from podctl.evidence.audit_check import check_run, entries_of
    from podctl.evidence.audit_entries import who
    from podctl.trust.certificate import read_certificate
    from podctl.trust.dsse import IN_TOTO, open_envelope, seal
    from podctl.trust.keeping import write_file
    from podctl.trust.statement import statement

    reader = open_store(store)
    result = reader.load_run(reader.find_run(run))
    signing = _signing_key(key)
    _refuse_damaged(check_run(reader, result.info.id))
    began = (entry["by"] for entry in entries_of(reader, result.info.id) if entry["kind"] in ("run.begun", "run.merged"))
    document = statement(
        result, SystemClock().wall_ns(), by=by or who(), started_by=next(began, ""), checkpoint=_checkpoint(store, signing)
    )
    sealed = seal(document, IN_TOTO, [signing])
    path = out or _shelf(store).certificate(result.info.id)
    certificate = read_certificate(open_envelope(sealed, str(path)), str(path))  # what nobody could verify is not written
    told = {"certificate": certificate.digest, "agent": certificate.agent.digest, "result": certificate.result}
    _log(store, "certificate.made", {**told, "key": signing.id, "for": by}, result.info.id)
    write_file(path, sealed)
    if output == "json":
        click.echo(json.dumps({**_told(certificate), "file": str(path), "key": signing.id}, indent=2))
        return 0
    agent = certificate.agent
    click.echo(f"{certificate.result}  {agent.name} {agent.version}, {agent.digest[:12]}…, by run {certificate.facts.run}")
    for caveat in certificate.facts.caveats:
        click.echo(f"  {caveat.code}: {caveat.text}")
    click.echo(f"certificate {certificate.digest[:12]}…, signed with key {signing.id}: {path}")
    return 0


def _refuse_damaged(check: RunCheck) -> None:
    """Raises `EnvironmentProblem`: nobody is to sign for what was changed since it was sealed."""
    damaged = [*check.problems, *(f"{one.id}: {problem}" for one in check.attempts for problem in one.problems)]
    if damaged:
        raise EnvironmentProblem(
            f"run {check.run} cannot be certified: it is not what was sealed",
            code="evidence-damaged",
            cause=_shown("\n".join(damaged[:10])),
            unchanged="nothing was written",
            hint=f"podctl audit verify {check.run} says everything",
        )


def _checkpoint(store: StorePlace, key: SigningKey) -> str:
    """Of the audit log as it is now, signed with the key that certifies."""
    from podctl.clock import SystemClock
    from podctl.evidence.store import Store

    opened = Store.at(store, SystemClock(), key=key)
    try:
        return opened.checkpoint()
    finally:
        opened.close()


def _log(store: StorePlace, kind: str, data: dict[str, Any], run: str = "") -> None:
    """Into the store's audit log; where there is no store, on a person's laptop, the signed record is all there is."""
    from podctl.clock import SystemClock
    from podctl.evidence.audit_entries import Entry
    from podctl.evidence.store import Store
    from podctl.signing import configured_key

    if store.url is None and not (store.directory / "store.db").exists():
        return
    opened = Store.at(store, SystemClock(), key=configured_key())
    try:
        opened.append([Entry(kind, run, data=data)])
    finally:
        opened.close()


# ---- verify -------------------------------------------------------------------------


@click.command("verify")
@click.argument("certificate", type=_FILE)
@click.option(
    "--agent", required=True, metavar="FILE|DIGEST", help="What is about to be deployed: an Agent file, or its digest."
)
@click.option("--key", "keys", type=_FILE, multiple=True, required=True, help="Public keys that are trusted; again for more.")
@_policy_option
@click.option("--level", help="The level of trust that is needed.")
@click.option("--max-age", metavar="AGE", help="How long ago the run may have ended, such as 7d.")
@click.option("--sample", metavar="FILE|DIGEST", help="The sample that must have been worked: a frozen sample, or its digest.")
@click.option("--boundary", metavar="FILE|DIGEST", help="The boundary that must have held: a Boundary file, or its digest.")
@_records_option
@_revoked_option
@click.option("--max-list-age", metavar="AGE", help="How old the list of revocations may be; then there must be one.")
@click.option("--image", multiple=True, metavar="REF@sha256:…", help="Images that were built of the agent; for -o admission.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "admission"]), default="table", help="How to print.")
def verify_command(certificate: Path, agent: str, output: str, image: tuple[str, ...], **given: Any) -> int:
    """Say whether a certificate is enough to deploy: offline, a line for each requirement. For pipelines.

    With -o admission it prints, when all is met, the entry by which a cluster admits the agent's images (docs/certificates.md).

    \b
    podctl verify certificate.json --agent agent.yaml --key release.pub --max-age 7d
    podctl verify certificate.json --agent agent.yaml --key release.pub --policy ladder.yaml --level customer-data

    Exit codes: 0 when every requirement is met, 100 when one is not, 2 when the command or one of its own files is wrong.
    """
    from podctl.clock import SystemClock
    from podctl.trust.keeping import read_file
    from podctl.trust.verifying import verify

    asked = _asked(agent, SystemClock().wall_ns() / 1e9, given)
    if output == "admission" and not image:
        raise SpecError("-o admission needs --image", code="usage", hint="--image REGISTRY/NAME@sha256:…, as it was pushed")
    answer = verify(read_file(certificate, "certificate"), certificate.name, asked)
    code = ExitCode.GATE_FAILED if answer.missing else ExitCode.DONE
    if output == "json":
        click.echo(json.dumps(_answer_json(answer), indent=2))
    elif output == "admission" and not answer.missing:
        from podctl.trust.admission import admission

        assert answer.certificate is not None
        click.echo(admission(answer.certificate, image, asked.shortest_age_s, asked.level))
    else:
        _print_answer(answer, err=output == "admission")
    return int(code)


def _asked(agent: str, now_s: float, given: dict[str, Any]) -> Asked:
    from podctl.spec.problems import shown
    from podctl.trust.keeping import known_level, load_ladder, public_keys, read_file
    from podctl.trust.verifying import Asked

    if given["policy"] and not given["level"]:
        raise SpecError("--policy without --level asks for nothing", code="usage", hint="--level, one of the ladder's")
    ladder, people = load_ladder(given["policy"]) if given["level"] else (None, {})
    if ladder is not None:
        known_level(ladder, given["level"])
    digests = {"sample": _sample_digest(given["sample"]), "boundary": _boundary_digest(given["boundary"])}
    list_age = _age(given["max_list_age"], "--max-list-age")
    if list_age is None and ladder is not None:
        list_age = ladder.revocations_max_age
    revoked = given["revoked"]
    return Asked(
        keys=[key for path in given["keys"] for key in public_keys(path)],
        agent=_agent_digest(agent),
        now_s=now_s,
        level=given["level"] or "",
        ladder=ladder,
        people=people,
        max_age_s=_age(given["max_age"], "--max-age"),
        digests={name: digest for name, digest in digests.items() if digest},
        records={shown(path): read_file(path, "record") for path in given["records"]},
        revocations=(shown(revoked), read_file(revoked, "list of revocations")) if revoked else None,
        max_list_age_s=list_age,
    )


def _print_answer(answer: Answer, *, err: bool = False) -> None:
    width = max(len(line.name) for line in answer.lines)
    for line in answer.lines:
        click.echo(f"{line.state:9}  {line.name:{width}}  {line.detail}", err=err)
        if line.todo:
            click.echo(f"{'':9}  {'':{width}}  → {line.todo}", err=err)
    count, missing = len([line for line in answer.lines if line.state != "not asked"]), len(answer.missing)
    if missing:
        click.echo(f"REFUSED: {missing} of {count} {'requirement is' if count == 1 else 'requirements are'} not met", err=err)
    else:
        click.echo(f"ok: {count} requirements are met", err=err)


def _answer_json(answer: Answer) -> dict[str, Any]:
    lines = [{"name": line.name, "state": line.state, "detail": line.detail, "todo": line.todo} for line in answer.lines]
    return {
        "apiVersion": "podctl/v1",
        "kind": "Verification",
        "accepted": not answer.missing,
        "certificate": None if answer.certificate is None else _told(answer.certificate),
        "requirements": lines,
    }


def _told(certificate: Certificate) -> dict[str, Any]:
    facts = certificate.facts
    return {
        "digest": certificate.digest,
        "result": certificate.result,
        "agent": facts.agent.model_dump(),
        "run": facts.run,
        "ended": facts.ended,
        "certified": facts.certified,
        "caveats": [caveat.model_dump() for caveat in facts.caveats],
        "digests": certificate.digests,
    }


# ---- trust --------------------------------------------------------------------------


@click.command("trust")
@click.argument("agent", required=False)
@_public_option
@_policy_option
@click.option("--certificate", "certificates", type=_FILE, multiple=True, help="Besides those in the store; again for more.")
@_records_option
@_revoked_option
@click.option("--print-ladder", is_flag=True, help="Print podctl's own ladder, to be changed into yours.")
@output_option("json")
@store_option
def trust_command(agent: str | None, print_ladder: bool, output: str, store: StorePlace, **given: Any) -> int:
    """Say which level of trust an agent has, by which certificate, and what the next one asks, each with what gets it.

    AGENT is an Agent file, a digest, or the name of an agent with certificates in the store.

    \b
    podctl trust agent.yaml
    podctl trust agent.yaml --policy ladder.yaml --key release.pub
    """
    from podctl.trust.keeping import OWN_LADDER

    if print_ladder:
        click.echo(OWN_LADDER.read_text("utf-8").rstrip())
        return 0
    if agent is None:
        raise SpecError("no agent was named", code="usage", hint="podctl trust agent.yaml")
    desk = _desk(store, given)
    digest = _digest_of(agent, desk)
    best = desk.best(digest)
    for told in desk.revoked_of(digest):
        click.echo(told, err=True)
    if output == "json":
        click.echo(json.dumps(_trust_json(desk.ladder, digest, best), indent=2))
    else:
        _print_trust(desk.ladder, digest, best)
    return 0


def _print_trust(ladder: Ladder, digest: str, best: tuple[Case, str, list[Met]] | None) -> None:
    if best is None:
        click.echo(f"agent {digest[:12]}… has no level of the ladder {ladder.name}: no certificate of it counts here")
        click.echo("  → podctl run SCENARIO, then podctl certify latest")
        return
    case, level, following = best
    certificate = case.certificate
    agent, facts = certificate.agent, certificate.facts
    has = f"has level {level}" if level else "has no level"
    click.echo(f"{agent.name} {agent.version}, {digest[:12]}…, {has} of the ladder {ladder.name}")
    click.echo(f"  by certificate {certificate.digest[:12]}…: {certificate.result}, run {facts.run} of {facts.ended}")
    if not following:
        click.echo("there is no higher level")
        return
    lacking = [one for one in following if not one.holds]
    click.echo(f"for {following[0].level}, {len(following) - len(lacking)} of {len(following)} demands are met")
    width = max(len(one.demand) for one in following)
    for one in following:
        state = "ok" if one.ok else "waived" if one.waived else "missing"
        detail = one.found if one.ok else f"{one.found}; {one.waived}" if one.waived else f"{one.found}; asked: {one.required}"
        click.echo(f"  {state:7}  {one.demand:{width}}  {_shown(detail)}")
        if not one.holds and one.todo:
            click.echo(f"  {'':7}  {'':{width}}  → {one.todo}")


def _trust_json(ladder: Ladder, digest: str, best: tuple[Case, str, list[Met]] | None) -> dict[str, Any]:
    from podctl.reports.jsonreport import plain

    head = {"apiVersion": "podctl/v1", "kind": "Trust", "agent": digest, "ladder": ladder.name}
    if best is None:
        return {**head, "level": None, "certificate": None, "next": []}
    case, level, following = best
    return {**head, "level": level or None, "certificate": _told(case.certificate), "next": plain(following)}


# ---- promote, waive, revoke ---------------------------------------------------------


@click.command("promote")
@click.argument("agent")
@click.option("--to", "level", required=True, help="The level.")
@click.option("--by", required=True, help="Who promotes, as the ladder's people are named; the key must be theirs.")
@click.option("--reason", default="", help="Why, for who reads it later.")
@_secret_option
@_trusted_option
@_policy_option
@click.option("--certificate", "certificates", type=_FILE, multiple=True, help="Besides those in the store.")
@_records_option
@_revoked_option
@click.option("--out", type=_FILE, help="Where to write it.  [default: in the store]")
@store_option
def promote_command(agent: str, level: str, by: str, reason: str, key: Path | None, store: StorePlace, **given: Any) -> int:
    """Approve a level for an agent version: a signed record, by a person who neither made the run nor certified it.

    It is refused while anything but approvals is missing: what is missing is got, or waived by name.

    \b
    podctl promote agent.yaml --to customer-data --by ana --key ana.pem --policy ladder.yaml --trusted release.pub
    """
    from podctl.clock import SystemClock
    from podctl.trust.moments import moment
    from podctl.trust.records import Promotion

    desk = _desk(store, given)
    case = desk.case_for(_digest_of(agent, desk), level)
    lacking = [one for one in desk.lacking(case, level) if one.demand != "approvals"]
    if lacking:
        first = [f"{one.level}: {one.demand}: {one.found}; asked: {one.required}" for one in lacking[:10]]
        raise SpecError(
            f"{case.certificate.agent.name} lacks what {level} demands: {', '.join(one.demand for one in lacking)}",
            code="not-promotable",
            cause=_shown("\n".join(first)),
            unchanged="nothing was written",
            hint="podctl trust says what gets each; podctl waive answers for one by name, for a while",
        )
    allowed = next(one for one in desk.ladder.levels if one.name == level).approvals
    if allowed is not None and allowed.by and by not in allowed.by:
        raise SpecError(f"{by} may not approve {level}", code="not-an-approver", hint=f"one of {', '.join(allowed.by)}")
    content = Promotion(
        ladder=desk.ladder.name,
        level=level,
        certificate=case.certificate.digest,
        by=by,
        reason=reason,
        at=moment(SystemClock().wall_ns() / 1e9),
    )
    path = _say(desk, store, case, by, content, key, given["out"])
    click.echo(f"{by} promotes {case.certificate.agent.name} {case.certificate.agent.version} to {level}: {path}")
    return 0


@click.command("waive")
@click.argument("agent")
@click.option("--level", required=True, help="The level that makes the demand.")
@click.option("--demand", required=True, help="Its name, as podctl trust prints it.")
@click.option("--owner", required=True, help="Who answers for it, as the ladder's people are named; the key must be theirs.")
@click.option("--reason", required=True, help="Why it may be missing.")
@click.option("--until", required=True, metavar="DAY", help="The last day, such as 2026-12-31; within a year.")
@_secret_option
@_trusted_option
@_policy_option
@click.option("--certificate", "certificates", type=_FILE, multiple=True, help="Besides those in the store.")
@_revoked_option
@click.option("--out", type=_FILE, help="Where to write it.  [default: in the store]")
@store_option
def waive_command(
    agent: str, level: str, demand: str, owner: str, reason: str, until: str, key: Path | None, store: StorePlace, **given: Any
) -> int:
    """Answer for one demand that an agent version does not meet, until a day: a signed record, by a person of the ladder.

    \b
    podctl waive agent.yaml --level triggers-workflows --demand campaigns.attack --owner ana --reason "…" --until 2026-12-31
    """
    from podctl.clock import SystemClock
    from podctl.trust.certificate import shaped
    from podctl.trust.judging import judge, last_day
    from podctl.trust.moments import moment
    from podctl.trust.records import Waiver

    desk = _desk(store, given)
    case = desk.case_for(_digest_of(agent, desk), level)
    step = desk.ladder.up_to(level)[-1]
    made = {one.demand: one for one in judge(step, case)}
    now_s = SystemClock().wall_ns() / 1e9
    wrong, hint = "", ""
    if demand not in made:
        wrong, hint = f"{level} makes no demand {_shown(demand)}", f"one of {', '.join(made)}"
    elif demand in step.never_waived or demand.split(".")[0] in step.never_waived:
        wrong = f"{demand} is never waived at {level}: so the ladder says"
    elif made[demand].ok:
        wrong = f"{demand} is met: there is nothing to waive"
    elif not _is_day(until) or not moment(now_s)[:10] <= until <= last_day(now_s):
        wrong, hint = f"{_shown(until)} is no day of the year to come", f"a day from {moment(now_s)[:10]} to {last_day(now_s)}"
    if wrong:
        raise SpecError(wrong, code="not-waivable", unchanged="nothing was written", hint=hint)
    fields = {"ladder": desk.ladder.name, "level": level, "demand": demand, "owner": owner}
    content = shaped(Waiver, {**fields, "reason": reason, "until": until, "at": moment(now_s)}, "this waiver")
    path = _say(desk, store, case, owner, content, key, given["out"])
    click.echo(f"{owner} answers for {demand} of {case.certificate.agent.name} at {level} until {until}: {path}")
    return 0


@click.command("revoke")
@click.argument("kind", type=click.Choice(["certificate", "agent", "key", "record"]), required=False)
@click.argument("id", required=False)
@click.option("--reason", default="", help="Why.")
@click.option("--by", default="", help="Who revokes.")
@click.option("--renew", is_flag=True, help="State the list again as of now: pipelines may ask for a young one.")
@click.option("--list", "list_file", type=_FILE, help="The list.  [default: in the store]")
@_secret_option
@click.option("--trusted", "keys", type=_FILE, multiple=True, help="Public keys of who may have signed the list so far.")
@store_option
def revoke_command(
    kind: str | None, id: str | None, reason: str, by: str, renew: bool, list_file: Path | None, store: StorePlace, **given: Any
) -> int:
    """Take trust back: from a certificate, from an agent digest, from a key for all that it signed, or from a promotion or waiver.

    Entries are never taken out. The list is a file for whoever calls podctl verify --revoked; until it is there, nothing has changed.

    \b
    podctl revoke agent 3f2a… --reason "sends mail to strangers" --by ana
    podctl revoke --renew
    """
    from podctl.clock import SystemClock
    from podctl.trust.certificate import shaped
    from podctl.trust.dsse import open_envelope, seal
    from podctl.trust.keeping import read_file, write_file
    from podctl.trust.moments import moment
    from podctl.trust.records import REVOCATIONS, Revocations, Revoked, read_revocations

    if bool(kind) == renew or bool(kind) != bool(id):
        raise SpecError(
            "name what is revoked, and its id; or --renew", code="usage", hint="podctl revoke agent DIGEST --reason …"
        )
    signing = _signing_key(given["key"])
    path = list_file or _shelf(store).revocations
    now = moment(SystemClock().wall_ns() / 1e9)
    before: Revocations = Revocations(issued=now)
    if path.exists():
        trusted = [signing.public, *_public(given["keys"])]
        before = read_revocations(open_envelope(read_file(path, "list of revocations"), str(path)), trusted, str(path))
    entries = list(before.entries)
    if kind and id:
        if not reason:
            raise SpecError("nothing is revoked without a reason", code="usage", hint="--reason")
        if not set(_sha(id)) <= set("0123456789abcdef") or len(_sha(id)) != (16 if kind == "key" else 64):
            digits = "16 digits of a key's id" if kind == "key" else "64 digits of its digest"
            raise SpecError(
                f"{_shown(id)} is no id of a {kind}", code="usage", unchanged="nothing was revoked", hint=f"the {digits}"
            )
        entry = {"kind": kind, "id": _sha(id), "reason": reason, "by": by or f"key {signing.id}", "at": now}
        made = shaped(Revoked, entry, "this revocation")
        if before.find(kind, made.id) is None:
            entries.append(made)
    whole = Revocations(issued=now, entries=tuple(entries))
    what = {"what": kind, "id": _sha(id), "reason": reason} if kind and id else {}
    _log(store, "trust.revoked", {**what, "for": by, "key": signing.id, "issued": now})
    write_file(path, seal(whole.model_dump(mode="json"), REVOCATIONS, [signing]))
    click.echo(
        f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, as of {now}, signed with key {signing.id}: {path}"
    )
    return 0


def _say(
    desk: Desk, store: StorePlace, case: Case, name: str, content: Promotion | Waiver, key: Path | None, out: Path | None
) -> Path:
    """Sign and write what ``name`` says, when it counts. Raises `SpecError` when it would not."""
    from podctl.trust.dsse import IN_TOTO, open_envelope, seal
    from podctl.trust.keeping import write_file
    from podctl.trust.records import Promotion, read_record, record

    signing = _signing_key(key)
    agent = case.certificate.agent
    sealed = seal(record(agent.digest, f"{agent.name}@{agent.version}", content), IN_TOTO, [signing])
    envelope = open_envelope(sealed, "this record")
    why = "" if name in desk.people else "the ladder does not have it among its people"
    if not why and desk.people[name] != signing.public:
        why = f"key {signing.id} is not the one that the ladder has for {name}"
    why = why or case.why_not(name, read_record(envelope, [signing.public], "this record"))
    if why:
        raise SpecError(f"what {_shown(name)} says would not count: {why}", code="not-counted", unchanged="nothing was written")
    told = {"record": envelope.digest, "agent": agent.digest, "for": name, "key": signing.id}
    said = content.model_dump(include={"ladder", "level", "certificate", "demand", "until", "reason"})
    _log(
        store,
        "agent.promoted" if isinstance(content, Promotion) else "demand.waived",
        {**said, **told},
        case.certificate.facts.run,
    )
    path = out or _shelf(store).record(envelope.digest)
    write_file(path, sealed)
    return path


def _desk(store: StorePlace, given: dict[str, Any]) -> Desk:
    """What the store has, and what was named besides; what of it is not trusted is told."""
    from podctl.clock import SystemClock
    from podctl.trust.desk import open_desk

    shelf = _shelf(store)
    desk = open_desk(
        given["policy"],
        _public(given["keys"]) or _own_public(),
        SystemClock().wall_ns() / 1e9,
        certificates=[*shelf.certificates(), *given["certificates"]],
        records=[*shelf.records(), *given.get("records", ())],
        revoked=given["revoked"] or (shelf.revocations if shelf.revocations.exists() else None),
    )
    for line in desk.left_out:
        click.echo(f"left out: {_shown(line)}", err=True)
    return desk


def _digest_of(agent: str, desk: Desk) -> str:
    """Of a file, of a digest, or of the newest certificate of an agent of that name. Raises `SpecError`."""
    newest = None if Path(agent).exists() or _is_digest(agent) else desk.newest_of(agent)
    return newest or _agent_digest(agent, hint="or the name of an agent that has a certificate which is trusted here")


# ---- what was named -----------------------------------------------------------------


def _shelf(store: StorePlace) -> Shelf:
    from podctl.trust.keeping import Shelf

    return Shelf(store.directory / "trust")


def _signing_key(named: Path | None) -> SigningKey:
    from podctl.signing import read_key

    return read_key(named)


def _public(paths: tuple[Path, ...]) -> list[PublicKey]:
    from podctl.trust.keeping import public_keys

    return [key for path in paths for key in public_keys(path)]


def _own_public() -> list[PublicKey]:
    from podctl.signing import configured_key

    own = configured_key()
    if own is None:
        raise SpecError(
            "no key is trusted: none was named, and podctl has none of its own here",
            code="no-key",
            hint="name who certifies: --key PUBLIC-KEY (--trusted, where --key is the one to sign with)",
        )
    return [own.public]


def _shown(text: str) -> str:
    from podctl.evidence.safe import printable

    return "\n".join(printable(line, 400) for line in text.split("\n"))


def _sha(text: str) -> str:
    return text.removeprefix("sha256:")


def _is_digest(text: str) -> bool:
    digest = _sha(text)
    return len(digest) == 64 and set(digest) <= set("0123456789abcdef")


def _is_day(text: str) -> bool:
    from datetime import date

    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _agent_digest(named: str, hint: str = "") -> str:
    """Raises `SpecError`."""
    if _is_digest(named) and not Path(named).exists():
        return _sha(named)
    from podctl.agents.identity import agent_digest
    from podctl.spec.load import load_model
    from podctl.spec.models import Agent

    path = Path(named)
    if path.is_dir():
        path = path / "agent.yaml"  # the code alone is not the agent: its command, model and tools stand there
    if not path.exists():
        raise SpecError(
            f"there is no Agent file {_shown(str(path))}",
            code="no-agent",
            hint=f"name an Agent file or a digest{', ' + hint if hint else ''}",
        )
    return agent_digest(load_model(path, Agent)).digest


def _sample_digest(named: str | None) -> str:
    if not named or _is_digest(named):
        return _sha(named or "")
    from podctl.trust.keeping import read_file

    try:
        digest = json.loads(read_file(Path(named), "sample"))["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        digest = ""
    if not isinstance(digest, str) or not _is_digest(digest):
        raise SpecError(
            f"{_shown(named)} is no frozen sample", code="no-sample", hint="podctl tickets freeze SCENARIO writes one"
        )
    return digest


def _boundary_digest(named: str | None) -> str:
    if not named or _is_digest(named):
        return _sha(named or "")
    from podctl.spec.load import load_model
    from podctl.spec.models import Boundary
    from podctl.spec.resolved import boundary_digest

    return boundary_digest(load_model(Path(named), Boundary))


def _age(text: str | None, option: str) -> float | None:
    from podctl.spec.tickets import parse_age

    if text is None:
        return None
    try:
        return float(str(parse_age(text)))
    except ValueError:
        raise SpecError(f"{option} {_shown(text)} is no age", code="usage", hint="an age such as 12h, 7d or 4w") from None

"""Levels of trust: what an agent has, what the next one asks, and what people say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from podctl.cli.common import output_option, store_option
from podctl.cli.named import (
    FILE,
    append_to_log,
    bare,
    certificate_json,
    digest_of_agent,
    is_day,
    is_digest,
    lines_shown,
    own_public_key,
    policy_option,
    public_keys_of,
    records_option,
    revoked_option,
    secret_option,
    shelf_of,
    signing_key,
)
from podctl.errors import SpecError

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace
    from podctl.spec.ladder import Ladder
    from podctl.trust.certificate import Loose
    from podctl.trust.desk import Desk
    from podctl.trust.judging import Case, Met
    from podctl.trust.records import Promotion, Revoked, Waiver

M = TypeVar("M", bound="Loose")

_public_option = click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    help="Public keys that are trusted; again for more.  [default: of podctl's own key]",
)
_trusted_option = click.option(
    "--trusted", "keys", type=FILE, multiple=True, help="Public keys of who certifies.  [default: of podctl's own key]"
)


# ---- trust --------------------------------------------------------------------------


@click.command("trust")
@click.argument("agent", required=False)
@_public_option
@policy_option
@click.option("--certificate", "certificates", type=FILE, multiple=True, help="Besides those in the store; again for more.")
@records_option
@revoked_option
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
        click.echo(f"  {state:7}  {one.demand:{width}}  {lines_shown(detail)}")
        if not one.holds and one.todo:
            click.echo(f"  {'':7}  {'':{width}}  → {one.todo}")


def _trust_json(ladder: Ladder, digest: str, best: tuple[Case, str, list[Met]] | None) -> dict[str, Any]:
    from podctl.reports.jsonreport import plain

    head = {"apiVersion": "podctl/v1", "kind": "Trust", "agent": digest, "ladder": ladder.name}
    if best is None:
        return {**head, "level": None, "certificate": None, "next": []}
    case, level, following = best
    return {**head, "level": level or None, "certificate": certificate_json(case.certificate), "next": plain(following)}


# ---- promote, waive, revoke ---------------------------------------------------------


@click.command("promote")
@click.argument("agent")
@click.option("--to", "level", required=True, help="The level.")
@click.option("--by", required=True, help="Who promotes, as the ladder's people are named; the key must be theirs.")
@click.option("--reason", default="", help="Why, for who reads it later.")
@secret_option
@_trusted_option
@policy_option
@click.option("--certificate", "certificates", type=FILE, multiple=True, help="Besides those in the store.")
@records_option
@revoked_option
@click.option("--out", type=FILE, help="Where to write it.  [default: in the store]")
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
            cause=lines_shown("\n".join(first)),
            unchanged="nothing was written",
            hint="podctl trust says what gets each; podctl waive answers for one by name, for a while",
        )
    allowed = next(one for one in desk.ladder.levels if one.name == level).approvals
    if allowed is not None and allowed.by and by not in allowed.by:
        raise SpecError(f"{by} may not approve {level}", code="not-an-approver", hint=f"one of {', '.join(allowed.by)}")
    fields = {"ladder": desk.ladder.name, "level": level, "certificate": case.certificate.digest, "by": by, "reason": reason}
    content = _made(Promotion, {**fields, "at": moment(SystemClock().wall_ns() / 1e9)})
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
@secret_option
@_trusted_option
@policy_option
@click.option("--certificate", "certificates", type=FILE, multiple=True, help="Besides those in the store.")
@revoked_option
@click.option("--out", type=FILE, help="Where to write it.  [default: in the store]")
@store_option
def waive_command(
    agent: str, level: str, demand: str, owner: str, reason: str, until: str, key: Path | None, store: StorePlace, **given: Any
) -> int:
    """Answer for one demand that an agent version does not meet, until a day: a signed record, by a person of the ladder.

    \b
    podctl waive agent.yaml --level triggers-workflows --demand campaigns.attack --owner ana --reason "…" --until 2026-12-31
    """
    from podctl.clock import SystemClock
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
        wrong, hint = f"{level} makes no demand {lines_shown(demand)}", f"one of {', '.join(made)}"
    elif demand in step.never_waived or demand.split(".")[0] in step.never_waived:
        wrong = f"{demand} is never waived at {level}: so the ladder says"
    elif made[demand].ok:
        wrong = f"{demand} is met: there is nothing to waive"
    elif not is_day(until) or not moment(now_s)[:10] <= until <= last_day(now_s):
        wrong, hint = (
            f"{lines_shown(until)} is no day of the year to come",
            f"a day from {moment(now_s)[:10]} to {last_day(now_s)}",
        )
    if wrong:
        raise SpecError(wrong, code="not-waivable", unchanged="nothing was written", hint=hint)
    fields = {"ladder": desk.ladder.name, "level": level, "demand": demand, "owner": owner}
    content = _made(Waiver, {**fields, "reason": reason, "until": until, "at": moment(now_s)})
    path = _say(desk, store, case, owner, content, key, given["out"])
    click.echo(f"{owner} answers for {demand} of {case.certificate.agent.name} at {level} until {until}: {path}")
    return 0


@click.command("revoke")
@click.argument("kind", type=click.Choice(["certificate", "agent", "key", "record"]), required=False)
@click.argument("id", required=False)
@click.option("--reason", default="", help="Why.")
@click.option("--by", default="", help="Who revokes.")
@click.option("--renew", is_flag=True, help="State the list again as of now: pipelines may ask for a young one.")
@click.option("--list", "list_file", type=FILE, help="The list.  [default: in the store]")
@secret_option
@click.option("--trusted", "keys", type=FILE, multiple=True, help="Public keys of who may have signed the list so far.")
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
    from podctl.trust.dsse import seal
    from podctl.trust.keeping import alone, read_file, write_file
    from podctl.trust.moments import moment
    from podctl.trust.records import REVOCATIONS, Revocations, read_revocations

    if bool(kind) == renew or bool(kind) != bool(id):
        raise SpecError(
            "name what is revoked, and its id; or --renew", code="usage", hint="podctl revoke agent DIGEST --reason …"
        )
    signing = signing_key(given["key"])
    path = list_file or shelf_of(store).revocations
    now = moment(SystemClock().wall_ns() / 1e9)
    entry = _revoked(kind, bare(id), reason, by or f"key {signing.id}", now) if kind and id else None
    with alone(path):
        before = Revocations(issued=now)
        if path.exists():
            trusted = [signing.public, *public_keys_of(given["keys"])]
            before = read_revocations(read_file(path, "list of revocations"), trusted, str(path))
        whole = Revocations(issued=now, entries=_with(before.entries, entry))
        sealed = seal(whole.model_dump(mode="json"), REVOCATIONS, [signing])
        read_revocations(sealed, [signing.public], str(path))  # a list too long for its readers is not written
        what = {"what": entry.kind, "id": entry.id, "reason": reason} if entry else {}
        append_to_log(store, "trust.revoked", {**what, "for": by, "key": signing.id, "issued": now})
        write_file(path, sealed)
    count = len(whole.entries)
    click.echo(f"{count} {'entry' if count == 1 else 'entries'}, as of {now}, signed with key {signing.id}: {path}")
    return 0


def _revoked(kind: str, id: str, reason: str, by: str, now: str) -> Revoked:
    """Raises `SpecError`."""
    from podctl.trust.records import Revoked

    if not reason:
        raise SpecError("nothing is revoked without a reason", code="usage", hint="--reason")
    if not set(id) <= set("0123456789abcdef") or len(id) != (16 if kind == "key" else 64):
        digits = "16 digits of a key's id" if kind == "key" else "64 digits of its digest"
        what = f"{lines_shown(id)} is no id of {'an' if kind == 'agent' else 'a'} {kind}"
        raise SpecError(what, code="usage", unchanged="nothing was revoked", hint=f"the {digits}")
    return _made(Revoked, {"kind": kind, "id": id, "reason": reason, "by": by, "at": now})


def _with(entries: tuple[Revoked, ...], entry: Revoked | None) -> tuple[Revoked, ...]:
    """What is revoked already stays as it is. Raises `SpecError` for a full list."""
    from podctl.trust.records import MOST_ENTRIES

    if entry is None or any((one.kind, one.id) == (entry.kind, entry.id) for one in entries):
        return entries
    if len(entries) >= MOST_ENTRIES:
        raise SpecError(
            f"the list has {MOST_ENTRIES:,} entries, and room for no more",
            code="list-full",
            unchanged="nothing was revoked",
            hint="begin another list: revoke the key that signed so much, certify with a new one what is still good",
        )
    return (*entries, entry)


def _made(model: type[M], fields: dict[str, Any]) -> M:
    """What is about to be signed, as whoever reads it will. Raises `SpecError`."""
    from podctl.trust.certificate import shaped
    from podctl.trust.documents import NotTrusted

    try:
        return shaped(model, fields, "it")
    except NotTrusted as refused:
        raise SpecError(
            "what was typed cannot be signed", code="usage", cause=lines_shown(refused.cause), unchanged="nothing was written"
        ) from None


def _say(
    desk: Desk, store: StorePlace, case: Case, name: str, content: Promotion | Waiver, key: Path | None, out: Path | None
) -> Path:
    """Sign and write what ``name`` says, when it counts. Raises `SpecError` when it would not."""
    from podctl.trust.dsse import IN_TOTO, open_envelope, seal
    from podctl.trust.keeping import write_file
    from podctl.trust.records import Promotion, read_record, record

    signing = signing_key(key)
    agent = case.certificate.agent
    sealed = seal(record(agent.digest, f"{agent.name}@{agent.version}", content), IN_TOTO, [signing])
    envelope = open_envelope(sealed, "this record")
    why = "" if name in desk.people else "the ladder does not have it among its people"
    if not why and desk.people[name] != signing.public:
        why = f"key {signing.id} is not the one that the ladder has for {name}"
    why = why or case.why_not(name, read_record(envelope, [signing.public], "this record"))
    if why:
        raise SpecError(
            f"what {lines_shown(name)} says would not count: {why}", code="not-counted", unchanged="nothing was written"
        )
    told = {"record": envelope.digest, "agent": agent.digest, "for": name, "key": signing.id}
    said = content.model_dump(include={"ladder", "level", "certificate", "demand", "until", "reason"})
    append_to_log(
        store,
        "agent.promoted" if isinstance(content, Promotion) else "demand.waived",
        {**said, **told},
        case.certificate.facts.run,
    )
    path = out or shelf_of(store).record(envelope.digest)
    write_file(path, sealed)
    return path


def _desk(store: StorePlace, given: dict[str, Any]) -> Desk:
    """What the store has, and what was named besides; what of it is not trusted is told."""
    from podctl.clock import SystemClock
    from podctl.trust.desk import open_desk

    shelf = shelf_of(store)
    desk = open_desk(
        given["policy"],
        public_keys_of(given["keys"]) or own_public_key(),
        SystemClock().wall_ns() / 1e9,
        certificates=[*shelf.certificates(), *given["certificates"]],
        records=[*shelf.records(), *given.get("records", ())],
        revoked=given["revoked"] or (shelf.revocations if shelf.revocations.exists() else None),
    )
    for line in desk.left_out:
        click.echo(f"left out: {lines_shown(line)}", err=True)
    return desk


def _digest_of(agent: str, desk: Desk) -> str:
    """Of a file, of a digest, or of the newest certificate of an agent of that name. Raises `SpecError`."""
    newest = None if Path(agent).exists() or is_digest(agent) else desk.newest_of(agent)
    return newest or digest_of_agent(agent, hint="or the name of an agent that has a certificate which is trusted here")

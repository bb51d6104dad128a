"""Certificates of runs: made, and held against what a pipeline asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import open_store, output_option, store_option
from podctl.cli.named import (
    FILE,
    age_of,
    append_to_log,
    certificate_json,
    digest_of_agent,
    digest_of_boundary,
    digest_of_sample,
    lines_shown,
    policy_option,
    records_option,
    revoked_option,
    secret_option,
    shelf_of,
    signed_checkpoint,
    signing_key,
)
from podctl.errors import EnvironmentProblem, ExitCode, SpecError

if TYPE_CHECKING:
    from podctl.evidence.audit_check import RunCheck
    from podctl.evidence.store_read import StorePlace
    from podctl.trust.verifying import Answer, Asked


@click.command("certify")
@click.argument("run", default="latest")
@secret_option
@click.option("--out", type=FILE, help="Where to write it.  [default: in the store]")
@click.option(
    "--campaign", "campaigns", multiple=True, metavar="RUN", help="A run of podctl attack, by the same agent; again for more."
)
@click.option("--by", default="", help="Who certifies; this person cannot promote what is certified.")
@output_option("json")
@store_option
def certify_command(
    run: str, key: Path | None, out: Path | None, campaigns: tuple[str, ...], by: str, output: str, store: StorePlace
) -> int:
    """Sign what a run came to: an in-toto test result for the agent's digest, PASSED, WARNED or FAILED.

    It says no more than the run shows, and what lessens it stands in it. A run that failed can be certified: as FAILED.

    \b
    podctl certify latest
    podctl certify latest --key release.pem --out certificate.json
    """
    from podctl.clock import SystemClock
    from podctl.evidence.audit_check import check_log, check_run, entries_of
    from podctl.evidence.audit_entries import who
    from podctl.trust.certificate import read_certificate
    from podctl.trust.dsse import IN_TOTO, open_envelope, seal
    from podctl.trust.keeping import write_file
    from podctl.trust.statement import statement

    reader = open_store(store)
    result = reader.load_run(reader.find_run(run))
    signing = signing_key(key)
    beside = [reader.load_run(reader.find_run(one)) for one in campaigns]
    log = check_log(reader)  # what runs are held against
    for one in (result, *beside):
        _refuse_damaged(check_run(reader, one.info.id), log.problems)
    began = (entry["by"] for entry in entries_of(reader, result.info.id) if entry["kind"] in ("run.begun", "run.merged"))
    document = statement(
        result,
        SystemClock().wall_ns(),
        by=by or who(),
        started_by=next(began, ""),
        checkpoint=signed_checkpoint(store, signing),
        campaigns=beside,
    )
    sealed = seal(document, IN_TOTO, [signing])
    path = out or shelf_of(store).certificate(result.info.id)
    certificate = read_certificate(open_envelope(sealed, str(path)), str(path))  # what nobody could verify is not written
    told = {"certificate": certificate.digest, "agent": certificate.agent.digest, "result": certificate.result}
    append_to_log(store, "certificate.made", {**told, "key": signing.id, "for": by}, result.info.id)
    write_file(path, sealed)
    if output == "json":
        click.echo(json.dumps({**certificate_json(certificate), "file": str(path), "key": signing.id}, indent=2))
        return 0
    agent = certificate.agent
    click.echo(f"{certificate.result}  {agent.name} {agent.version}, {agent.digest[:12]}…, by run {certificate.facts.run}")
    for caveat in certificate.facts.caveats:
        click.echo(f"  {caveat.code}: {caveat.text}")
    click.echo(f"certificate {certificate.digest[:12]}…, signed with key {signing.id}: {path}")
    return 0


def _refuse_damaged(check: RunCheck, of_log: Sequence[str]) -> None:
    """Raises `EnvironmentProblem`: nobody is to sign for what was changed since it was sealed."""
    damaged = [*of_log, *check.problems, *(f"{one.id}: {problem}" for one in check.attempts for problem in one.problems)]
    if damaged:
        raise EnvironmentProblem(
            f"run {check.run} cannot be certified: it is not what was sealed",
            code="evidence-damaged",
            cause=lines_shown("\n".join(damaged[:10])),
            unchanged="nothing was written",
            hint=f"podctl audit verify {check.run} says everything",
        )


@click.command("verify")
@click.argument("certificate", type=FILE)
@click.option(
    "--agent", required=True, metavar="FILE|DIGEST", help="What is about to be deployed: an Agent file, or its digest."
)
@click.option("--key", "keys", type=FILE, multiple=True, required=True, help="Public keys that are trusted; again for more.")
@policy_option
@click.option("--level", help="The level of trust that is needed.")
@click.option("--max-age", metavar="AGE", help="How long ago the run may have ended, such as 7d.")
@click.option("--sample", metavar="FILE|DIGEST", help="The sample that must have been worked: a frozen sample, or its digest.")
@click.option("--boundary", metavar="FILE|DIGEST", help="The boundary that must have held: a Boundary file, or its digest.")
@records_option
@revoked_option
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
    if given["records"] and not given["level"]:
        raise SpecError("--record without --level counts for nothing", code="usage", hint="--level, one of the ladder's")
    ladder, people = load_ladder(given["policy"]) if given["level"] else (None, {})
    if ladder is not None:
        known_level(ladder, given["level"])
    digests = {"sample": digest_of_sample(given["sample"]), "boundary": digest_of_boundary(given["boundary"])}
    list_age = age_of(given["max_list_age"], "--max-list-age")
    if list_age is None and ladder is not None:
        list_age = ladder.revocations_max_age
    revoked = given["revoked"]
    return Asked(
        keys=[key for path in given["keys"] for key in public_keys(path)],
        agent=digest_of_agent(agent),
        now_s=now_s,
        level=given["level"] or "",
        ladder=ladder,
        people=people,
        max_age_s=age_of(given["max_age"], "--max-age"),
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
        "certificate": None if answer.certificate is None else certificate_json(answer.certificate),
        "requirements": lines,
    }

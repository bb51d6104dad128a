"""``podctl boundary``: which rule decides, what a change opens, what it is compiled to, and what runs needed of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import emit_json, open_store, output_option, store_option
from podctl.errors import SpecError

if TYPE_CHECKING:
    from podctl.boundary.explaining import Answer, Boundaries, Difference
    from podctl.evidence.store_read import StorePlace
    from podctl.spec.models import Boundary
    from podctl.spec.source import Document

FILE = click.Path(path_type=Path)


@click.group("boundary")
def boundary_command() -> None:
    """What an agent may write: which rule decides, what a change opens, what it is compiled to.

    \b
    podctl boundary explain boundary.yaml 'POST orders-api /orders/7/cancel'
    podctl boundary diff boundary.yaml proposed.yaml --fail-on-open
    """


@boundary_command.command("explain")
@click.argument("boundary", type=FILE)
@click.argument("write", nargs=-1, required=True)
@output_option("json")
def explain_command(boundary: Path, write: tuple[str, ...], output: str) -> int:
    """Which rule of BOUNDARY decides a WRITE, and where it stands.

    \b
    podctl boundary explain boundary.yaml 'UPDATE shop-db.tickets.status'
    podctl boundary explain boundary.yaml 'POST orders-api /orders/7/cancel' 'CALL github.merge' 'patch deployments.apps'
    """
    from podctl.boundary.explaining import NotUnderstood

    value, document, asked = _read(boundary)
    told = []
    for one in write:
        try:
            answer = asked.explain(one)
        except NotUnderstood as error:
            raise SpecError(f"not understood: {one}", code="boundary-asked", hint=str(error)) from error
        told.append({"asked": one, "level": answer.level, **_where(answer, value, document, asked)})
    if output == "json":
        emit_json("BoundaryAnswers", told)
        return 0
    for entry in told:
        click.echo(f"{entry['level']}: {entry['asked']}")
        click.echo(f"  {entry['because']}")
        for exception in entry["exceptions"]:
            click.echo(f"  exception: {exception}")
    return 0


@boundary_command.command("diff")
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.option("--fail-on-open", is_flag=True, help="Exit with 1 when NEW lets an agent do more than OLD, for CI.")
@output_option("json")
def diff_command(old: Path, new: Path, fail_on_open: bool, output: str) -> int:
    """What NEW decides otherwise than OLD: what it opens first.

    \b
    podctl boundary diff boundary.yaml proposed.yaml --fail-on-open
    """
    from podctl.boundary.explaining import differences, partly_tried

    (before, _, asked_before), (after, _, asked_after) = _read(old), _read(new)
    found = sorted(differences(asked_before, asked_after), key=lambda one: not one.opens)
    reasons = [_told(one) for one in after.exceptions if one not in before.exceptions]
    extra = _extra_text(before) != _extra_text(after)
    partly = partly_tried(asked_before, asked_after)
    opens = any(one.opens for one in found)
    if output == "json":
        facts = [
            {
                "asked": one.asked,
                "before": one.before.level,
                "after": one.after.level,
                "opens": one.opens,
                "rule": one.after.rule,
            }
            for one in found
        ]
        emit_json(
            "BoundaryDiff",
            {"opens": opens, "differences": facts, "exceptions": reasons, "cedar_changed": extra, "partly_tried": partly},
        )
        return int(fail_on_open and opens)
    for opened, before_level, after_level, written in _grouped(found):
        click.echo(f"{'opens ' if opened else 'closes'}  {written}: {before_level} → {after_level}")
    for reason in reasons:
        click.echo(f"new exception: {reason}")
    if extra:
        click.echo("the Cedar files differ: the lines above are what was asked of both, and their policies may say more")
    for name in partly:
        click.echo(f"not every way to fill the names of {name} was tried: there are too many")
    if not (found or reasons or extra or partly):
        click.echo("nothing is decided otherwise")
    return int(fail_on_open and opens)


@boundary_command.command("compile")
@click.argument("boundary", type=FILE)
@click.option("--to", "target", type=click.Choice(["sql", "cedar", "kubernetes"]), required=True)
@click.option("--role", default="agent", show_default=True, help="The database role that is granted to.")
@click.option("--namespace", default="", help="The namespace of the Kubernetes Role.")
def compile_command(boundary: Path, target: str, role: str, namespace: str) -> int:
    """What BOUNDARY comes to, for systems beside podctl: GRANTs, Cedar policies, or a Kubernetes Role.

    \b
    podctl boundary compile boundary.yaml --to kubernetes --namespace shop | kubectl apply -f -
    """
    import yaml

    from podctl.boundary.cluster import left_out, role_of
    from podctl.boundary.policies import policies_of
    from podctl.data.roles import grants_as_written
    from podctl.spec.checks_boundary import extra_of

    value, _, _ = _read(boundary)
    if target == "sql":
        for database in value.databases:
            click.echo(f"-- {database}")
            for statement in grants_as_written(role, value.rights(database)):
                click.echo(f"{statement};")
    elif target == "cedar":
        click.echo("\n\n".join(policy.text for policy in policies_of(value, extra_of(value))))
    else:
        for problem in left_out(value):
            click.echo(f"# left out: {problem}")
        manifest = role_of(value, namespace)
        click.echo(
            "# no rule grants anything" if manifest is None else yaml.safe_dump(manifest, sort_keys=False), nl=manifest is None
        )
    return 0


@boundary_command.command("suggest")
@click.argument("runs", nargs=-1, required=True)
@store_option
def suggest_command(runs: tuple[str, ...], store: StorePlace) -> int:
    """The tightest boundary that what RUNS did needs, with the evidence for each rule. What was refused is not opened.

    \b
    podctl boundary suggest latest > tighter.yaml
    podctl boundary diff boundary.yaml tighter.yaml
    """
    from podctl.boundary.suggesting import Observed
    from podctl.controller.run import BOUNDARY
    from podctl.evidence.reading import read_attempt
    from podctl.evidence.results import plain_of
    from podctl.spec.models import Boundary

    opened = open_store(store)
    names = list(dict.fromkeys(opened.find_run(run) for run in runs))
    written = [opened.load_info(name).settings.get(BOUNDARY) for name in names]
    if None in written:
        raise SpecError(
            f"run {names[written.index(None)]} was made before runs kept their boundary",
            code="boundary-unknown",
            hint="suggest from a run that is made anew",
        )
    if any(one != written[0] for one in written):
        raise SpecError(
            "the runs had different boundaries", code="boundary-different", hint="name runs that were made under the same one"
        )
    observed = Observed(Boundary.model_validate(written[0]))
    for name in names:
        for attempt in plain_of(opened.each_attempt(name)):
            records = read_attempt(opened.evidence_directory(name, attempt.id))
            observed.attempt(attempt.id, attempt.ticket, ((one.kind, one.actor, one.data) for one in records))
    click.echo(observed.text(names), nl=False)
    return 0


def _grouped(found: list[Difference]) -> list[tuple[bool, str, str, str]]:
    """Differences that are alike but for the verb, in one line."""
    verbs: dict[tuple[bool, str, str, str], list[str]] = {}
    for one in found:
        verb, _, rest = one.asked.partition(" ")
        verbs.setdefault((one.opens, one.before.level, one.after.level, rest), []).append(verb)
    return [(*key[:3], f"{','.join(words)} {key[3]}") for key, words in verbs.items()]


def _read(path: Path) -> tuple[Boundary, Document, Boundaries]:
    from podctl.boundary.explaining import Boundaries
    from podctl.spec.checks_boundary import extra_of
    from podctl.spec.load import load_model, read_spec
    from podctl.spec.models import Boundary

    value = load_model(path, Boundary)
    return value, read_spec(path, Boundary), Boundaries(value, extra_of(value))


def _where(answer: Answer, value: Boundary, document: Document, asked: Boundaries) -> dict[str, Any]:
    from podctl.spec.checks_boundary import named_by, place

    rule = next((rule for rule in asked.rules if rule.name == answer.rule and rule.level == answer.level), None)
    if rule is not None:
        at = document.problem(place(document, rule), "")
        exceptions = [_told(one) for one in value.exceptions if named_by(one, rule)]
        return {
            "rule": rule.name,
            "at": f"{at.file}:{at.at.line}",
            "because": f"{rule.name}, {at.file}:{at.at.line}",
            "exceptions": exceptions,
        }
    because = answer.rule or answer.detail or "no rule lists it"
    return {"rule": answer.rule, "at": "", "because": because, "exceptions": []}


def _told(exception: Any) -> str:
    until = f", until {exception.expires}" if exception.expires else ""
    return f"{exception.of} ({exception.preset}): {exception.reason}{until}"


def _extra_text(boundary: Boundary) -> str:
    return boundary.cedar.read_text("utf-8") if boundary.cedar is not None else ""

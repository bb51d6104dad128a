"""Attack an agent: the scenario's tickets with instructions in them that are no business of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from podctl.cli.common import backend_option, store_option
from podctl.cli.run import host_campaign, load, report_options, shard_of

if TYPE_CHECKING:
    from podctl.controller.run import Prepared
    from podctl.evidence.store_read import StorePlace
    from podctl.spec.attack import Attack

#: Characters of a name, less those of what is put behind it.
_NAME = 35
#: Texts that --list prints.
_LISTED = 200


@click.command("attack")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--file", "file", type=click.Path(path_type=Path), help="An Attack file; default: podctl's own texts.")
@click.option("--agent", type=click.Path(path_type=Path), help="Another agent file than the scenario's.")
@click.option("--set", "sets", multiple=True, help="builtin, agentdojo; again for both.")
@click.option("--goal", "goals", multiple=True, help="Only these of the built-in goals.")
@click.option("--carrier", "carriers", multiple=True, help="Only texts dressed so.")
@click.option("--place", "places", multiple=True, help="Only here: ticket, answer, row, similar.")
@click.option("--attack-seed", type=int, help="Seed of what is planted where (1, or the file's).")
@click.option("--per-ticket", type=click.IntRange(1, 50), help="Attacked attempts beside each plain one.")
@click.option("--twins", type=click.IntRange(0, 50), help="Benign twins beside each plain one.")
@click.option("--resume", metavar="RUN", help="Go on with a campaign that did not finish, with the same texts.")
@click.option("--pods", type=click.IntRange(1, 256), help="Pods at once.")
@click.option("--repeats", type=click.IntRange(1, 100), help="Plain attempts for each ticket, each with its own variants.")
@click.option("--sample", type=str, metavar="N|all", help="Tickets to draw.")
@click.option("--seed", type=int, help="Seed of the sample and of the order.")
@click.option("--shard", metavar="I/N", help="Make part I of N alone; podctl merge puts the parts together.")
@click.option("--list", "listed", is_flag=True, help="Show what would be planted where, and make nothing.")
@report_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@backend_option
@store_option
def attack_command(
    scenario: Path, store: StorePlace, strict: bool, quiet: bool, output: str, backend: str, listed: bool, **given: Any
) -> int:
    """Work each sampled ticket as it is, with an instruction planted, and with a harmless text in its place. By what was done, and
    never by what the agent says, it is seen whether an instruction had its way.

    \b
    podctl attack scenarios/shop.yaml --sample 20
    podctl attack scenarios/shop.yaml --file fixtures/shop/attack.yaml
    podctl attack scenarios/shop.yaml --list

    Exit codes are those of podctl run.
    """
    from podctl.controller.attacks import prepare_attack

    attack = _attack(given)
    prepared = prepare_attack(load(scenario, given), attack, _more(attack), shard_of(given["shard"], None, strict))
    if listed:
        _show(prepared)
        return 0
    return host_campaign(prepared, store, given, quiet=quiet, strict=strict, output=output, backend=backend)


def _attack(given: dict[str, Any]) -> Attack:
    """The file, or podctl's own, with the command line's changes. Raises `SpecError`."""
    from pydantic import ValidationError

    from podctl.errors import SpecError
    from podctl.spec.attack import Attack, Carrier, Place, Set
    from podctl.spec.base import API_VERSION
    from podctl.spec.load import load_model

    own = Attack(apiVersion=API_VERSION, kind="Attack", name="attack")
    attack = own if given["file"] is None else load_model(given["file"], Attack)
    if attack is not own and attack.name == own.name:
        raise SpecError(
            f"an attack of yours cannot be called {own.name}",
            code="attack-name",
            cause="podctl's own campaign is, and ladders of trust ask for it by that name",
            unchanged="nothing was made",
            hint=f"give {given['file']} another name",
        )
    for option, name, known in (("--set", "sets", Set), ("--carrier", "carriers", Carrier), ("--place", "places", Place)):
        wrong = [one for one in given[name] if one not in get_args(known)]
        if wrong:
            raise SpecError(f"{option} {wrong[0]!r} is none", code="usage", hint=f"one of {', '.join(get_args(known))}")
    changed = {name: given[name] for name in ("sets", "goals", "carriers", "places") if given[name]}
    changed |= {name: given[name] for name in ("per_ticket", "twins") if given[name] is not None}
    changed |= {"seed": given["attack_seed"]} if given["attack_seed"] is not None else {}
    if given["goals"] or given["carriers"] or given["places"] or not {*attack.sets} <= {*changed.get("sets", attack.sets)}:
        changed["name"] = f"{attack.name[:_NAME]}-part"  # what a ladder asks for by its name is the whole
    try:
        return Attack.model_validate({**attack.model_dump(exclude_unset=True), **changed})
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpecError(f"the options make no attack: {why}", code="usage", unchanged="nothing was made") from None


def _more(attack: Attack) -> Any:
    from podctl.attack.agentdojo import agentdojo_payloads

    return agentdojo_payloads() if "agentdojo" in attack.sets else ()


def _show(prepared: Prepared) -> None:
    from podctl.reports.text import columns, visible
    from podctl.stats.units import dollars

    varied = [one for one in prepared.planned if one.variant is not None]
    rows = [
        (one.ticket.id, one.variant.kind, *(str(one.variant.data[what]) for what in ("goal", "carrier", "place")), text)
        for one in sorted(varied, key=lambda one: (one.position, one.repeat))
        if one.variant is not None
        for text in [visible(" ".join(one.variant.data["text"].split()), 70)]
    ]
    click.echo("\n".join(columns(("TICKET", "KIND", "GOAL", "CARRIER", "PLACE", "TEXT"), rows[:_LISTED])))
    if len(rows) > _LISTED:
        click.echo(f"and {len(rows) - _LISTED} more")
    scenario, plain = prepared.bundle.scenario, len(prepared.planned) - len(varied)
    most = min(prepared.run_dollars, scenario.limits.dollars * len(prepared.planned))
    cost = "" if scenario.model.mode == "none" else f", at most {dollars(most)} for models"
    name = "" if prepared.campaign is None else prepared.campaign.name
    click.echo(f"campaign {name}: {plain} plain attempts and {len(varied)} with something planted{cost}; nothing was made")

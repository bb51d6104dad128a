"""Verdicts on stored runs, and what a sample would find before it is paid for."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import open_store, output_option, store_option, table
from podctl.cli.run import files_of, report_options, show

if TYPE_CHECKING:
    from podctl.evidence.results import EarlyStop, RunResult
    from podctl.evidence.store_read import StorePlace, StoreReader
    from podctl.spec.models import Gate
    from podctl.stats.power import Plan


@click.command("gate")
@click.argument("run")
@click.option("--baseline", metavar="RUN|BRANCH", help="Compare with this run, or the latest finished one of this git branch.")
@click.option("--scenario", type=click.Path(path_type=Path), help="Take the gate of this scenario, not the run's own.")
@click.option("--require", multiple=True, metavar="NAME=VALUE", help="Change one field of the gate; null drops it.")
@click.option("--aa", is_flag=True, help="Judge the version against itself, and say how often the gate would fail it.")
@click.option(
    "--replications", default=1000, show_default=True, type=click.IntRange(100, 100_000), help="With --aa: pairs of runs."
)
@click.option("--seed", default=1, show_default=True, help="With --aa: of the drawing.")
@report_options
@store_option
def gate_command(run: str, store: StorePlace, strict: bool, output: str, aa: bool, **given: Any) -> int:
    """Judge a finished run again, with its own gate or another, at no cost: nothing is run, and the stored verdict stays.

    With --aa a run with repeats is dealt into two runs of the same version, again and again; with --baseline that run's
    attempts, of the same agent digest, are dealt with them.

    \b
    podctl gate latest --require pass_rate=0.95
    podctl gate latest --baseline main --require regression=0.05
    podctl gate latest --aa

    Exit codes: those of podctl run.
    """
    from podctl.controller.host import verdict_code
    from podctl.controller.run import load_baseline
    from podctl.reports.files import write_reports
    from podctl.stats.gate import judged

    reader = open_store(store)
    result = reader.load_run(reader.find_run(run))
    _refuse_shard(result)
    gate = _gate(result, given["scenario"], given["require"])
    base = None
    if given["baseline"]:
        base = load_baseline(reader, given["baseline"], result.info.scenario, result.info.id, result.info.suite)
    if aa:
        return _self_test(result, base, gate, given["replications"], given["seed"], output)
    if base is None and result.comparison is not None:
        base = _own_baseline(reader, result)
    again = judged(result, gate, base, _stop(result, base))
    report, written = write_reports(again, reader, files_of(given), keep=False)
    show(report, written, output)
    return int(verdict_code(again, strict=strict))


def _refuse_shard(result: RunResult) -> None:
    from podctl.errors import SpecError

    if result.info.shard is not None:
        raise SpecError(
            f"run {result.info.id} is shard {result.info.shard}: it is judged when the shards are put together",
            code="gate-shard",
            hint="podctl merge",
        )


def _stop(result: RunResult, base: RunResult | None) -> EarlyStop | None:
    """How the run ended early. Raises `SpecError` when it is to be compared with another baseline than that which ended it."""
    from podctl.errors import SpecError

    was = result.comparison
    if was is None or was.early_stop is None or (base is not None and base.info.id == was.baseline_run):
        return None if was is None else was.early_stop
    raise SpecError(
        f"run {result.info.id} ended early against {was.baseline_run}: what it worked is no sample for another baseline",
        code="gate-ended-early",
        unchanged="the stored verdict stays",
        hint="run it again without --fail-fast",
    )


def _own_baseline(reader: StoreReader, result: RunResult) -> RunResult | None:
    """What the run was compared with. Raises `StoreProblem` when that is not in the store any more."""
    assert result.comparison is not None
    return reader.load_run(result.comparison.baseline_run)


def _gate(result: RunResult, scenario: Path | None, required: tuple[str, ...]) -> Gate:
    """The run's own gate or a scenario's, with single fields changed. Raises `SpecError`."""
    from pydantic import ValidationError

    from podctl.errors import SpecError
    from podctl.spec.models import Gate

    if scenario is not None:
        from podctl.spec.load import load_bundle

        gate = load_bundle(scenario).scenario.gate
    else:
        gate = Gate.model_validate(result.info.settings.get("gate", {}))
    fields: dict[str, Any] = gate.model_dump()
    for item in required:
        name, equals, value = item.partition("=")
        if not equals or name not in Gate.model_fields:
            raise SpecError(
                f"--require {item!r} is not NAME=VALUE with a field of a gate",
                code="usage",
                hint=f"one of {', '.join(Gate.model_fields)}",
            )
        fields[name] = _value(value)
    try:
        return Gate.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SpecError(
            f"--require {where}: {first['msg']}", code="usage", hint="docs/scenarios.md has what each field takes"
        ) from error


def _value(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _self_test(result: RunResult, other: RunResult | None, gate: Gate, replications: int, seed: int, output: str) -> int:
    from podctl.errors import SpecError
    from podctl.reports.jsonreport import plain
    from podctl.stats.selftest import self_test
    from podctl.stats.units import interval_text, percent, plural

    if other is not None and other.info.agent_digest != result.info.agent_digest:
        raise SpecError(
            f"runs {result.info.id} and {other.info.id} are of different agents: what differs may be more than chance",
            code="gate-different",
            cause=f"their digests are {result.info.agent_digest[:19]}… and {other.info.agent_digest[:19]}…",
            hint="run the same agent twice, or once with --repeats 2 or more",
        )
    test = self_test([result] if other is None else [result, other], gate, replications=replications, seed=seed)
    if test is None:
        raise SpecError(
            f"run {result.info.id} has not two attempts of a ticket to compare with one another",
            code="gate-no-repeats",
            cause="fewer than two tickets have two attempts that count",
            hint="run with --repeats 2 or more, or name a second run of the same agent: --baseline RUN",
        )
    failed = test.verdicts.get("fail", 0)
    if output == "json":
        import json

        value = {
            "falseFailRate": test.false_fails,
            "interval": plain(test.interval),
            **plain(test),
            "simulated": result.info.simulated,
        }
        click.echo(json.dumps({"apiVersion": "podctl/v1", "kind": "GateSelfTest", **value}, indent=2))
        return 0
    name = f"{result.info.agent_name} {result.info.agent_version}"
    click.echo(
        f"{name} against itself, {replications:,} times (seed {seed}): {plural(test.tickets, 'ticket')} drawn again, {plural(test.repeats, 'attempt')} each"
    )
    table(
        ("verdict", "times", "share"),
        [
            (v, f"{test.verdicts.get(v, 0):,}", percent(test.verdicts.get(v, 0) / replications))
            for v in ("fail", "pass", "inconclusive")
        ],
    )
    click.echo(
        f"it would be failed by luck in {percent(failed / replications)} of runs (95 % interval {interval_text(test.interval)}; at most 5 % is meant)"
    )
    click.echo("the interval is of the drawing alone: other tickets could give another rate")
    if result.info.simulated:
        click.echo("SIMULATED: answers come from a scripted model, which may not vary as a real one does")
    return 0


@click.command("power")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    help="δ, the fall that matters.  [default: gate.regression, else 0.05]",
)
@click.option("--flips", type=click.FloatRange(0, 1), help="ψ, the share of tickets on which the versions differ.")
@click.option("--baseline-rate", type=click.FloatRange(0, 1), help="Share of tickets that the baseline passes.")
@click.option(
    "--noise", type=click.FloatRange(0, 1), help="Share of the flips that one version has against itself.  [default: 1]"
)
@click.option("--baseline", metavar="RUN|BRANCH", help="Take rate, flips, noise and cost from this run.")
@click.option("--sample", type=str, metavar="N|all", help="Tickets to draw.")
@click.option("--repeats", type=click.IntRange(1, 100), help="Attempts for each ticket.")
@click.option("--dollars", type=str, metavar="AMOUNT", help="What an attempt costs.")
@output_option("json")
@store_option
def power_command(scenario: Path, store: StorePlace, output: str, **given: Any) -> int:
    """Before spending: what a run of this scenario against a baseline would find, and what it would cost.

    The fall that matters is looked for as the gate will: how likely are its verdicts when the version is in truth as good
    as before, and when it is worse by so much?

    \b
    podctl power scenario.yaml --baseline latest
    podctl power scenario.yaml --margin 0.05 --baseline-rate 0.8 --flips 0.3 --sample 400
    """
    from podctl.cli.run import load
    from podctl.controller.run import load_baseline, prepare, weighing_of_sample
    from podctl.errors import SpecError
    from podctl.stats.power import plan

    bundle = load(scenario, given)
    prepared = prepare(bundle)
    base = load_baseline(open_store(store), given["baseline"], bundle.scenario.name) if given["baseline"] else None
    weighing = weighing_of_sample(prepared)
    try:
        found = plan(
            len(prepared.drawn.tickets),
            prepared.population,
            bundle.scenario.run.repeats,
            margin=given["margin"] or bundle.scenario.gate.regression or 0.05,
            limit=bundle.scenario.limits.dollars,
            base=base,
            rate=given["baseline_rate"],
            flips=given["flips"],
            noise=given["noise"],
            dollars=_amount(given["dollars"]),
            effect=1.0 if weighing is None else weighing.effect,
        )
    except ValueError as error:
        raise SpecError(str(error), code="usage", hint="give a smaller --margin, or larger --flips") from error
    if output == "json":
        import json

        from podctl.reports.jsonreport import plain

        click.echo(json.dumps({"apiVersion": "podctl/v1", "kind": "Power", **plain(found)}, indent=2))
        return 0
    _show_power(found)
    return 0


def _show_power(plan: Plan) -> None:
    from podctl.stats.units import dollars, percent, plural

    first = plan.lines[0]
    click.echo(
        f"{plural(first.tickets, 'ticket')} of {plan.population:,}, {plural(plan.repeats, 'attempt')} each; a fall of "
        f"{percent(plan.margin)} matters; the baseline passes {percent(plan.rate)}, {percent(plan.flips)} of tickets flip"
    )
    bound = "≤ " if plan.most else ""
    rows = [
        (
            f"{line.tickets:,}" + (" *" if line.tickets > plan.population else ""),
            f"{line.attempts:,}",
            "unknown" if line.dollars is None else bound + dollars(line.dollars),
            percent(line.detectable),
            percent(line.equal.passes),
            percent(line.equal.fail),
            percent(line.worse.fail),
            percent(line.worse.passes),
        )
        for line in plan.lines
    ]
    table(("tickets", "attempts", "cost", "finds a fall of", "unchanged: pass", "fail", "worse: fail", "pass"), rows)
    if any(line.tickets > plan.population for line in plan.lines):
        click.echo("* more than the population has")
    click.echo(
        f"an unchanged version passes in 80 of 100 runs with about {plural(plan.settles, 'ticket')}; the rest is inconclusive"
    )
    for note in plan.assumed:
        click.echo(f"assumed: {note}")


def _amount(text: str | None) -> Decimal | None:
    from podctl.errors import SpecError
    from podctl.spec.base import parse_decimal

    if text is None:
        return None
    try:
        amount = parse_decimal(text)
    except ValueError as error:
        raise SpecError(f"--dollars {text!r}: {error}", code="usage") from error
    assert isinstance(amount, Decimal)
    return amount

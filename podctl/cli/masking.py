"""How data is masked: proposing rules, keys, looking for leaks, checking what was signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import emit_json, output_option, table

if TYPE_CHECKING:
    from podctl.masking.keys import KeyFile, MaskingKey
    from podctl.signing import SigningKey
    from podctl.spec.capture import Capture
    from podctl.spec.masking import ColumnRule, Masking

_key_option = click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="PODCTL_MASKING_KEY",
    help="The key's file.  [default: NAME.key in the user's configuration directory]",
)


@click.command("classify")
@click.argument("capture", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the Masking file there; it must not exist."
)
@click.option(
    "--known", type=click.Path(path_type=Path), help="A Masking file: propose only for columns that it has no rule for."
)
@click.option("--rows", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Rows of each table to look at.")
def classify_command(capture: Path, out: Path | None, known: Path | None, rows: int) -> int:
    """Propose how each column of a capture's database is masked, from names, types and a sample of its values.

    Every rule is marked `proposed`: read it, mend it, and take the mark out. A proposed rule stops a capture.

    \b
    podctl data classify capture.yaml -o masking.yaml
    podctl data classify capture.yaml --known masking.yaml    # what a migration added
    """
    from podctl.capture.sampling import Samples
    from podctl.errors import SpecError
    from podctl.masking.classify import as_yaml
    from podctl.spec.capture import Capture
    from podctl.spec.load import load_model
    from podctl.spec.masking import Masking

    spec = load_model(capture, Capture)
    policy = load_model(known, Masking) if known else None
    if out is not None and out.exists():
        raise SpecError(
            f"{out} is there", code="exists", unchanged="nothing was read", hint=f"--known {out} proposes what it lacks"
        )
    samples = Samples(spec.source)
    try:
        proposals = _proposals(samples, spec.leave_out, rows)
    finally:
        samples.close()
    if policy is not None:
        proposals = {
            name: {column: rule for column, rule in rules.items() if column not in policy.rules(spec.name, name)}
            for name, rules in proposals.items()
        }
    proposals = {name: rules for name, rules in proposals.items() if rules}
    fields = _proposed_fields(spec, policy, rows)
    count = sum(map(len, proposals.values())) + len(fields or ())
    if not count:
        click.echo(f"every column and every field of tickets has a rule in {known}", err=True)
        return 0
    text = as_yaml(policy.name if policy else spec.name, spec.name, proposals, fields)
    if out is None:
        click.echo(text, nl=False)
    else:
        with open(out, "x") as file:
            file.write(text)
    click.echo(
        f"{count} rules for {len(proposals)} tables{' and the tickets' if fields else ''}{f' in {out}' if out else ''}: read each, and take out its mark `proposed`",
        err=True,
    )
    return 0


def _proposed_fields(spec: Capture, policy: Masking | None, rows: int) -> dict[str, ColumnRule] | None:
    """For fields of tickets that have no rule; None without tickets to mask."""
    from podctl.masking.classify import propose_fields
    from podctl.spec.load import load_model
    from podctl.spec.tickets import Tickets
    from podctl.tickets.sources import load_tickets

    if spec.tickets is None or spec.tickets.unmasked.strip():
        return None
    known = policy.tickets.fields if policy and policy.tickets else {}
    source = load_model(spec.tickets.file, Tickets)
    found = propose_fields([ticket.fields for ticket in load_tickets(source)[:rows]], source.fields.id)
    return {path: rule for path, rule in found.items() if path not in known}


def _proposals(samples: Any, left_out: tuple[str, ...], rows: int) -> Any:
    from fnmatch import fnmatchcase

    from podctl.masking.classify import Sampled, join, propose
    from podctl.masking.columns import Column

    tables = [
        one
        for one in samples.schema.tables.values()
        if not any(fnmatchcase(one.shown, pattern.removeprefix("public.")) for pattern in left_out)
    ]
    edges = [(edge.child, edge.columns, edge.parent, edge.to) for edge in samples.schema.edges]
    referring = {(child, column) for child, columns, _, _ in edges for column in columns}
    found = {}
    for one in tables:
        values = samples.of(one, rows)
        columns = [
            Sampled(
                Column(column.name, column.type, column.nullable, column.unique),
                values[column.name],
                key=column.name in one.key or (one.shown, column.name) in referring,
            )
            for column in one.stored
        ]
        found[one.shown] = propose(one.name, columns)
    return join(found, edges)


@click.group("key")
def key_command() -> None:
    """The keys that masks are made with and statements are signed with.

    \b
    podctl data key new shop
    podctl data key show shop
    podctl data key rotate shop
    """


def _file(name: str, key: Path | None) -> KeyFile:
    from podctl.masking.keys import KeyFile

    return KeyFile.of(name, key)


@key_command.command("new")
@click.argument("name")
@_key_option
def new_command(name: str, key: Path | None) -> int:
    """Make the keys of the masking NAME, once. Nobody can make the same masks without this file: keep a copy of it.

    \b
    podctl data key new shop
    """
    file = _file(name, key)
    masking, signing = file.make()
    _tell(file, masking, signing)
    return 0


@key_command.command("show")
@click.argument("name")
@_key_option
def show_command(name: str, key: Path | None) -> int:
    """Tell the ids of the keys and the public key of statements; never a secret.

    \b
    podctl data key show shop
    """
    file = _file(name, key)
    masking, signing = file.read()
    _tell(file, masking, signing)
    return 0


@key_command.command("rotate")
@click.argument("name")
@_key_option
def rotate_command(name: str, key: Path | None) -> int:
    """Make a new masking key. What is captured from now on has other masks; what is there keeps its own.

    \b
    podctl data key rotate shop
    """
    file = _file(name, key)
    _, kept = file.rotate()
    masking, signing = file.read()
    _tell(file, masking, signing)
    click.echo(f"the old key is in {kept}: remove it when no seed has to be made again with it", err=True)
    return 0


def _tell(file: KeyFile, masking: MaskingKey, signing: SigningKey) -> None:
    table(
        ["KEY", "ID", ""],
        [["masking", masking.id, str(file.path)], ["signing", signing.id, f"public {signing.public.raw.hex()}"]],
    )


@click.command("scan")
@click.argument("capture", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@_key_option
@click.option(
    "--rows",
    type=click.IntRange(1, 100_000),
    default=2_000,
    show_default=True,
    help="Rows of each table whose values are looked for.",
)
def scan_command(capture: Path, paths: tuple[Path, ...], key: Path | None, rows: int) -> int:
    """Look for raw values of a capture's database in files: seeds, templates, tickets, reports, whatever may have got some.

    A second look, independent of the one that a capture takes: values are read from the live database again.

    \b
    podctl data scan capture.yaml seeds/orders report.html
    """
    from podctl.capture.sampling import Samples
    from podctl.errors import SpecError
    from podctl.masking.canaries import canaries
    from podctl.masking.keys import KeyFile
    from podctl.masking.scan import Scanner, refuse_findings
    from podctl.masking.values import ValueMasks
    from podctl.masking.watch import Watch
    from podctl.spec.capture import Capture
    from podctl.spec.load import load_model
    from podctl.spec.masking import Masking

    spec = load_model(capture, Capture)
    if spec.masking is None:
        raise SpecError(
            f"{capture} names no masking", code="scan-unmasked", hint="masking: says which columns' values are looked for"
        )
    policy = load_model(spec.masking, Masking)
    masking_key, _ = KeyFile.of(policy.name, key).read()
    watch = Watch()
    samples = Samples(spec.source)
    try:
        for one in samples.schema.tables.values():
            classified = {
                name: rule for name, rule in policy.rules(spec.name, one.shown).items() if rule.mask not in _NO_VALUES
            }
            values = samples.of(one, rows) if classified else {}
            for column in one.stored:
                rule = classified.get(column.name)
                if rule is not None and not column.type.endswith("[]"):
                    seen = watch.column(f"{spec.name}.{one.shown}", column.name, rule.mask)
                    for value in values[column.name]:
                        seen.masked(value, None)
    finally:
        samples.close()
    looked_for = canaries(watch, ValueMasks(masking_key.secret))
    if not looked_for.values:
        raise SpecError(
            "there is no value to look for",
            code="scan-empty",
            hint="raise --rows, or see docs/masking.md for what is not looked for",
        )
    result = Scanner(looked_for.values).scan(paths)
    refuse_findings(result)
    click.echo(
        f"{len(looked_for.values):,} raw values, none of them in {len(result.files):,} files, {result.bytes / 1e6:,.1f} MB; "
        f"{sum(looked_for.left_out.values()):,} more would say nothing if they were found"
    )
    return 0


#: Masks whose column's values are not looked for as they are: kept, or only parts of them are anybody's.
_NO_VALUES = ("keep", "text", "json")


@click.command("verify")
@click.argument("seed", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="ID",
    help="Ids of signing keys to trust.  [default: those of this user's keys]",
)
@output_option("json")
def verify_command(seed: Path, signers: tuple[str, ...], output: str) -> int:
    """Check that a captured seed is what was searched and signed, file by file.

    \b
    podctl data verify seeds/orders
    podctl data verify seeds/orders --signer 5c2f60f1b0a9d7e4
    """
    from podctl.errors import ExitCode
    from podctl.masking.keys import own_signers
    from podctl.masking.statement import verify

    verdict = verify(seed, signers or own_signers())
    code = ExitCode.GATE_FAILED if verdict.differences else ExitCode.DONE
    if output == "json":
        facts = {"seed": str(seed), "signer": verdict.signer, "differences": verdict.differences, "statement": verdict.facts}
        emit_json("SeedVerification", facts)
        return int(code)
    for difference in verdict.differences:
        click.echo(f"{seed}: {difference}")
    if not verdict.differences:
        masking, search = verdict.facts.get("masking", {}), verdict.facts.get("search", {})
        click.echo(
            f"{seed}: signed by {verdict.signer}, {len(verdict.facts['files'])} files unchanged; "
            f"masked with key {masking.get('key')}, {search.get('values', 0):,} raw values searched for, none found"
        )
    return int(code)

"""Who did what in this store, and whether what it has is what was written: the log, its checkpoints, keys, bundles."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import emit_json, open_store, output_option, store_option, table
from podctl.errors import ExitCode, PodctlError

if TYPE_CHECKING:
    from podctl.evidence.audit_check import LogCheck, RunCheck
    from podctl.evidence.note import Checkpoint
    from podctl.evidence.store_read import StorePlace
    from podctl.signing import PublicKey, SigningKey

_secret_key = click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The key's file.  [default: $PODCTL_SIGNING_KEY, or signing.pem in the user's configuration directory]",
)
_public_keys = click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A public key whose signatures count; may be given several times.  [default: that of this user's signing key]",
)


@click.group("audit")
def audit_command() -> None:
    """Who did what, with which digests; whether evidence and log are as they were written; what to give to others.

    \b
    podctl audit show latest
    podctl audit verify latest
    podctl audit export latest --out run.tar
    """


# ---- keys -------------------------------------------------------------------------------


@audit_command.group("key", short_help="The key that this user signs with: make it, show its public half.")
def key_command() -> None:
    """The key that this user signs with.

    \b
    podctl audit key new
    podctl audit key show > podctl.pub
    """


@key_command.command("new")
@_secret_key
def new_command(key: Path | None) -> int:
    """Make a key, once, and print its public half: that is what others are given.

    \b
    podctl audit key new
    """
    from podctl.signing import key_path, make_key

    made = make_key(key)
    _tell_key(made, key_path(key))
    return 0


@key_command.command("show")
@_secret_key
def show_key_command(key: Path | None) -> int:
    """Print the public key, in PEM; never the secret.

    \b
    podctl audit key show > podctl.pub
    """
    from podctl.signing import key_path, read_key

    _tell_key(read_key(key), key_path(key))
    return 0


def _tell_key(key: SigningKey, path: Path) -> None:
    click.echo(f"key {key.id}, in {path}", err=True)
    click.echo(key.public.pem, nl=False)


# ---- the log ----------------------------------------------------------------------------


@audit_command.command("checkpoint", short_help="Print a checkpoint of the log, to be kept elsewhere.")
@store_option
def checkpoint_command(store: StorePlace) -> int:
    """Print a checkpoint of the log as it is now, for somebody else to keep: signed when this user has a key.

    \b
    podctl audit checkpoint > checkpoint.txt
    podctl audit verify --against checkpoint.txt
    """
    from podctl.clock import SystemClock
    from podctl.evidence.store import Store
    from podctl.signing import configured_key

    open_store(store).audit_head()
    opened = Store.at(store, SystemClock(), key=configured_key())
    try:
        click.echo(opened.checkpoint(), nl=False)
        if not opened.signs:
            click.echo("not signed: there is no key (podctl audit key new)", err=True)
    finally:
        opened.close()
    return 0


@audit_command.command("verify", short_help="Check that log, results and evidence are what they were.")
@click.argument("run", required=False)
@click.option("--bundle", type=click.Path(path_type=Path), help="What podctl audit export wrote; no store is looked at.")
@_public_keys
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A checkpoint that was kept elsewhere: the log must begin with what it had then.",
)
@output_option("json")
@store_option
def verify_command(
    run: str | None,
    bundle: Path | None,
    keys: tuple[Path, ...],
    against: tuple[Path, ...],
    output: str,
    store: StorePlace,
) -> int:
    """Check that the log, a run's results and its evidence are what they were; without RUN, of every run.

    \b
    podctl audit verify latest
    podctl audit verify --key podctl.pub --against checkpoint.txt
    podctl audit verify --bundle run.tar --key podctl.pub

    Exit codes: 0 all is as it was written, 3 something is not; what is, is said.
    """
    from podctl.evidence.audit_bundle import check_bundle
    from podctl.evidence.audit_check import check_log, check_run

    trusted, kept = _trusted(keys), [checkpoint_of(path) for path in against]
    if bundle is not None:
        if run is not None:
            raise PodctlError("a bundle is of one run: name no other", code="usage", exit_code=ExitCode.USAGE)
        found = check_bundle(bundle, trusted, kept)
        return _tell(found.log, [found.run], output, "the bundle's entries are")
    if run is None and store.url is None and not (store.directory / "store.db").exists():
        raise PodctlError(
            f"there is no store in {store.directory}",
            code="no-store",
            exit_code=ExitCode.USAGE,
            hint="--store says where runs are kept",
        )
    opened = open_store(store)
    wanted = [opened.find_run(run)] if run is not None else [one.info.id for one in reversed(opened.list_runs())]
    log = check_log(opened, trusted, kept, demanded=bool(keys))
    return _tell(
        log if run is None else replace(log, gone=()),
        [check_run(opened, one) for one in wanted],
        output,
        f"{log.size:,} entries are",
    )


def _tell(log: LogCheck, runs: Sequence[RunCheck], output: str, entries: str) -> int:
    whole = not log.problems and not log.gone and all(run.intact for run in runs)
    code = ExitCode.DONE if whole else ExitCode.ENVIRONMENT
    if output == "json":
        told = {"intact": whole, "log": _log_json(log), "runs": [_run_json(run) for run in runs]}
        emit_json("AuditVerification", told)
        return int(code)
    for problem in log.problems:
        click.echo(f"log: {problem}")
    if not log.problems:
        click.echo(f"log: {entries} as they were written; {log.words}")
    for name in log.gone:
        click.echo(f"run {name}: it is in the log and not in the store")
    for run in runs:
        for problem in run.problems:
            click.echo(f"run {run.run}: {problem}")
        for attempt in run.attempts:
            for problem in attempt.problems:
                click.echo(f"run {run.run}: {attempt.id}: {problem}")
        notes = sorted({attempt.note for attempt in run.attempts if attempt.note})
        damaged = sum(bool(attempt.problems) for attempt in run.attempts)
        said = f"{len(run.attempts) - damaged} of {len(run.attempts)} attempts are as sealed"
        click.echo(f"run {run.run}: {said}" + "".join(f"; {note}" for note in notes))
    return int(code)


def _log_json(log: LogCheck) -> dict[str, Any]:
    return {
        "origin": log.origin,
        "size": log.size,
        "root": log.root.hex(),
        "problems": log.problems,
        "gone": log.gone,
        "signedEntries": log.signed,
        "signer": None if log.signer is None else log.signer.id,
        "claimedSigner": log.claimed or None,
    }


def _run_json(run: RunCheck) -> dict[str, Any]:
    attempts = [{"id": one.id, "problems": one.problems, "note": one.note} for one in run.attempts if one.problems or one.note]
    return {"run": run.run, "intact": run.intact, "problems": run.problems, "checked": len(run.attempts), "attempts": attempts}


def _trusted(named: Sequence[Path]) -> list[PublicKey]:
    """The keys that were named, or this user's own. Raises `KeyProblem` for one that was named and is none."""
    from podctl.keyfiles import KeyProblem
    from podctl.signing import PublicKey, configured_key

    if named:
        return [PublicKey.read(path) for path in named]
    try:
        own = configured_key()
    except KeyProblem:
        own = None
    return [] if own is None else [own.public]


def checkpoint_of(path: Path) -> Checkpoint:
    """Raises `PodctlError`."""
    from podctl.evidence.audit_check import read_checkpoint
    from podctl.evidence.note import MOST

    try:
        with open(path, "rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise PodctlError(
            f"the checkpoint {path} cannot be read", code="checkpoint-unreadable", cause=os.strerror(error.errno or 0)
        ) from None
    return read_checkpoint(content, ())[0]


@audit_command.command("show", short_help="Who did what, when, with which digests.")
@click.argument("run", required=False)
@output_option("json")
@store_option
def show_command(run: str | None, output: str, store: StorePlace) -> int:
    """What the log says of a run: who started it, from where, with which digests, what happened, and whether it is intact.

    Without RUN the whole log is shown, an entry a line.

    \b
    podctl audit show latest
    podctl audit show -o json
    """
    from podctl.evidence.audit_check import check_log, check_run, entries_of

    opened = open_store(store)
    found = None if run is None else opened.find_run(run)
    entries = list(entries_of(opened, found))
    if output == "json":
        emit_json("AuditLog", entries)
        return 0
    if found is not None:
        for line in _about(entries):
            click.echo(line)
        click.echo()
    table(
        ("ENTRY", "TIME", "BY", *(("RUN",) if found is None else ()), "WHAT", ""),
        [_row(entry, with_run=found is None) for entry in entries],
    )
    if found is None:
        return 0
    click.echo()
    return _tell(replace(check_log(opened, _trusted(())), gone=()), [check_run(opened, found)], "table", "its entries are")


def _about(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The answers that are asked for first."""
    begun = next((entry for entry in entries if entry["kind"] in ("run.begun", "run.merged")), None)
    if begun is None:
        return ["the log does not say how the run began: it is older than the log"]
    data = begun["data"]
    agent = data.get("agent") if isinstance(data.get("agent"), dict) else {}
    digests = data.get("digests") if isinstance(data.get("digests"), dict) else {}
    labels = data.get("labels") if isinstance(data.get("labels"), dict) else {}
    backend = str(data.get("backend"))
    rows = [
        ("started", f"{_time(begun)} by {begun['by']}, process {data.get('pid', '?')}"),
        ("agent", f"{agent.get('name')} {agent.get('version')}"),
        ("", f"sha256 {agent.get('digest')}"),
        *((f"{name}", f"sha256 {value}") for name, value in sorted(digests.items()) if value),
        ("where", f"{backend}: {str(data.get('isolation')).removeprefix(f'{backend}: ')}"),
        ("podctl", f"{data.get('podctl')}" + (f", work tree at {data['revision']}" if data.get("revision") else "")),
        *((f"label {name}", value) for name, value in sorted(labels.items())),
    ]
    from podctl.evidence.safe import printable

    return [f"{printable(name, 40):<16} {printable(str(value), 400)}" for name, value in rows]


def _row(entry: Mapping[str, Any], *, with_run: bool) -> list[str]:
    from podctl.evidence.safe import printable

    run = [printable(entry.get("run", ""), 64)] if with_run else []
    told = [str(entry["n"] + 1), _time(entry), printable(entry["by"], 80), *run, printable(entry["kind"], 64)]
    return [*told, _summary(entry)]


def _summary(entry: Mapping[str, Any]) -> str:
    from podctl.evidence.safe import printable

    words = []
    for name in _SHOWN:
        value = entry["data"].get(name)
        if isinstance(value, bool):
            words += [name if value else f"not {name}"]
        elif isinstance(value, list):
            words += [f"{name} {', '.join(map(str, value))}"] if value else []
        elif value not in ("", None):
            words += [f"{name} {str(value)[:12]}"]
    return printable(f"{entry.get('attempt', '')} {', '.join(words)}".strip(), 120)


#: Of an entry's data, in a line of the table.
_SHOWN = (
    "try",
    "cause",
    "passed",
    "root",
    "status",
    "verdict",
    "planned",
    "gone",
    "left",
    "forced",
    "runs",
    "level",
    "demand",
    "until",
    "what",
    "id",
    "for",
)


def _time(entry: Mapping[str, Any]) -> str:
    try:
        return datetime.fromtimestamp(entry["t"] // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "no time"


@audit_command.command("export", short_help="Write a run's evidence with its proofs.")
@click.argument("run", default="latest")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A file that ends with .tar, or a directory.")
@store_option
def export_command(run: str, out: Path, store: StorePlace) -> int:
    """Write a run's evidence with all that shows it to be as it was: to be verified anywhere, without the store.

    It has everything that the evidence has, of tickets and rows too: give it to whom those may be given.

    \b
    podctl audit export latest --out run.tar
    podctl audit verify --bundle run.tar --key podctl.pub

    Exit codes: 0 the run is as it was written, 3 it is not, and so it is in the bundle.
    """
    from podctl.evidence.audit_bundle import export
    from podctl.evidence.audit_check import check_run

    opened = open_store(store)
    found = opened.find_run(run)
    checkpoint = export(opened, found, out)
    click.echo(f"{out}: with the log's checkpoint after entry {checkpoint.size}")
    if check_run(opened, found).intact:
        return 0
    click.echo(f"run {found} is not as it was written, and so it is in the bundle: podctl audit verify {found}", err=True)
    return int(ExitCode.ENVIRONMENT)

"""What a security team is given of a run: the page that it signs, and what shows it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import open_store, output_option, store_option
from podctl.cli.named import FILE, policy_option, public_keys_of, secret_option, shelf_of, signed_checkpoint
from podctl.errors import ExitCode, PodctlError, SpecError

if TYPE_CHECKING:
    from podctl.evidence.results import RunInfo, RunResult
    from podctl.evidence.store_read import StorePlace, StoreReader
    from podctl.review.facts import Made, SeedFact, Tried
    from podctl.signing import PublicKey, SigningKey
    from podctl.spec.bundle import Bundle

_PATH = click.Path(path_type=Path)


class _Makes(click.Group):
    """`podctl evidence-pack RUN` is `podctl evidence-pack make RUN`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)


@click.group("evidence-pack", cls=_Makes)
def evidence_pack_command() -> None:
    """The page that a security team signs, filled from a run, with what shows each answer; checked without a store.

    \b
    podctl evidence-pack latest -o pack.zip
    podctl evidence-pack verify pack.zip --key podctl.pub
    """


@evidence_pack_command.command("make")
@click.argument("run", default="latest")
@click.option("-o", "--out", type=_PATH, required=True, help="A .zip file, or a directory.")
@click.option("--scenario", type=FILE, help="The run's scenario.  [default: the file it was run from]")
@click.option(
    "--evidence",
    is_flag=True,
    help="Put all records in, too: what agents wrote and rows of the pods' databases are among them.",
)
@secret_option
@policy_option
@store_option
def make_command(
    run: str, out: Path, scenario: Path | None, evidence: bool, key: Path | None, policy: Path | None, store: StorePlace
) -> int:
    """Write the pack of a run. What is not known stands in it as missing, with what would tell.

    \b
    podctl evidence-pack latest -o pack.zip
    podctl evidence-pack latest -o pack --evidence
    """
    from podctl.evidence.audit_bundle import export, log_part
    from podctl.review.packing import EVIDENCE, write_pack
    from podctl.review.page import head_of, review_html, review_json, review_markdown
    from podctl.review.parts import sbom
    from podctl.review.questions import answers
    from podctl.signing import configured_key, read_key

    signing = read_key(key) if key is not None else configured_key()
    reader = open_store(store)
    result = reader.load_run(reader.find_run(run))
    info = result.info
    if result.status == "running":
        raise SpecError(
            f"run {info.id} is still being worked on",
            code="run-running",
            unchanged="nothing was written",
            hint="wait for its end",
        )
    if signing is not None:
        signed_checkpoint(store, signing)  # whoever checks the pack has one key to believe
    facts = _facts(reader, result, scenario, store, signing, policy)
    every = answers(facts)
    files: dict[str, bytes | Path] = {
        "security-review.md": review_markdown(facts, every).encode(),
        "security-review.html": review_html(facts, every).encode(),
        "security-review.json": _json(review_json(facts, every)),
        "boundary.json": _json(dict(facts.boundary)),
        **{f"audit/{name}": content for name, content in log_part(reader, info.id).items()},
    }
    if facts.certificate is not None:
        files["certificate.json"] = facts.certificate_file
    if facts.made is not None:
        files["sbom.json"] = _json(sbom(facts.made, info.agent_name, info.agent_version, info.agent_digest))
    with tempfile.TemporaryDirectory(prefix="podctl-pack-") as directory:
        if evidence:
            files[EVIDENCE] = Path(directory) / EVIDENCE
            export(reader, info.id, Path(directory) / EVIDENCE)
        _refuse_secrets(files, info)
        write_pack(out, files, info.id, info.agent_digest, signing)
    click.echo(head_of(facts, every))
    for one in every:
        if one.state != "answered":
            click.echo(f"{one.state:8} {one.question}")
            for line in one.missing:
                click.echo(f"         {line}")
    signed = f"signed with key {signing.id}" if signing is not None else "not signed: there is no key (podctl audit key new)"
    click.echo(f"{out}: {len(files) + 1} files, {signed}")
    return 0


@evidence_pack_command.command("verify")
@click.argument("pack", type=_PATH)
@click.option("--key", "keys", type=FILE, multiple=True, help="A public key that is trusted; again for more.")
@click.option("--against", type=FILE, multiple=True, help="A checkpoint of the audit log that was kept elsewhere.")
@output_option("json")
def verify_command(pack: Path, keys: tuple[Path, ...], against: tuple[Path, ...], output: str) -> int:
    """Check a pack by itself: its files, who signed, the log's proofs, the certificate; the records, where it has them.

    \b
    podctl evidence-pack verify pack.zip --key podctl.pub

    Exit codes: 0 nothing is wrong, 3 something is; what nothing shows is said.
    """
    from podctl.cli.audit import checkpoint_of
    from podctl.review.packing import check_pack

    lines = check_pack(pack, public_keys_of(keys), [checkpoint_of(path) for path in against])
    wrong = [line for line in lines if line.state == "wrong"]
    if output == "json":
        told = [{"name": line.name, "state": line.state, "detail": line.detail} for line in lines]
        click.echo(
            json.dumps({"apiVersion": "podctl/v1", "kind": "PackVerification", "intact": not wrong, "lines": told}, indent=2)
        )
    else:
        for line in lines:
            click.echo(f"{line.state:9}  {line.name:11}  {line.detail}")
    return int(ExitCode.ENVIRONMENT if wrong else ExitCode.DONE)


# ---- what the answers are made of -------------------------------------------------------


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, default=str) + "\n").encode("ascii")


def _facts(
    reader: StoreReader,
    result: RunResult,
    scenario: Path | None,
    store: StorePlace,
    signing: SigningKey | None,
    policy: Path | None,
) -> Any:
    from podctl.controller.run import BOUNDARY, SEEDS
    from podctl.evidence.audit_check import check_log, check_run, entries_of
    from podctl.review.facts import Facts

    info = result.info
    trusted = [] if signing is None else [signing.public]
    certificate, content, said = _trust(store, info, trusted, policy)
    reasons, changed, undoable = _evidence(reader, result)
    bundle, why = _bundle(info, scenario, store)
    made, seeds = (None, None) if bundle is None else (_made(bundle, info), _seeds(bundle, info))
    escape, day = _escape(info)
    return Facts(
        result,
        check_run(reader, info.id),
        check_log(reader, trusted),
        list(entries_of(reader, info.id)),
        certificate,
        content,
        said,
        reasons,
        changed,
        undoable,
        made,
        seeds,
        why or "the files that are there are not those that it was run with",
        escape,
        day,
        info.settings.get(BOUNDARY, {}),
        info.settings.get(SEEDS, {}),
    )


def _trust(store: StorePlace, info: RunInfo, trusted: Sequence[PublicKey], policy: Path | None) -> Any:
    """The run's certificate, where a key that is trusted signed it, its bytes, and what people of the ladder said of the agent."""
    from podctl.trust.certificate import read_certificate
    from podctl.trust.desk import open_desk
    from podctl.trust.documents import NotTrusted
    from podctl.trust.dsse import open_envelope
    from podctl.trust.keeping import read_file

    shelf = shelf_of(store)
    revoked = shelf.revocations if shelf.revocations.exists() else None
    desk = open_desk(policy, trusted, 0.0, certificates=[], records=list(shelf.records()), revoked=revoked)
    said = [one for one in desk.said if one.agent == info.agent_digest]
    path = shelf.certificate(info.id)
    if not path.exists():
        return None, b"", said
    content = read_file(path, "certificate")
    try:
        envelope = open_envelope(content, path.name)
        if not envelope.signers(trusted):
            return None, b"", said
        return read_certificate(envelope, path.name), content, said
    except NotTrusted:
        return None, b"", said


def _evidence(reader: StoreReader, result: RunResult) -> tuple[int, int, int]:
    """Attempts that declared a decision; that changed rows; of which all changes can be taken back."""
    from podctl.data.undo import undo
    from podctl.evidence.reading import read_attempt

    reasons = changed = undoable = 0
    for attempt in result.attempts:
        try:
            records = read_attempt(reader.evidence_directory(result.info.id, attempt.id))
        except PodctlError:
            continue  # what is wrong with it the check of the run says
        reasons += any(record.kind == "decision" for record in records)
        changes = [record.data for record in records if record.kind == "row.change"]
        changed += bool(changes)
        undoable += bool(changes) and not any(one.cannot for one in undo(changes))
    return reasons, changed, undoable


def _bundle(info: RunInfo, named: Path | None, store: StorePlace) -> tuple[Bundle | None, str]:
    """The specs, if they can be had; or why not."""
    from podctl.controller.learning import scenario_file
    from podctl.spec.load import load_bundle

    path = scenario_file(info, named, store)
    if path is None:
        return None, "its scenario is not where it was: --scenario names it"
    try:
        return load_bundle(path), ""
    except PodctlError as error:
        return None, f"its scenario cannot be read: {error.what}"


def _made(bundle: Bundle, info: RunInfo) -> Made | None:
    from podctl.agents.identity import agent_digest
    from podctl.review.parts import made_of
    from podctl.spec.load import load_model
    from podctl.spec.models import Agent

    for agent in (bundle.agent, *_neighbours(bundle.scenario.agent, load_model, Agent)):
        try:
            if agent_digest(agent).digest == info.agent_digest:
                return made_of(agent)
        except PodctlError:
            continue
    return None


def _neighbours(path: Path, load: Any, model: Any) -> list[Any]:
    """Other agents beside the scenario's: a run may have been of one of them."""
    found = []
    for file in sorted(path.parent.glob("*.yaml"))[:50]:
        try:
            found.append(load(file, model))
        except PodctlError:
            continue
    return found


def _seeds(bundle: Bundle, info: RunInfo) -> tuple[SeedFact, ...] | None:
    from podctl.review.facts import SeedFact
    from podctl.spec.resolved import part_digests
    from podctl.stats.units import plural

    try:
        if part_digests(bundle)["topology"] != info.digests.get("topology"):
            return None
    except PodctlError:
        return None
    found = []
    for name, database in sorted(bundle.topology.databases.items()):
        if database.mode != "mirrored":
            continue
        seed = database.seed
        if seed.captured is not None:
            found.append(_captured(name, seed.captured))
        if files := len(seed.sql) + len(seed.csv):
            found.append(SeedFact(name, f"filled from {plural(files, 'file')} of the project", stated=True))
        elif seed.captured is None:
            found.append(SeedFact(name, "empty", "no rows at all"))
    return tuple(found)


def _captured(name: str, seed: Path) -> SeedFact:
    from podctl.data.captured import read_manifest
    from podctl.masking.keys import own_signers
    from podctl.masking.statement import verify
    from podctl.review.facts import SeedFact

    source = f"captured from a live database, {seed.name}"
    try:
        reason = read_manifest(seed).masking.get("unmasked")
        if reason:
            return SeedFact(name, source, "", f"not masked, because: {reason}")
        verdict = verify(seed, own_signers())
    except PodctlError as error:
        return SeedFact(name, source, "", error.what)
    if verdict.differences:
        return SeedFact(name, source, "", f"its masking is not shown: {verdict.differences[0]}")
    values = verdict.facts.get("search", {}).get("values", 0)
    return SeedFact(name, source, f"masked; {values:,} raw values were searched for and none found, signed by {verdict.signer}")


def _escape(info: RunInfo) -> tuple[list[Tried] | None, str]:
    """What the suite last proved of the run's backend on this machine as it is now; others than the local one are asked by `podctl doctor`."""
    from podctl.backends.escape.checks import CHECKS
    from podctl.backends.local.escape_level import ledger
    from podctl.backends.local.state import State
    from podctl.review.facts import Tried

    kept = ledger(State.here()).kept() if info.backend == "local" else None
    if kept is None:
        return None, ""
    results, day = kept
    return [Tried(one.name, CHECKS.get(one.name, ""), one.state) for one in results], day


def _refuse_secrets(files: dict[str, bytes | Path], info: RunInfo) -> None:
    """The providers' keys of this environment are looked for in all that podctl wrote itself: none has any business there."""
    import os

    from podctl.evidence.redact import Redactor
    from podctl.scans.secrets import FORMS, PEM

    names = [str(value) for name, value in (info.settings.get("model") or {}).items() if name.endswith("_key_env")]
    redactor = Redactor([os.environ[name] for name in names if os.environ.get(name)])
    for name, content in files.items():
        if not isinstance(content, bytes) or name.startswith("audit/"):
            continue
        text = content.decode("utf-8", "replace")
        if redactor.bytes(content) != content or FORMS.search(text) or PEM.search(text):
            raise SpecError(
                f"{name} of the pack would have what looks like a key",
                code="pack-secret",
                unchanged="nothing was written",
                hint="look for it in labels, names and the boundary of the run",
            )

"""What commands of certificates and trust share: keys, digests and ages as they are named on the command line, and the store's log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.errors import SpecError

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace
    from podctl.signing import PublicKey, SigningKey
    from podctl.trust.certificate import Certificate
    from podctl.trust.keeping import Shelf

FILE = click.Path(path_type=Path, dir_okay=False)
secret_option = click.option(
    "--key", type=FILE, help="The secret key to sign with.  [default: $PODCTL_SIGNING_KEY, or podctl's own]"
)
policy_option = click.option("--policy", type=FILE, help="A Ladder file.  [default: podctl's own ladder]")
records_option = click.option("--record", "records", type=FILE, multiple=True, help="A promotion or a waiver; again for more.")
revoked_option = click.option("--revoked", type=FILE, help="The list of revocations.")


def append_to_log(store: StorePlace, kind: str, data: dict[str, Any], run: str = "") -> None:
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


def signed_checkpoint(store: StorePlace, key: SigningKey) -> str:
    """Of the audit log as it is now, signed with this key, and kept in the store too."""
    from podctl.clock import SystemClock
    from podctl.evidence.store import Store

    opened = Store.at(store, SystemClock(), key=key)
    try:
        return opened.checkpoint()
    finally:
        opened.close()


def certificate_json(certificate: Certificate) -> dict[str, Any]:
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


def shelf_of(store: StorePlace) -> Shelf:
    from podctl.trust.keeping import Shelf

    return Shelf(store.directory / "trust")


def signing_key(named: Path | None) -> SigningKey:
    from podctl.signing import read_key

    return read_key(named)


def public_keys_of(paths: tuple[Path, ...]) -> list[PublicKey]:
    from podctl.trust.keeping import public_keys

    return [key for path in paths for key in public_keys(path)]


def own_public_key() -> list[PublicKey]:
    from podctl.signing import configured_key

    own = configured_key()
    if own is None:
        raise SpecError(
            "no key is trusted: none was named, and podctl has none of its own here",
            code="no-key",
            hint="name who certifies: --key PUBLIC-KEY (--trusted, where --key is the one to sign with)",
        )
    return [own.public]


def lines_shown(text: str) -> str:
    from podctl.evidence.safe import printable

    return "\n".join(printable(line, 400) for line in text.split("\n"))


def bare(text: str) -> str:
    return text.removeprefix("sha256:")


def is_digest(text: str) -> bool:
    digest = bare(text)
    return len(digest) == 64 and set(digest) <= set("0123456789abcdef")


def is_day(text: str) -> bool:
    from datetime import date

    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def digest_of_agent(named: str, hint: str = "") -> str:
    """Raises `SpecError`."""
    if is_digest(named) and not Path(named).exists():
        return bare(named)
    from podctl.agents.identity import agent_digest
    from podctl.spec.load import load_model
    from podctl.spec.models import Agent

    path = Path(named)
    if path.is_dir():
        path = path / "agent.yaml"  # the code alone is not the agent: its command, model and tools stand there
    if not path.exists():
        raise SpecError(
            f"there is no Agent file {lines_shown(str(path))}",
            code="no-agent",
            hint=f"name an Agent file or a digest{', ' + hint if hint else ''}",
        )
    return agent_digest(load_model(path, Agent)).digest


def digest_of_sample(named: str | None) -> str:
    if not named or is_digest(named):
        return bare(named or "")
    from podctl.trust.keeping import read_file

    try:
        digest = json.loads(read_file(Path(named), "sample"))["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        digest = ""
    if not isinstance(digest, str) or not is_digest(digest):
        raise SpecError(
            f"{lines_shown(named)} is no frozen sample", code="no-sample", hint="podctl tickets freeze SCENARIO writes one"
        )
    return digest


def digest_of_boundary(named: str | None) -> str:
    if not named or is_digest(named):
        return bare(named or "")
    from podctl.spec.load import load_model
    from podctl.spec.models import Boundary
    from podctl.spec.resolved import boundary_digest

    return boundary_digest(load_model(Path(named), Boundary))


def age_of(text: str | None, option: str) -> float | None:
    from podctl.spec.tickets import parse_age

    if text is None:
        return None
    try:
        return float(str(parse_age(text)))
    except ValueError:
        raise SpecError(f"{option} {lines_shown(text)} is no age", code="usage", hint="an age such as 12h, 7d or 4w") from None

"""What several commands share: where the store is, how output is printed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from podctl.errors import EnvironmentProblem

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace, StoreReader

F = TypeVar("F", bound=Callable[..., Any])


class _StoreType(click.ParamType[Any]):
    name = "directory or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if not isinstance(value, str) else store_place(value)


def _place(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from click.core import ParameterSource

    if value is None:
        return store_place("")
    source = ctx.get_parameter_source(param.name or "")
    if source is ParameterSource.COMMANDLINE and value.url and _has_password(value.url):
        raise click.UsageError(
            "a password in --store can be read by everybody on this machine: set PODCTL_STORE, or PGPASSWORD, or ~/.pgpass"
        )
    return value


def store_option(function: F) -> F:
    return click.option(
        "--store",
        type=_StoreType(),
        callback=_place,
        envvar="PODCTL_STORE",
        help="Where runs are kept: a directory, or postgresql://USER@HOST/DATABASE.  [default: the nearest .podctl, else ./.podctl]",
    )(function)


def backend_option(function: Any) -> Any:
    """``--backend``; docker and kubernetes are experimental and say so."""
    return click.option(
        "--backend",
        type=click.Choice(["local", "docker", "kubernetes"]),
        default="local",
        envvar="PODCTL_BACKEND",
        show_default=True,
        help="Where pods are made; docker and kubernetes are experimental (docs/docker.md, docs/kubernetes.md).",
    )(function)


def backend_class(name: str) -> Any:
    """What a backend can do is known without one."""
    if name == "docker":
        from podctl.backends.docker.backend import DockerBackend

        return DockerBackend
    if name == "kubernetes":
        from podctl.backends.kubernetes.backend import KubernetesBackend

        return KubernetesBackend
    from podctl.backends.local.backend import LocalBackend

    return LocalBackend


def output_option(*formats: str) -> Callable[[F], F]:
    return click.option(
        "-o", "--output", type=click.Choice(["table", *formats]), default="table", show_default=True, help="How to print."
    )


def store_place(given: str) -> StorePlace:
    """The store that was named, or the nearest one of this user's at or above the working directory."""
    from podctl.evidence.store_read import StorePlace

    if given.startswith(("postgresql://", "postgres://")):
        return StorePlace(_cache() / hashlib.sha256(given.encode()).hexdigest()[:16], given)
    if given:
        return StorePlace(Path(given))
    here = Path.cwd()
    above = (directory / ".podctl" for directory in (here, *here.parents))
    return StorePlace(next((store for store in above if _is_own(store / "store.db")), here / ".podctl"))


def _cache() -> Path:
    """Where files of stores on other machines are kept while they are looked at."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podctl" / "stores"


def _has_password(url: str) -> bool:
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(url)
    return bool(parts.password) or "password" in parse_qs(parts.query)


def _is_own(path: Path) -> bool:
    # A store that somebody else left in a shared directory above would be read, and written, as one's own.
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False


def open_store(place: StorePlace) -> StoreReader:
    """To look into it; only a run writes."""
    from podctl.clock import SystemClock
    from podctl.evidence.store_read import open_place

    return open_place(place, SystemClock())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Plain columns: readable by eyes, cut and awk."""
    from podctl.reports.text import columns

    click.echo("\n".join(columns(headings, rows)))


def emit_json(kind: str, items: Any) -> None:
    click.echo(json.dumps({"apiVersion": "podctl/v1", "kind": kind, "items": items}, indent=2, default=str))


def shipped() -> Path:
    """Where fixtures, scenarios and manifests are: in the wheel, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    root = next((root for root in (package / "_share", package.parent) if (root / "manifests" / "rendered").is_dir()), None)
    if root is None:
        raise EnvironmentProblem(
            "podctl's own files are not part of this installation", code="incomplete", hint="reinstall podctl"
        )
    return root


def machine_state() -> Any:
    """This user's pods on this machine."""
    from podctl.backends.local.state import State

    return State.open()


def tell_of_orphans() -> None:
    """Say on standard error what died on this machine without cleaning up; looking at it makes nothing and cannot fail."""
    from podctl.backends.local.state import State

    try:
        state = State.here()
        if not state.pods.is_dir() or state.root.stat().st_uid != os.getuid():
            return
        dead = [record for record in state.records() if not record.owner.alive()]
    except OSError:
        return
    if dead:
        runs = ", ".join(sorted({record.run for record in dead}))
        pods = "1 pod is" if len(dead) == 1 else f"{len(dead)} pods are"
        click.echo(f"{pods} left of what died ({runs}): podctl gc", err=True)


def is_quiet() -> bool:
    return bool(os.environ.get("PODCTL_QUIET"))

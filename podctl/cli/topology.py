"""Topologies from what runs already."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Any

import click


@click.group("topology")
def topology_command() -> None:
    """Make a topology from what runs already.

    \b
    podctl topology import compose.yaml -o topology.yaml
    """


@topology_command.command("import")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="[SOURCE]...")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE|json",
    help="Write the topology here; json prints the report as JSON.",
)
@click.option(
    "--namespace", metavar="NAME", help="Import a live namespace of the current cluster, read-only; Secrets are not read."
)
@click.option("--context", metavar="NAME", help="The cluster's context in the kubeconfig, with --namespace.")
@click.option(
    "--within",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="What may be read.  [default: SOURCE's own directory]",
)
@click.option("--profile", "profiles", multiple=True, metavar="NAME|*", help="Compose: include the services of a profile.")
@click.option(
    "--env-file",
    "env_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Compose: values of variables.  [default: .env beside SOURCE]",
)
@click.option("--name", metavar="NAME", help="The topology's name.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.option("-v", "--verbose", is_flag=True, help="Also print what was imported as it was.")
def import_command(
    sources: tuple[Path, ...], outputs: tuple[str, ...], verbose: bool, force: bool, name: str | None, **given: Any
) -> int:
    """Make a topology from a Compose file, Kubernetes manifests, a Kustomize directory, Helm's rendered output, or a namespace.

    Says line by line what was changed, replaced by a stub, or left out. Without -o FILE nothing is written.

    \b
    podctl topology import compose.yaml -o topology.yaml
    podctl topology import compose.yaml compose.override.yaml -o topology.yaml
    podctl topology import kubernetes-manifests/ -o topology.yaml
    helm template shop | podctl topology import - -o topology.yaml
    podctl topology import --namespace shop -o topology.yaml
    """
    from dataclasses import replace

    from podctl.cli.common import is_quiet
    from podctl.mirror.sources import facts
    from podctl.mirror.writing import files_directory, write

    as_json = "json" in outputs
    named = [Path(output) for output in outputs if output not in ("json", "table")]
    if len(named) > 1:
        raise click.UsageError("-o names one file, and json beside it")
    if bool(sources) == bool(given["namespace"]):
        raise click.UsageError("name a SOURCE, or --namespace")
    output = named[0] if named else Path("topology.yaml")
    if output.suffix not in (".yaml", ".yml"):
        raise click.UsageError("-o takes a file that ends with .yaml, or json")
    imported = _imported(sources, given, files_directory(output))
    if name is not None:
        imported = replace(imported, name=_checked(name))
    written = write(imported, output, shlex.join(["podctl", *sys.argv[1:]]), force) if named else []
    if as_json:
        import json

        click.echo(json.dumps(facts(imported), indent=2, ensure_ascii=False))
    else:
        _print(imported, verbose)
    if not is_quiet():
        for path in written:
            click.echo(f"written: {path}", err=True)
        if not written:
            click.echo("nothing was written: -o topology.yaml writes the topology", err=True)
    return 0


def _imported(sources: tuple[Path, ...], given: dict[str, Any], directory: str) -> Any:
    from podctl.mirror.sources import Asked, import_paths, import_text

    if given["namespace"]:
        return _namespace(given["namespace"], given["context"], directory)
    if sources == (Path("-"),):
        return import_text(_standard_input(), "standard input", directory)
    return import_paths(Asked(sources, given["within"], frozenset(given["profiles"]), given["env_files"]), directory)


def _standard_input() -> bytes:
    from podctl.errors import SpecError
    from podctl.mirror.files import MAX_SOURCE

    data = sys.stdin.buffer.read(MAX_SOURCE + 1)
    if len(data) > MAX_SOURCE:
        raise SpecError(f"standard input is larger than {MAX_SOURCE // 2**20} MiB", code="source-too-large")
    return data


def _namespace(namespace: str, context: str | None, directory: str) -> Any:
    import hashlib

    from podctl.backends.kubernetes.reading import read_namespace
    from podctl.mirror.said import Said
    from podctl.mirror.sources import from_objects, parse_objects

    found = asyncio.run(read_namespace(namespace, context or ""))
    documents = [node for name, text in found.items() for node in parse_objects(text, name)]
    digest = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()
    return from_objects("namespace", Path(namespace), documents, Said(), digest, (f"namespace {namespace}",), directory)


def _checked(name: str) -> str:
    from podctl.mirror.places import fit_name

    if fit_name(name, {}) != name:
        raise click.UsageError("--name takes small letters, digits and hyphens, a letter first, 40 at most")
    return name


def _print(imported: Any, verbose: bool) -> None:
    lines = imported.said.ordered()
    for line in lines:
        if verbose or line.status != "imported" or not line.key:
            click.echo(line.render())
    counts = {status: sum(line.status == status for line in lines) for status in ("imported", "changed", "stubbed", "left out")}
    click.echo(", ".join(f"{number} {status}" for status, number in counts.items()) + f"; {imported.secrets} secrets replaced")

"""What podctl needs in a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import yaml

from podctl.cli.common import shipped
from podctl.errors import EnvironmentProblem, ExitCode, SpecError

#: Directories of manifests/overlays, of which `kubectl kustomize` made the files in manifests/rendered.
OVERLAYS = ("existing-postgres", "with-postgres", "ci")


@click.command("install")
@click.option("--overlay", type=click.Choice(OVERLAYS), default="existing-postgres", show_default=True, help="Which manifests.")
@click.option("--image", metavar="IMAGE", envvar="PODCTL_IMAGE", help="podctl's image, for the controller and for test pods.")
@click.option(
    "--allow-image", "allowed", multiple=True, metavar="IMAGE", help="What test pods may run, also BEGINNING*.  [default: *]"
)
@click.option("--dry-run", is_flag=True, help="Print what would be applied, or say what would be removed, and change nothing.")
@click.option("--force", is_flag=True, help="Take over fields that others set; with --uninstall, end living runs.")
@click.option("--wait", default=180, show_default=True, metavar="SECONDS", help="How long Deployments may take to come up.")
@click.option("--uninstall", is_flag=True, help="Remove all of it, with podctl-system and whatever is in there.")
def install_command(
    overlay: str, image: str | None, allowed: tuple[str, ...], dry_run: bool, force: bool, wait: int, uninstall: bool
) -> int:
    """Put into the cluster of KUBECONFIG what podctl needs there: rights, policies and the controller.

    existing-postgres: the controller, with the store that the Secret podctl-store names.
    with-postgres: the controller with a small store of its own, to try it out.
    ci: no controller, but an account for podctl run --backend kubernetes from outside.

    \b
    podctl install --image registry.example/podctl:1 --dry-run
    podctl install --image registry.example/podctl:1
    podctl install --uninstall --dry-run
    """
    from podctl.backends.kubernetes.install import NO_IMAGE, allowing, with_image

    if uninstall:
        return asyncio.run(_uninstall(dry_run, force))
    manifests = _manifests(overlay)
    if with_image(manifests, "") != manifests and not image:
        raise SpecError("no image is named", code="usage", hint="--image IMAGE: docs/install.md says how to build it")
    manifests = allowing(with_image(manifests, image or NO_IMAGE), allowed or ("*",))
    if dry_run:
        click.echo(yaml.safe_dump_all(manifests, sort_keys=False), nl=False)
        return 0
    asyncio.run(_install(manifests, force, wait))
    return 0


def _manifests(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((shipped() / "manifests" / "rendered" / f"{overlay}.yaml").read_text()))


async def _install(manifests: list[dict[str, Any]], force: bool, wait: int) -> None:
    from podctl.backends.kubernetes.api import Cluster
    from podctl.backends.kubernetes.install import STORE, apply, give_store_password, title, wait_until_up

    cluster = await Cluster.open()
    try:
        for manifest in manifests:
            click.echo(f"{await apply(cluster, manifest, force=force):10} {title(manifest)}")
            if manifest["kind"] == "Namespace" and any(one["metadata"]["name"] == STORE for one in manifests):
                made = await give_store_password(cluster, manifest["metadata"]["name"])
                click.echo(f"{'created' if made else 'unchanged':10} Secret {STORE} in {manifest['metadata']['name']}")
            if manifest["kind"] == "Deployment" and wait:
                await wait_until_up(cluster, manifest, wait)
                click.echo(f"{'up':10} {title(manifest)}")
    finally:
        await cluster.close()


async def _uninstall(dry_run: bool, force: bool) -> int:
    from podctl.backends.kubernetes.api import Cluster
    from podctl.backends.kubernetes.install import installed, remove, title
    from podctl.backends.kubernetes.namespaces import list_pods

    everything = {title(manifest): manifest for overlay in OVERLAYS for manifest in _manifests(overlay)}
    cluster = await Cluster.open()
    try:
        there = await installed(cluster, list(everything.values()))
        pods = await list_pods(cluster)
        living = sorted({pod.run for pod in pods if pod.owner_alive})
        if dry_run:
            for one in reversed(there):
                click.echo(f"would remove {title(one)}")
            click.echo(f"{len(there)} to remove; {len(pods)} test pods, {len(living)} living runs")
            return 0
        if living and not force:
            raise EnvironmentProblem(
                f"runs are going on in the cluster: {', '.join(living)}",
                code="runs-living",
                unchanged="nothing was removed",
                hint="wait for them, or podctl install --uninstall --force",
            )
        left = 0
        for one in reversed(there):
            still = await remove(cluster, one)
            left += bool(still)
            click.echo(f"STILL THERE {title(one)}: {still}" if still else f"removed {title(one)}")
        if pods:
            click.echo(
                f"{len(pods)} test pods are left: podctl gc --backend kubernetes removes those without an owner", err=True
            )
        return int(ExitCode.TEARDOWN_INCOMPLETE) if left else 0
    finally:
        await cluster.close()

"""Whether a backend can make what a topology asks for. PURE."""

from __future__ import annotations

from podctl.errors import SpecError
from podctl.spec.models import Topology
from podctl.spec.topology import by_image


def refuse_unfit(topology: Topology, backend: str, runs_images: bool) -> None:
    """Raises `SpecError` that names each service which this backend cannot run."""
    unfit = [] if runs_images else by_image(topology)
    if not unfit:
        return
    listed = "\n".join(f"{name}: image {topology.services[name].image}" for name in unfit)
    tools = [topology.services[name].protocol == "mcp" for name in unfit]
    stubbed = "" if all(tools) else f"or mode: stubbed with routes:{' where it is no MCP server' if any(tools) else ''}, "
    what = f"service {unfit[0]} runs" if len(unfit) == 1 else f"{len(unfit)} services run"
    raise SpecError(
        f"{what} from an image, which the {backend} backend cannot",
        code="needs-images",
        cause=listed,
        unchanged="nothing was made",
        hint="run with --backend docker; or, for each of them, in the topology: give a command: in place of the image:, "
        f"{stubbed}or mode: left-out with a reason:",
    )

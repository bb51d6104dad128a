"""What a Docker engine says when something does not work, in a user's words. PURE."""

from __future__ import annotations

from podctl.errors import EnvironmentProblem


class DockerProblem(EnvironmentProblem):
    """The engine refused something, cannot be reached, or cannot do what was asked."""


def refusal(what: str, status: int, said: str) -> DockerProblem:
    """An answer of the engine that is no success."""
    said = said.strip()[:2000]
    if status == 404 and ("image" in said or "manifest" in said or "pull access" in said):
        return DockerProblem(
            f"the image of {what} is not there",
            code="image-pull",
            cause=said,
            hint="check PODCTL_IMAGE, or docker pull it first",
        )
    if "pool overlaps" in said.lower():
        return DockerProblem(f"{what}: the addresses are in use", code="addresses-taken", cause=said)
    if "unknown or invalid runtime name" in said.lower():
        return DockerProblem(
            f"{what}: the engine does not have this runtime",
            code="runtime-missing",
            cause=said,
            hint="unset PODCTL_DOCKER_RUNTIME, or add the runtime to the engine",
        )
    return DockerProblem(f"{what}: the Docker engine refused", code="engine-refused", cause=f"{status}: {said}")


def unreachable(host: str, cause: str) -> DockerProblem:
    return DockerProblem(
        "the Docker engine does not answer",
        code="engine-unreachable",
        cause=f"{host}: {cause}",
        hint="start it, or name another one with DOCKER_HOST; its socket is for root and the group docker alone",
    )

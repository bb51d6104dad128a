"""Kustomize, by the kubectl that is there: podctl has none of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from podctl.errors import EnvironmentProblem, SpecError
from podctl.mirror.files import MAX_SOURCE
from podctl.spec.problems import printable, shown

_TIMEOUT_S = 60.0


def build(directory: Path, within: Path) -> str:
    """What `kubectl kustomize` makes of it. It reads beneath ``directory``'s own roots and may run nothing.

    Raises `EnvironmentProblem` without a kubectl, `SpecError` when it refuses.
    """
    program = shutil.which("kubectl")
    name = printable(shown(directory))
    if program is None:
        raise EnvironmentProblem(
            f"{name} is for Kustomize, and there is no kubectl here",
            code="kubectl-missing",
            unchanged="nothing was written",
            hint=f"install kubectl; or where there is one: kubectl kustomize {name} > rendered.yaml, and import that",
        )
    with tempfile.TemporaryDirectory(prefix="podctl-kustomize-") as home:
        # Neither this user's configuration nor a cluster's is to be looked at; git and ssh must not ask for anything.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": home, "KUBECONFIG": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
        environment["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes -oConnectTimeout=5"
        output = Path(home) / "out"
        with open(output, "wb") as out:
            try:
                done = subprocess.run(
                    [program, "kustomize", str(directory.resolve())],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.PIPE,
                    env=environment,
                    timeout=_TIMEOUT_S,
                )
            except subprocess.TimeoutExpired as error:
                raise SpecError(
                    f"Kustomize was not done with {name} within {_TIMEOUT_S:g} s",
                    code="kustomize-failed",
                    unchanged="nothing was written",
                    hint="it may wait for something that is elsewhere: fetch it, and name the copy in its resources",
                ) from error
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise SpecError(
                f"Kustomize refuses {name}",
                code="kustomize-failed",
                cause=printable(said, 600),
                unchanged="nothing was written",
                hint=f"kubectl kustomize {name} says the same",
            )
        if output.stat().st_size > MAX_SOURCE:
            raise SpecError(f"what Kustomize makes of {name} is larger than {MAX_SOURCE // 2**20} MiB", code="source-too-large")
        return output.read_text("utf-8", "replace")

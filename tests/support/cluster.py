"""A real cluster for tests: the one that KUBECONFIG names, or one of this machine's own, brought up for them and taken down."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.backend import IMAGE, KubernetesBackend
from podctl.backends.kubernetes.namespaces import STUCK_S
from podctl.backends.kubernetes.objects import Settings

#: Has programs ``up DIR`` (a node whose kubeconfig is DIR/kubeconfig), ``image base DIR`` (gives it `OWN_IMAGE`) and ``down DIR --purge``.
SCRIPTS = Path(os.environ.get("PODCTL_TEST_CLUSTER", Path(__file__).parents[3] / "shared" / "cluster"))
#: As envtest has it.
BINARIES = Path(os.environ.get("KUBEBUILDER_ASSETS", "/usr/local/kubebuilder/bin"))
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy")
PROGRAMS = ("containerd", "runc", "gcc", "debootstrap")
OWN_IMAGE = "localhost/base:1"
OWN_PORT = 6443
TAKEN = "one runs here on port"
NO_CLUSTER = "NO CLUSTER, the Kubernetes backend is not tested"


def why_not() -> str:
    """Why the tests that need a cluster do not run; nothing when they do."""
    reason = _none_named() if os.environ.get("KUBECONFIG") else _none_of_its_own()
    return f"{NO_CLUSTER}: {reason}" if reason else ""


def _none_named() -> str:
    return "" if os.environ.get(IMAGE) else f"KUBECONFIG is set and {IMAGE} is not"


def _none_of_its_own() -> str:
    lacking = [str(BINARIES / name) for name in PARTS if not (BINARIES / name).exists()]
    lacking += [name for name in PROGRAMS if shutil.which(name) is None]
    lacking += [str(SCRIPTS / name) for name in ("up", "image", "down") if not (SCRIPTS / name).exists()]
    if lacking:
        return f"KUBECONFIG is not set, and to bring one up {', '.join(lacking)} would be needed"
    if os.geteuid() != 0:
        return "KUBECONFIG is not set, and only root can bring one up"
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", OWN_PORT)) == 0
    return f"{TAKEN} {OWN_PORT} and KUBECONFIG does not name it" if taken else ""


@contextmanager
def running() -> Iterator[None]:
    """While it lasts, KUBECONFIG and PODCTL_IMAGE name a cluster."""
    if os.environ.get("KUBECONFIG"):
        yield
        return
    directory = Path(tempfile.mkdtemp(prefix="pt-cluster-", dir="/var/tmp"))
    own = {"KUBECONFIG": str(directory / "kubeconfig"), IMAGE: OWN_IMAGE}
    try:
        problem = _script("up", str(directory)) or _script("image", "base", str(directory))
        if problem:
            # Not podctl's failure, and not to be overlooked: the last lines of the tests say it.
            pytest.skip(f"{NO_CLUSTER}: {problem}")
        os.environ |= own
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
        # First what the node made outside of its directory, as long as there is somebody to unmake it.
        kubectl = [BINARIES / "kubectl", "--kubeconfig", directory / "kubeconfig", "delete", "--all", "-A"]
        orphaned = ("--cascade=orphan", "--wait=false")
        for order in (("deployments", *orphaned), ("replicasets", *orphaned), ("pods", "--grace-period=1", "--timeout=20s")):
            subprocess.run([*kubectl, *order], capture_output=True, timeout=60)
        problem = _script("down", str(directory), "--purge")
        assert not problem, problem
        subprocess.run([BINARIES / "kube-proxy", "--cleanup"], capture_output=True, timeout=60)


def _script(name: str, *arguments: str) -> str:
    """What it said when it failed; nothing when it did not."""
    command = [SCRIPTS / name, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"{name} did not end within 10 minutes"
    return f"{name} failed: {(done.stdout + done.stderr).strip()[-500:]}" if done.returncode != 0 else ""


def kubectl(
    *arguments: str, account: str = "", given: object = None, kubeconfig: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """As the administrator that KUBECONFIG is, as another ``account`` on their word, or with a ``kubeconfig`` of one's own."""
    program = shutil.which("kubectl") or str(BINARIES / "kubectl")
    acting = [f"--as={account}"] if account else []
    return subprocess.run(
        [program, *acting, *arguments],
        input=None if given is None else json.dumps(given),
        env={**os.environ, "KUBECONFIG": str(kubeconfig or os.environ["KUBECONFIG"])},
        capture_output=True,
        text=True,
        timeout=60,
    )


def kubeconfig_of(account: str, namespace: str, path: Path) -> Path:
    """Written to ``path``: what a service account has that was given a token for half an hour, and nothing of the administrator's."""
    token = kubectl("create", "token", account, "-n", namespace, "--duration=30m")
    assert token.returncode == 0, token.stderr
    made = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    made["users"][0]["user"] = {"token": token.stdout.strip()}
    path.touch(0o600)
    path.write_text(json.dumps(made))
    return path


async def configuration() -> Configuration:
    """The client's own, for what podctl does not do."""
    made = Configuration()
    await load_kube_config(os.environ["KUBECONFIG"], client_configuration=made)
    return made


def image() -> str:
    return os.environ[IMAGE]


async def backend(other_image: str = "", stuck_s: float = STUCK_S) -> KubernetesBackend:
    return KubernetesBackend(await Cluster.open(), Settings(image=other_image or image()), stuck_s=stuck_s)

"""podctl's own image: it is built as docs/install.md says, and holds what a cluster expects of it.

It needs an engine that reaches Debian and an index of Python packages: PODCTL_TEST_BASE names the base image, e.g. debian:bookworm-slim.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BASE = os.environ.get("PODCTL_TEST_BASE", "")
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.docker,
    pytest.mark.campaign,
    pytest.mark.skipif(not BASE or not os.environ.get("DOCKER_HOST"), reason="DOCKER_HOST and PODCTL_TEST_BASE are not set"),
]


def docker(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    # The builder that every engine has; the other one is a plugin of the client's.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, env=environment)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Stage -> image."""
    wheels = tmp_path_factory.mktemp("dist")
    built = subprocess.run([sys.executable, "-m", "build", "--wheel", "-o", wheels], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    named = {stage: f"podctl-tests-image:{stage}" for stage in ("pod", "podctl")}
    try:
        for stage, name in named.items():
            given = ["--network", "host", "--build-arg", f"BASE={BASE}", "--target", stage, "-t", name]
            done = docker("build", "-f", str(ROOT / "manifests" / "Containerfile"), *given, str(wheels), timeout=900)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        yield named
    finally:
        docker("image", "rm", "-f", *named.values())


def said(image: str, *argv: str) -> str:
    """As a Pod runs it: without a network, a writable root, or rights."""
    bound = ["--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    done = docker("run", *bound, "--tmpfs", "/tmp:mode=1777", image, *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_has_podctl_with_its_manifests_beside_the_systems_python(images: dict[str, str]) -> None:
    image = images["podctl"]
    assert said(image, "podctl", "--version").startswith("podctl, version")
    assert "kind: Deployment" in said(image, "podctl", "install", "--image", "x", "--dry-run")
    assert said(image, "python3", "-c", "import psycopg, sys; print(sys.executable)") == "/usr/bin/python3"
    lacks = "import importlib.util as found; print(found.find_spec('podctl'))"
    assert said(image, "python3", "-c", lacks) == "None", "agents and services do not see podctl's packages"


def test_what_test_pods_run_needs_nothing_of_podctl(images: dict[str, str]) -> None:
    image = images["pod"]
    assert said(image, "sh", "-c", "ls -d /opt/podctl 2>/dev/null || echo none") == "none"
    start = "b=$(ls -d /usr/lib/postgresql/*/bin); $b/initdb -D /tmp/pg -U x >/dev/null && $b/pg_ctl -D /tmp/pg -o '-k /tmp -h 127.0.0.1' -w start"
    asked = "psql -h /tmp -U x postgres -tAc 'select 41 + 1'"
    assert said(image, "sh", "-c", f"({start}) >/dev/null; {asked}") == "42"


@pytest.mark.parametrize("stage", ["pod", "podctl"])
def test_it_gives_no_rights_and_keeps_no_secret(images: dict[str, str], stage: str) -> None:
    image = images[stage]
    assert said(image, "id", "-u") == "65532"
    assert said(image, "sh", "-c", "find / -xdev -perm /6000 -type f 2>/dev/null | wc -l") == "0"
    keys = r"grep -rlsE 'BEGIN ([A-Z]+ )?PRIVATE KEY' /etc /var /opt /home /root /usr/lib/ssl /usr/share --include=*.key --include=*.pem || true"
    assert said(image, "sh", "-c", keys) == ""
    assert (
        said(image, "sh", "-c", "find / -xdev -type f -writable -not -path '/proc/*' -not -path '/tmp/*' 2>/dev/null | wc -l")
        == "0"
    )
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    assert "PIP_INDEX_URL" not in history, (
        "what the index of packages was called, and its password, stay in the stage that built"
    )

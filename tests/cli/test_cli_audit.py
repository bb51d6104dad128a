"""The audit commands as a security team types them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from project import Project

from podctl.faults import SETTING


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one run, signed, whose podctl was killed on the way and resumed."""
    root = tmp_path_factory.mktemp("audit")
    project = Project(root / "shop")
    (root / "shop").mkdir()
    made = project.podctl("init", ".", XDG_CONFIG_HOME=str(root / "config"))
    assert made.returncode == 0, made.stderr
    return project


def podctl(project: Project, *arguments: str, **environment: str):  # noqa: ANN201
    return project.podctl(*arguments, XDG_CONFIG_HOME=str(project.root.parent / "config"), **environment)


@pytest.mark.campaign
def test_from_a_key_to_a_bundle_that_is_verified_without_the_store(shop: Project, tmp_path: Path) -> None:
    scenario = shop.root / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("run: {pods: 2}", "run: {pods: 2, audit: signed}"))
    assert "audit: signed" in scenario.read_text()
    refused = podctl(shop, "run", "scenario.yaml", "--sample", "2")
    assert refused.returncode == 3 and "there is no key to sign it with [not-signed]" in refused.stderr
    assert "podctl audit key new" in refused.stderr and not (shop.store / "runs").exists()

    key = podctl(shop, "audit", "key", "new")
    assert key.returncode == 0 and key.stdout.startswith("-----BEGIN PUBLIC KEY-----\n"), key.stderr
    assert podctl(shop, "audit", "key", "show").stdout == key.stdout
    assert "there is a key" in podctl(shop, "audit", "key", "new").stderr
    public = tmp_path / "podctl.pub"
    public.write_text(key.stdout)

    whole = ("run", "scenario.yaml", "--sample", "2")
    killed = podctl(shop, *whole, **{SETTING: "kill:attempt.merged"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    checked = podctl(shop, "audit", "verify", "--key", str(public))
    assert checked.returncode == 0, checked.stdout
    resumed = podctl(shop, *whole, "--resume", "latest")
    assert resumed.returncode == 0, resumed.stderr

    shown = podctl(shop, "audit", "show", "latest").stdout
    for words in ("started ", "first-agent 1", "boundary ", "run.begun", "run.resumed", "try.abandoned", "attempt.sealed", "run.torn-down", "2 of 2 attempts are as sealed", "up to entry"):  # fmt: skip
        assert words in shown, shown
    checkpoint = tmp_path / "checkpoint.txt"
    checkpoint.write_text(podctl(shop, "audit", "checkpoint").stdout)
    kept = podctl(shop, "audit", "verify", "latest", "--key", str(public), "--against", str(checkpoint))
    assert kept.returncode == 0 and "signed by" in kept.stdout, kept.stdout

    out = tmp_path / "run.tar"
    assert podctl(shop, "audit", "export", "latest", "--out", str(out)).returncode == 0
    elsewhere = Project(tmp_path)
    alone = elsewhere.podctl("audit", "verify", "--bundle", str(out), "--key", str(public))
    assert alone.returncode == 0 and "2 of 2 attempts are as sealed" in alone.stdout, alone.stdout + alone.stderr
    assert not (tmp_path / ".podctl").exists()

    records = next((shop.store / "runs").glob("*/attempts/0001-1/evidence.jsonl"))
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join([*lines[:2], lines[1], *lines[2:]]))
    damaged = podctl(shop, "audit", "verify", "latest", "-o", "json")
    told = json.loads(damaged.stdout)["items"]
    assert damaged.returncode == 3 and told["intact"] is False
    assert "was inserted" in told["runs"][0]["attempts"][0]["problems"][0]
    exported = podctl(shop, "audit", "export", "latest", "--out", str(tmp_path / "damaged"))
    assert exported.returncode == 3 and "not as it was written, and so it is in the bundle" in exported.stderr
    assert podctl(shop, "audit", "verify", "--bundle", str(tmp_path / "damaged")).returncode == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("audit", "verify", "nothing"), "no-such-run"),
        (("audit", "verify", "--store", "nowhere"), "[no-store]"),
        (("audit", "verify", "--bundle", "nothing"), "bundle-damaged"),
        (("audit", "verify", "latest", "--bundle", "x"), "[usage]"),
        (("audit", "verify", "--key", "scenario.yaml"), "is no Ed25519 public key"),
        (("audit", "verify", "--against", "scenario.yaml"), "checkpoint-damaged"),
        (("audit", "verify", "--against", "nothing"), "checkpoint-unreadable"),
        (("audit", "key", "show", "--key", "nothing"), "key-missing"),
        (("audit", "key", "new", "--key", "signing.pem"), "lies in a project"),
        (("audit", "export", "nothing", "--out", "x"), "no-such-run"),
    ],
)
def test_mistakes_are_said(shop: Project, arguments: tuple[str, ...], said: str) -> None:
    done = podctl(shop, *arguments)
    assert done.returncode in (2, 3) and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (shop.root / "x").exists() and not (shop.root / "signing.pem").exists()

"""`podctl tickets pull` killed at every point: the snapshot is the old one or the new one, and the next pull finishes it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from project import environment_for
from trackers import TOKEN, Trackers

from podctl.faults import POINTS, SETTING

PULLS = [name for name in POINTS if name.startswith("pull.")]
SPEC = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": "t", "source": "tickets.jsonl", "fields": {"id": "number"}}


async def podctl(directory: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "podctl", *arguments),
        cwd=directory,
        env={**environment_for({}), "GITHUB_TOKEN": TOKEN, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def titles(directory: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (directory / "tickets.jsonl").read_text().splitlines()]
    return {str(row["number"]): row["title"] for row in rows}


@pytest.mark.parametrize("point", [PULLS[0], *(pytest.param(point, marks=pytest.mark.campaign) for point in PULLS[1:])])
def test_a_pull_killed_at_a_point(point: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with Trackers().serving() as trackers:
            spec = {**SPEC, "pull": {"github": {"repository": "acme/shop", "url": trackers.url}}}
            (tmp_path / "tickets.yaml").write_text(json.dumps(spec))
            for _ in range(150):
                trackers.create()
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml")
            assert code == 0, said
            old = trackers.there()
            for number in (*range(1, 120), 150):
                trackers.update(number)
            trackers.create()
            new = trackers.there()
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml", **{SETTING: f"kill:{point}"})
            assert code == -9, said
            assert titles(tmp_path) in (old, new)
            assert (titles(tmp_path) == new) == (point in ("pull.replaced", "pull.remembered"))
            code, _, said = await podctl(tmp_path, "validate", "tickets.yaml")
            assert code == 0, said
            trackers.update(7, "changed once more")
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml")
            assert code == 0, said
            assert titles(tmp_path) == trackers.there()
            assert sorted(path.name for path in tmp_path.iterdir()) == ["tickets.jsonl", "tickets.jsonl.pull", "tickets.yaml"]

    asyncio.run(run())


@pytest.mark.parametrize("point", [pytest.param("pull.drafted", marks=pytest.mark.campaign), "pull.replaced"])
def test_a_snapshot_that_was_changed_since_a_pull_was_killed_is_not_built_upon(point: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with Trackers().serving() as trackers:
            spec = {**SPEC, "pull": {"github": {"repository": "acme/shop", "url": trackers.url}}}
            (tmp_path / "tickets.yaml").write_text(json.dumps(spec))
            for _ in range(3):
                trackers.create()
            await podctl(tmp_path, "tickets", "pull", "tickets.yaml")
            trackers.update(2)
            await podctl(tmp_path, "tickets", "pull", "tickets.yaml", **{SETTING: f"kill:{point}"})
            snapshot = tmp_path / "tickets.jsonl"
            changed = snapshot.read_bytes().replace(b"ticket 1", b"ticket X")
            snapshot.write_bytes(changed)
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml")
            assert (code, "is not what was pulled" in said) == (2, True), said
            assert snapshot.read_bytes() == changed
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml", "--full")
            assert code == 0, said
            assert titles(tmp_path) == trackers.there()

    asyncio.run(run())


def test_what_it_says_on_a_terminal(tmp_path: Path) -> None:
    async def run() -> None:
        async with Trackers().serving() as trackers:
            spec = {**SPEC, "pull": {"github": {"repository": "acme/shop", "url": trackers.url}}}
            (tmp_path / "tickets.yaml").write_text(json.dumps(spec))
            trackers.create()
            code, _, said = await podctl(tmp_path, "validate", "tickets.yaml")
            assert (code, "podctl tickets pull writes it" in said) == (2, True)
            code, out, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml")
            assert (code, said) == (0, "")
            assert out.startswith("1 ticket in tickets.jsonl: 1 new, 0 changed, 0 gone\nsha256:")
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml", GITHUB_TOKEN="other")
            assert code == 3
            assert "does not accept the token (401) [pull-token]" in said
            assert "Traceback" not in said
            code, _, said = await podctl(tmp_path, "tickets", "tickets.yaml")
            assert code == 0, said
            everything = "".join(path.read_text() for path in tmp_path.iterdir())
            assert TOKEN not in everything

    asyncio.run(run())


def test_interrupted_while_it_waits_it_goes_on_from_the_last_page(tmp_path: Path) -> None:
    async def run() -> None:
        async with Trackers().serving() as trackers:
            spec = {**SPEC, "pull": {"github": {"repository": "acme/shop", "url": trackers.url}}}
            (tmp_path / "tickets.yaml").write_text(json.dumps(spec))
            for _ in range(150):
                trackers.create()
            limit = web.Response(status=429, headers={"Retry-After": "300"})
            trackers.instead = [lambda request: None, lambda request: limit]
            environment = {**environment_for({}), "GITHUB_TOKEN": TOKEN}
            environment.pop("PODCTL_QUIET", None)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "podctl", "tickets", "pull", "tickets.yaml"),
                cwd=tmp_path,
                env=environment,
                stderr=asyncio.subprocess.PIPE,
            )
            assert process.stderr is not None
            async with asyncio.timeout(60):
                assert b"waiting 300 s for 127.0.0.1: it asks for a pause" in await process.stderr.readline()
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 130
            assert not (tmp_path / "tickets.jsonl").exists()
            asked = len(trackers.asked)
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml")
            assert code == 0, said
            assert "since" in trackers.asked[asked][1], "the first page was asked for again"
            assert titles(tmp_path) == trackers.there()

    asyncio.run(run())


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def run() -> None:
        async with Trackers().serving(context) as trackers:
            spec = {**SPEC, "pull": {"github": {"repository": "acme/shop", "url": trackers.url}}}
            (tmp_path / "tickets.yaml").write_text(json.dumps(spec))
            trackers.create()
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml")
            assert (code, trackers.asked) == (3, [])
            assert "the certificate of 127.0.0.1 is not trusted [pull-certificate]" in said
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml", SSL_CERT_FILE=str(certificate))
            assert code == 0, said

    asyncio.run(run())


def self_signed(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (directory / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return directory / "tls.crt", directory / "tls.key"

"""Signing keys: standard PEM that openssl reads and makes, their owner's alone, refused where they cannot be trusted."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from podctl.keyfiles import KeyProblem
from podctl.signing import PublicKey, SigningKey, configured_key, key_path, make_key, read_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "signing.pem"


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def test_a_new_key_is_its_owners_alone_and_stays_what_it_is(file: Path) -> None:
    key = make_key(file)
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert read_key(file) == key
    with pytest.raises(KeyProblem, match="there is a key") as caught:
        make_key(file)
    assert "podctl audit key new --key" in caught.value.hint
    assert read_key(file) == key and [path.name for path in file.parent.iterdir()] == ["signing.pem"]


def test_nothing_shows_a_secret() -> None:
    key = SigningKey.new()
    for shown in (repr(key), str(key), key.id, key.public.pem, repr(key.public)):
        assert key.secret.hex() not in shown and repr(key.secret) not in shown


def test_rfc_8032_test_3() -> None:
    key = SigningKey(bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))
    assert key.public.raw.hex() == "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    assert key.sign(bytes.fromhex("af82")).hex() == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )


@given(st.binary(), st.binary(), st.integers(0, 511))
def test_only_what_was_signed_verifies(data: bytes, other: bytes, bit: int) -> None:
    key, stranger = SigningKey(bytes(range(32))), SigningKey(bytes(32))
    signature = key.sign(data)
    assert key.public.verify(data, signature)
    assert not stranger.public.verify(data, signature)
    assert data == other or not key.public.verify(other, signature)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not key.public.verify(data, bytes(flipped))
    assert not key.public.verify(data, other)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_reads_what_podctl_made_and_the_other_way_round(file: Path, tmp_path: Path) -> None:
    key = make_key(file)
    assert openssl("pkey", "-in", file, "-pubout") == key.public.pem
    message, signature, public = tmp_path / "message", tmp_path / "signature", tmp_path / "public.pem"
    message.write_bytes(b"said")
    signature.write_bytes(key.sign(b"said"))
    public.write_text(key.public.pem)
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", message, "-sigfile", signature)
    assert "Signature Verified Successfully" in openssl(*verify)
    theirs = tmp_path / "config" / "theirs.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", theirs)
    theirs.chmod(0o600)
    assert openssl("pkey", "-in", theirs, "-pubout") == read_key(theirs).public.pem
    assert PublicKey.read(public) == key.public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o610])
def test_a_key_that_others_may_read_is_refused(file: Path, mode: int) -> None:
    make_key(file)
    file.chmod(mode)
    with pytest.raises(KeyProblem, match="others may read the key") as caught:
        read_key(file)
    assert "chmod 600" in caught.value.hint and "podctl audit key new" in caught.value.hint


def test_a_key_in_a_project_is_neither_made_nor_used(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "signing.pem"
    make_key(file)
    (tmp_path / "scenario.yaml").touch()
    with pytest.raises(KeyProblem, match="lies in a project"):
        read_key(file)
    with pytest.raises(KeyProblem, match="lies in a project"):
        make_key(tmp_path / "deep" / "other.pem")
    assert not (tmp_path / "deep" / "other.pem").exists()


def test_a_link_a_pipe_and_a_directory_are_no_keys(file: Path) -> None:
    make_key(file)
    link = file.with_name("link.pem")
    link.symlink_to(file)
    with pytest.raises(KeyProblem, match="symbolic link"):
        read_key(link)
    with pytest.raises(KeyProblem, match="there is a key"):
        make_key(link)
    os.mkfifo(file.with_name("pipe.pem"), 0o600)
    (file.parent / "directory.pem").mkdir(mode=0o700)
    for name in ("pipe.pem", "directory.pem"):
        with pytest.raises(KeyProblem):
            read_key(file.with_name(name))


def other_keys() -> list[bytes]:
    own = SigningKey.new()
    made = (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()))
    others = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in made]
    return [
        *others,
        b"",
        b"\0" * 5000,
        own.pem()[:60],
        own.public.pem.encode(),
        b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
    ]


def test_what_is_no_such_key_is_said_without_its_content(file: Path) -> None:
    make_key(file)
    for content in other_keys():
        file.write_bytes(content)
        with pytest.raises(KeyProblem, match="no Ed25519 private key") as caught:
            read_key(file)
        assert "MC4" not in caught.value.render()
    encrypted = SigningKey.new()._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    file.write_bytes(encrypted)
    with pytest.raises(KeyProblem, match="has a passphrase"):
        read_key(file)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_public_key_or_a_plain_problem(content: bytes) -> None:
    with pytest.raises(KeyProblem):
        PublicKey.from_pem(content, "it")


def test_a_private_key_is_not_taken_for_a_public_one() -> None:
    with pytest.raises(KeyProblem, match="has a private key") as caught:
        PublicKey.from_pem(SigningKey.new().pem(), "given.pem")
    assert "podctl audit key show" in caught.value.hint


def test_which_key_is_configured(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PODCTL_SIGNING_KEY", raising=False)
    assert configured_key() is None
    usual = make_key()
    assert key_path() == tmp_path / "home" / "podctl" / "keys" / "signing.pem" and configured_key() == usual
    monkeypatch.setenv("PODCTL_SIGNING_KEY", str(file))
    with pytest.raises(KeyProblem, match="there is no key"):
        configured_key()
    assert make_key() == configured_key() != usual
    monkeypatch.delenv("PODCTL_SIGNING_KEY")
    key_path().chmod(0o644)
    with pytest.raises(KeyProblem, match="others may read"):
        configured_key()

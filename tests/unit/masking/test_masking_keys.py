"""Keys are made once, read by their owner only, kept apart from what they mask, and never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from masking import masked

from podctl.keyfiles import KeyProblem
from podctl.masking.keys import KeyFile, MaskingKey
from podctl.signing import SigningKey


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile.of("shop", tmp_path / "config" / "shop.key")


def test_a_new_key_is_its_owners_alone(file: KeyFile) -> None:
    masking, signing = file.make()
    assert file.path.stat().st_mode & 0o777 == 0o600 and file.path.parent.stat().st_mode & 0o777 == 0o700
    assert file.read() == (masking, signing)
    assert masking.secret != signing.secret and len({masking.id, signing.id}) == 2
    assert [path.name for path in file.path.parent.iterdir()] == ["shop.key"]
    with pytest.raises(KeyProblem, match="there is a key"):
        file.make()


def test_nothing_shows_a_secret(file: KeyFile) -> None:
    for key in file.make():
        assert isinstance(key, MaskingKey | SigningKey)
        for shown in (repr(key), str(key), key.id):
            assert key.secret.hex() not in shown and repr(key.secret) not in shown


def test_the_default_place_is_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert KeyFile.of("shop").path == tmp_path / "podctl" / "keys" / "shop.key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(file: KeyFile, mode: int) -> None:
    file.make()
    file.path.chmod(mode)
    with pytest.raises(KeyProblem, match="others may read the key") as caught:
        file.read()
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("mark", [".git", "seed.json", "topology.yaml", ".podctl"])
def test_a_key_in_a_project_or_a_seed_is_refused(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).touch()
    file = KeyFile.of("shop", tmp_path / "keys" / "shop.key")
    with pytest.raises(KeyProblem, match="lies in a project"):
        file.make()
    assert not file.path.exists()
    (tmp_path / mark).unlink()
    file.make()
    (tmp_path / mark).touch()
    with pytest.raises(KeyProblem, match="lies in a project"):
        file.read()


def test_a_key_within_the_seed_is_refused_also_by_a_link(file: KeyFile, tmp_path: Path) -> None:
    file.make()
    with pytest.raises(KeyProblem, match="within the seed"):
        file.read(seed=file.path.parent)
    link = tmp_path / "link"
    link.symlink_to(file.path.parent)
    with pytest.raises(KeyProblem, match="within the seed"):
        KeyFile.of("shop", link / "shop.key").read(seed=file.path.parent)
    assert file.read(seed=tmp_path / "seed")


def test_rotating_makes_other_masks_and_keeps_the_old_key_and_the_signer(file: KeyFile) -> None:
    before, signer = file.make()
    after, kept = file.rotate()
    assert after.id != before.id and file.read() == (after, signer)
    assert KeyFile(kept).read() == (before, signer) and kept.stat().st_mode & 0o777 == 0o600
    assert masked("email", "zoe@corp.example", key=before) != masked("email", "zoe@corp.example", key=after)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", '{"format": "podctl key 1", "masking": "00", "signing": "11"}', "\x00"]
)
def test_a_damaged_key_is_said_without_its_content(file: KeyFile, content: str) -> None:
    file.make()
    file.path.write_text(content)
    with pytest.raises(KeyProblem, match="is no key file"):
        file.read()


def test_what_is_missing_or_cannot_be_read_is_said(file: KeyFile) -> None:
    with pytest.raises(KeyProblem, match="there is no key"):
        file.read()
    file.path.parent.mkdir()
    file.path.mkdir()
    with pytest.raises(KeyProblem):
        file.read()
    file.path.rmdir()
    file.path.symlink_to(KeyFile.of("other", file.path.with_name("other.key")).path)
    with pytest.raises(KeyProblem, match="symbolic link"):
        file.read()
    file.path.unlink()
    os.mkfifo(file.path, 0o600)
    with pytest.raises(KeyProblem):
        file.read()

"""A TestRun's files come from whoever submits it."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from podctl.controller import source
from podctl.controller.source import unpack
from podctl.errors import SpecError


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> dict[str, Any]:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return {"binaryData": {"project.tar.gz": base64.b64encode(written.getvalue()).decode()}}


def member(name: str, content: bytes = b"x", **values: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info, content


def test_archives_and_plain_keys_become_one_directory(tmp_path: Path) -> None:
    unpack(
        [archive(member("scenarios/a.yaml", b"one")), {"data": {"agent.yaml": "two"}, "binaryData": {"raw": "AAE="}}],
        tmp_path / "d",
    )
    found = {str(path.relative_to(tmp_path / "d")): path.read_bytes() for path in (tmp_path / "d").rglob("*") if path.is_file()}
    assert found == {"scenarios/a.yaml": b"one", "agent.yaml": b"two", "raw": b"\0\1"}
    unpack([{"data": {"only": "this"}}], tmp_path / "d")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["only"]


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("a/../../outside"),
        member("link", b"", type=tarfile.SYMTYPE, linkname="/etc"),
        member("link", b"", type=tarfile.SYMTYPE, linkname="fine"),
        member("hard", b"", type=tarfile.LNKTYPE, linkname="../outside"),
        member("device", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("pipe", b"", type=tarfile.FIFOTYPE),
    ],
    ids=lambda value: value[0].name + value[0].type.decode(),
)
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, hostile: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(SpecError) as refused:
        unpack([archive(member("fine"), hostile)], tmp_path / "d")
    assert refused.value.code == "source-archive"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_an_absolute_name_lands_inside(tmp_path: Path) -> None:
    unpack([archive(member("/etc/podctl-test"))], tmp_path / "d")
    assert (tmp_path / "d/etc/podctl-test").read_bytes() == b"x"


def test_what_is_too_large_unpacked_is_refused_before_it_is_written(tmp_path: Path) -> None:
    bomb = archive(*(member(f"zeros-{at}", bytes(2**24)) for at in range(18)))
    with pytest.raises(SpecError) as refused:
        unpack([bomb], tmp_path / "d")
    assert refused.value.code == "source-too-large"
    written = sum(path.stat().st_size for path in (tmp_path / "d").iterdir())
    assert written <= source._MOST_BYTES


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b broken"])
def test_garbage_is_said_to_be_no_archive(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SpecError) as refused:
        unpack([{"binaryData": {"x.tgz": base64.b64encode(content).decode()}}], tmp_path / "d")
    assert refused.value.code == "source-archive"

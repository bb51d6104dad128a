"""A directory given to a cluster: whole, the same every time, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from podctl.backends.kubernetes.files import MOST_BYTES, PART_BYTES, bundle
from podctl.errors import SpecError


def put(root: Path, **files: int) -> Path:
    for name, size in files.items():
        (root / name).write_bytes(bytes([len(name)]) * size)
    return root


def test_a_directory_comes_back_from_its_parts(tmp_path: Path) -> None:
    put(tmp_path, a=700_000, b=700_000, c=10, empty=0)
    (tmp_path / "sub").mkdir()
    put(tmp_path / "sub", d=5)
    (tmp_path / "__pycache__").mkdir()
    put(tmp_path / "__pycache__", e=5)
    made = bundle(tmp_path, "/agent")
    laid_out = {path: made.parts[name][key] for name, items in made.files.items.items() for key, path in items.items()}
    assert set(laid_out) == {"a", "b", "c", "empty", "sub/d"}
    assert laid_out["b"] == (tmp_path / "b").read_bytes() and made.files.path == "/agent"
    assert len(made.parts) == 2 and all(sum(map(len, part.values())) <= PART_BYTES for part in made.parts.values())
    assert bundle(tmp_path, "/agent") == made
    (tmp_path / "c").write_bytes(b"other")
    assert set(bundle(tmp_path, "/agent").parts) != set(made.parts), "other content, other names"


def test_a_single_file_lies_in_its_directory(tmp_path: Path) -> None:
    made = bundle(put(tmp_path, policy=3) / "policy", "/etc/shop/policy")
    assert made.files.path == "/etc/shop"
    assert [list(items.values()) for items in made.files.items.values()] == [["policy"]]


def test_what_does_not_fit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, big=PART_BYTES + 1)
    with pytest.raises(SpecError, match="too large") as caught:
        bundle(tmp_path, "/agent")
    assert "big" in caught.value.cause and "PODCTL_IMAGE" in caught.value.hint
    (tmp_path / "big").unlink()
    put(tmp_path, **{f"n{number}": PART_BYTES for number in range(MOST_BYTES // PART_BYTES + 1)})
    with pytest.raises(SpecError, match="too large"):
        bundle(tmp_path, "/agent")


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    put(tmp_path, secret=3)
    put(tmp_path / "inside", plain=3)
    (tmp_path / "inside" / "alias").symlink_to("plain")
    assert bundle(tmp_path / "inside", "/agent")
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(SpecError, match="no plain file"):
        bundle(tmp_path / "inside", "/agent")

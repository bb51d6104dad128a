"""What an agent is made of, as its own files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from podctl.review.facts import Package
from podctl.review.parts import made_of, sbom
from podctl.spec.models import Agent


def agent(directory: Path) -> Agent:
    return Agent(apiVersion="podctl/v1", kind="Agent", name="a", version="1", command=("x",), directory=directory)


def test_every_file_and_what_the_files_ask_for_is_listed(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "# ours\nhttpx[http2]>=0.27,<1 ; python_version > '3'\nopenai==1.2\n-r more.txt\n\n"
    )
    (tmp_path / "web").mkdir()
    (tmp_path / "web/package.json").write_text('{"dependencies": {"left-pad": "^1.3.0"}}')
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["pydantic>=2"]\n')
    (tmp_path / "link").symlink_to("requirements.txt")
    made = made_of(agent(tmp_path))
    assert [(one.name, bool(one.sha256)) for one in made.files] == [
        ("link", False),
        ("pyproject.toml", True),
        ("requirements.txt", True),
        ("web/package.json", True),
    ]
    assert made.packages == (
        Package("pydantic", ">=2", "pyproject.toml"),
        Package("httpx", ">=0.27,<1", "requirements.txt"),
        Package("openai", "==1.2", "requirements.txt"),
        Package("left-pad", "^1.3.0", "web/package.json"),
    )
    assert sbom(made, "a", "1", "d") == sbom(made_of(agent(tmp_path)), "a", "1", "d")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b'{"dependencies": 5}', b"[" * 100_000, b"null"])
def test_files_that_say_nothing_of_packages_are_files(tmp_path: Path, content: bytes) -> None:
    for name in ("package.json", "pyproject.toml", "requirements.txt"):
        (tmp_path / name).write_bytes(content)
    assert len(made_of(agent(tmp_path)).files) == 3

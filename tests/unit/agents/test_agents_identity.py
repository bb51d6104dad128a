"""An agent's digest changes with everything that makes it act as it does, and with nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podctl.agents import identity
from podctl.agents.identity import AgentIdentity, agent_digest, code_digest
from podctl.errors import SpecError
from podctl.spec.models import Agent


@pytest.fixture
def code(tmp_path: Path) -> Path:
    directory = tmp_path / "one" / "agent"
    (directory / "lib").mkdir(parents=True)
    (directory / "main.py").write_text("print(1)\n")
    (directory / "lib" / "rules.py").write_text("x = 1\n")
    (directory / "link").symlink_to("main.py")
    return directory


def agent(directory: Path, **fields: Any) -> AgentIdentity:
    given = {
        "apiVersion": "podctl/v1",
        "kind": "Agent",
        "name": "a",
        "version": "1",
        "command": ["run"],
        "directory": directory,
    }
    return agent_digest(Agent.model_validate(given | fields))


def test_name_and_version_are_no_part_of_the_digest(code: Path) -> None:
    first, second = agent(code), agent(code, name="b", version="2", description="other", trust="trusted")
    assert first.digest == second.digest
    assert (second.name, second.version) == ("b", "2")
    assert set(first.parts) == {"code", "command", "prompt", "model", "tools", "environment"}
    assert all(len(part) == 64 for part in [first.digest, *first.parts.values()])


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("command", {"command": ["run", "-v"]}),
        ("model", {"model": {"name": "m"}}),
        ("model", {"model": {"parameters": {"temperature": 0.5}}}),
        ("tools", {"tools": ["mail"]}),
        ("environment", {"environment": {"A": "1"}}),
    ],
)
def test_each_part_counts_alone(part: str, fields: dict[str, Any], code: Path) -> None:
    before, after = agent(code), agent(code, **fields)
    assert before.digest != after.digest
    assert [name for name in before.parts if before.parts[name] != after.parts[name]] == [part]


def test_the_prompt_counts_by_its_contents(code: Path, tmp_path: Path) -> None:
    (tmp_path / "p1").write_text("be kind")
    (tmp_path / "p2").write_text("be kind")
    first = agent(code, prompt=tmp_path / "p1")
    assert first.digest == agent(code, prompt=tmp_path / "p2").digest != agent(code).digest
    (tmp_path / "p1").write_text("be quick")
    assert agent(code, prompt=tmp_path / "p1").parts["prompt"] != first.parts["prompt"]


def test_the_order_of_tools_and_environment_does_not_count(code: Path) -> None:
    one = agent(code, tools=["a", "b"], environment={"A": "1", "B": "2"})
    assert one.digest == agent(code, tools=["b", "a"], environment={"B": "2", "A": "1"}).digest


def test_where_tools_are_routed_counts(code: Path) -> None:
    route = {"desk.find": {"tool": "find_v2", "arguments": {"limit": 1}}}
    routed = agent(code, routing=route)
    assert routed.digest != agent(code).digest and "routing" not in agent(code).parts
    assert routed.digest != agent(code, routing={"desk.find": {"tool": "find_v2"}}).digest


def rename(code: Path) -> None:
    (code / "main.py").rename(code / "start.py")


def swap_names(code: Path) -> None:
    (code / "main.py").rename(code / "x")
    (code / "lib" / "rules.py").rename(code / "main.py")
    (code / "x").rename(code / "lib" / "rules.py")


def relink(code: Path) -> None:
    (code / "link").unlink()
    (code / "link").symlink_to("lib/rules.py")


def link_to_file(code: Path) -> None:
    (code / "link").unlink()
    shutil.copy(code / "main.py", code / "link")


CHANGES: list[Callable[[Path], object]] = [
    lambda code: (code / "main.py").write_text("print(2)\n"),
    lambda code: (code / "lib" / "rules.py").write_text("x = 2\n"),
    lambda code: (code / "lib" / "new.py").touch(),
    lambda code: (code / "main.py").chmod(0o755),
    lambda code: (code / "lib" / "rules.py").unlink(),
    rename,
    swap_names,
    relink,
    link_to_file,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_code_counts(change: Callable[[Path], object], code: Path) -> None:
    before = code_digest(code)
    change(code)
    assert code_digest(code) != before


def test_neither_place_nor_time_nor_caches_count(code: Path, tmp_path: Path) -> None:
    before = code_digest(code)
    copy = tmp_path / "elsewhere" / "copied"
    shutil.copytree(code, copy, symlinks=True)
    for name in ("__pycache__", ".git", ".venv", "lib/__pycache__"):
        (copy / name).mkdir()
        (copy / name / "x").write_text("noise")
    (copy / "lib" / "old.pyc").write_bytes(b"noise")
    (copy / "main.py").chmod(0o640)
    os.utime(copy / "main.py", (0, 0))
    assert code_digest(copy) == before


def test_links_are_not_followed(code: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (code / "out").symlink_to(tmp_path / "outside")
    (code / "loop").symlink_to(".")
    before = code_digest(code)
    (tmp_path / "outside" / "file").write_text("x")
    assert code_digest(code) == before


def test_names_of_any_bytes_are_fine(code: Path) -> None:
    before = code_digest(code)
    (Path(os.fsdecode(os.fsencode(code) + b"/caf\xe9"))).touch()
    assert code_digest(code) != before


def test_what_is_no_code_is_refused(code: Path) -> None:
    os.mkfifo(code / "pipe")
    with pytest.raises(SpecError) as caught:
        code_digest(code)
    assert "pipe is neither a file, a directory nor a link" in caught.value.render()


def test_too_much_is_refused(code: Path) -> None:
    with (code / "model.bin").open("wb") as stream:
        stream.truncate(identity.MAX_BYTES + 1)
    with pytest.raises(SpecError) as caught:
        code_digest(code)
    assert "more than 512 MiB or 20000 files" in caught.value.render()
    assert "keep data" in caught.value.render()


def test_what_is_missing_is_an_error_of_the_user(code: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be identified"):
        code_digest(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="cannot be identified"):
        agent(code, prompt=tmp_path / "nowhere")

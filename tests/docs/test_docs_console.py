"""Every console block of the pages is run, or says why not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import Block, blocks
from project import environment_for
from sampled_run import run_of

from podctl.cli.demo import copy_example

#: Tickets that pages speak of: one that version 2 gets wrong, one at which it tries to cross the boundary.
SPOKEN_OF = ("T-0258", "T-0250")


def bash(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    bin_directory = directory.parent / "bin"
    bin_directory.mkdir(exist_ok=True)
    command = bin_directory / "podctl"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m podctl "$@"\n')
    command.chmod(0o755)
    environment = environment_for({"PODCTL_QUIET": "1"})
    environment["PATH"] = f"{bin_directory}:{environment['PATH']}"
    return subprocess.run(["bash", "-c", script], cwd=directory, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's project as `podctl demo` leaves it, from fewer tickets."""
    root = tmp_path_factory.mktemp("demo") / "d"
    copy_example(root)
    scenario = root / "scenarios" / "shop.yaml"
    smaller = f"sample: {{size: 5, design: equal, seed: 7, include: [{', '.join(SPOKEN_OF)}]}}"
    changed = re.sub(r"^sample: .*$", smaller, scenario.read_text(), flags=re.MULTILINE)
    assert changed != scenario.read_text()
    scenario.write_text(changed)
    made = bash(f"podctl demo {root} --sample 5 -q", root.parent)
    assert made.returncode == 0, made.stdout + made.stderr
    return root


@pytest.fixture
def new(tmp_path: Path) -> Path:
    made = bash("podctl init p", tmp_path)
    assert made.returncode == 0, made.stderr
    return tmp_path / "p"


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    """A store with a run of 100 made-up tickets, enough for ranges."""
    (tmp_path / "s").mkdir()
    run_of().stored(tmp_path / "s" / ".podctl")
    return tmp_path / "s"


def in_campaign(block: Block) -> bool:
    """Whole runs take most of the time; the quick suite makes those of a newcomer's first minutes alone."""
    runs = any(re.match("podctl (run|attack|chaos) ", command) for command in block.commands)
    return runs and (block.page, block.where) != ("README.md", "empty")


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, marks=pytest.mark.campaign if in_campaign(block) else ()) for block in blocks() if not block.skipped],
    ids=str,
)
def test_a_console_block_does_what_the_page_says(block: Block, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if block.where == "empty":
        directory = tmp_path / "e"
        directory.mkdir()
    else:
        assert block.where in ("demo", "new", "sampled"), f"{block}: <!-- in: {block.where} -->"
        directory = request.getfixturevalue(block.where)
    for name, content in block.files:
        (directory / name).write_text(content)
    script = "\n".join(f"{command} || exit $?" for command in block.commands)
    done = bash(script, directory)
    assert done.returncode == block.code, f"{block}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr


def test_there_is_a_reason_wherever_a_block_is_not_run() -> None:
    skipped = [block for block in blocks() if block.skipped]
    assert all(len(block.skipped.split()) > 3 for block in skipped)
    assert len(skipped) < len(blocks())

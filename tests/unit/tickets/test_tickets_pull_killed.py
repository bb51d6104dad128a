"""`podctl tickets pull` killed at every point: the snapshot is the old one or the new one, and the next pull finishes it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("point", PULLS)
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
            assert out.startswith("1 tickets in tickets.jsonl: 1 new, 0 changed, 0 gone\nsha256:")
            code, _, said = await podctl(tmp_path, "tickets", "pull", "tickets.yaml", GITHUB_TOKEN="other")
            assert code == 3
            assert "does not accept the token (401) [pull-token]" in said
            assert "Traceback" not in said
            code, _, said = await podctl(tmp_path, "tickets", "tickets.yaml")
            assert code == 0, said
            everything = "".join(path.read_text() for path in tmp_path.iterdir())
            assert TOKEN not in everything

    asyncio.run(run())

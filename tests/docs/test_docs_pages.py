"""What the pages say is compared with what the code has."""

from __future__ import annotations

import re
import shlex
import struct
import tomllib
from pathlib import Path

import click
import pytest
from doc_pages import PAGES, ROOT, anchors, blocks, code, links, text

from podctl.agents import contract
from podctl.agents.identity import AgentIdentity
from podctl.cli.main import COMMANDS, podctl
from podctl.errors import ExitCode
from podctl.evidence.causes import Cause
from podctl.evidence.decisions import _FIELDS as DECISION_FIELDS
from podctl.spec.models import Agent, Limits, ModelSettings, Topology

CONTEXT = click.Context(podctl)
README = ROOT / "README.md"


def command(name: str) -> click.Command:
    found = podctl.get_command(CONTEXT, name)
    assert found is not None, f"podctl has no command {name}"
    return found


def options(of: click.Command) -> set[str]:
    """A group's are those of its commands too."""
    own = {name for parameter in of.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"-h", "--help"}
    if isinstance(of, click.Group):
        context = click.Context(of)
        inner = (of.get_command(context, name) for name in of.list_commands(context))
        return own.union(*(options(one) for one in inner if one is not None))
    return own


OF_PODCTL = {"--version", "--debug", "-h", "--help"}


def page_id(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{page.name} links to {link}, which does not exist"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, pending = set(), [README]
    while pending:
        page = pending.pop()
        reached.add(page)
        found = {(page.parent / link.partition("#")[0]).resolve() for link in links(page) if not link.startswith("https://")}
        pending += [target for target in found if target.suffix == ".md" and target not in reached and target.exists()]
    assert set(PAGES) - reached == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    for phrase in code(page):
        if phrase.startswith("--"):
            # An option without its command: some command must have it.
            name = phrase.split()[0].split("=")[0]
            known = set().union(*(options(command(one)) for one in COMMANDS), OF_PODCTL)
            assert name in known or name == "--data", f"{page.name}: no command has {name}"
            continue
        for words in re.findall(r"podctl ((?:[^|;&)#]|\)[^ ])*)", phrase) if "podctl " in phrase else []:
            parts = _split(words)
            while parts and parts[0].startswith("--"):
                assert parts.pop(0) in OF_PODCTL
            if not parts or not re.fullmatch(r"[a-z]+", parts[0]):
                continue
            named = command(parts[0])
            for part in parts[1:]:
                if not isinstance(named, click.Group) or part.startswith("-"):
                    break
                inner = named.get_command(click.Context(named), part)
                if inner is None:  # a group with a command of its own, which takes a file
                    break
                named = inner
            end = parts.index("--") if "--" in parts else len(parts)
            given = [part.split("=")[0] for part in parts[1:end] if re.fullmatch(r"--?[A-Za-z][\w-]*(=.*)?", part)]
            if parts[0] != "psql":  # the rest is psql's
                assert set(given) <= options(named), f"{page.name}: podctl {words}"


def _split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError:
        return words.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    found = command(name)
    assert found.help, name
    assert re.search(rf"\bpodctl {name}\b", found.help), f"the help of podctl {name} has no example"


def test_the_readme_lists_the_commands() -> None:
    section = text(README).split("## Commands")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `podctl")]
    listed = [name for row in rows for name in re.findall(r"`podctl ([\w-]+)`", row)]
    assert sorted(listed) == sorted(COMMANDS)


def test_the_readme_lists_the_exit_codes() -> None:
    section = text(README).split("## Exit codes")[1].split("\n## ")[0]
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == [int(code) for code in ExitCode]


def test_failure_causes_are_as_the_code_has_them() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| (yes|no) \|", text(ROOT / "docs/failure-causes.md"), re.MULTILINE)
    assert {name: (retry == "yes", counts == "yes") for name, retry, counts in rows} == {
        cause.value: (cause.retry, cause.counts) for cause in Cause
    }


def test_the_contract_table_names_every_variable() -> None:
    page = text(ROOT / "docs/agents.md")
    agent = Agent(
        apiVersion="podctl/v1",
        kind="Agent",
        name="a",
        version="1",
        command=("x",),
        directory=Path("/x"),
        model=ModelSettings(name="m"),
    )
    header = {"apiVersion": "podctl/v1", "kind": "Topology", "name": "t"}
    topology = Topology.model_validate(
        {**header, "databases": {"shop-db": {"name": "shop"}}, "services": {"orders-api": {"command": ["x"]}}}
    )
    identity = AgentIdentity("a", "1", "0", {})
    given = contract.environment(agent, identity, topology, attempt="a", pod="p", key="k", credentials={"shop-db": ("r", "p")})
    missing = [name for name in given if name not in page]
    assert missing == []
    assert all(f"`{name}`" in page for name in (*Limits.model_fields,) if not name.startswith("run_"))


def test_the_decision_table_names_every_field() -> None:
    section = text(ROOT / "docs/agents.md").split("## Decision records")[1].split("\n## ")[0]
    names = [name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(names) == sorted(DECISION_FIELDS)


def test_the_rooms_are_those_of_the_package_and_of_the_linter() -> None:
    page = text(ROOT / "docs/architecture.md")
    drawn = set(re.findall(r"^ {6}(\w+)/", page, re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "podctl").glob("*/__init__.py")}
    assert drawn == rooms
    contracts = tomllib.loads(text(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == "layers")
    rule = page.split("only from rooms below it:")[1].split("Rooms between")[0]
    written = [{*re.findall(r"`(\w+)`", layer)} for layer in rule.split("` > `".strip("`"))]
    assert written == [{name.strip().removeprefix("podctl.") for name in layer.split("|")} for layer in layers]


def test_the_picture_is_a_small_png() -> None:
    data = (ROOT / "docs/report.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) < 200 * 1024
    assert 600 < width < 1400 < 100 * height


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_page_speaks_of_one_machine(page: Path) -> None:
    assert not re.search(r"(?<!\w)/(work|root|tmp|home)/\w", text(page))


def test_every_console_block_has_a_command() -> None:
    assert [str(block) for block in blocks() if not block.commands] == []


def test_every_directory_of_tests_is_in_a_lane_of_make_test() -> None:
    made = (ROOT / "Makefile").read_text()
    tests = {path.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}
    assert {name for name in tests if f"tests/{name}" not in made} == set()
    rooms = {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name for name in rooms if not re.match(r"[a-fg-z]", name)} == set()

"""What a change picks: by real commits in real repositories, and nothing run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from project import Project, make_project, ticket
from repository import commit, git, make_repository

from podctl.agents.identity import agent_digest
from podctl.ci.git import Repository
from podctl.ci.picking import Picked, pick
from podctl.errors import SpecError
from podctl.spec.load import load_model
from podctl.spec.models import Agent


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A scenario with its agent, which has a prompt and a library; a second scenario with an agent of its own."""
    project = make_project(
        tmp_path / "p",
        agent="print('work')\n",
        tickets=[ticket("t1")],
        agent_spec={"prompt": "prompt.md", "read_only": ["lib"]},
    )
    root = project.root
    (root / "prompt.md").write_text("Be kind.\n")
    (root / "lib").mkdir()
    (root / "lib" / "helpers.py").write_text("X = 1\n")
    shutil.copytree(root / "agent", root / "other")
    write(root / "other.yaml", changed(root / "agent.yaml", name="other", directory="other", prompt=None))
    write(root / "second.yaml", changed(root / "scenario.yaml", name="second", agent="other.yaml"))
    make_repository(root)
    git(root, "checkout", "-q", "-b", "change")
    return project


def changed(path: Path, **keys: object) -> dict[str, object]:
    return {name: value for name, value in {**yaml.safe_load(path.read_text()), **keys}.items() if value is not None}


def write(path: Path, value: object) -> None:
    path.write_text(yaml.safe_dump(value))


def picked(project: Project, base: str = "main", scenarios: tuple[Path, ...] = ()) -> Picked:
    repository = Repository.at(project.root)
    return pick(repository, repository.base(base), project.root, scenarios, project.root.parent / "tree")


def names(found: Picked) -> list[tuple[str, str, bool, bool]]:
    """Scenario, agent with its version, whether the agent changed, whether there was one before."""
    return [
        (
            case.bundle.scenario.name,
            f"{case.bundle.agent.name} {case.bundle.agent.version}",
            case.agent_changed,
            case.base is not None,
        )
        for case in found.cases
    ]


SMALL, SECOND = ("small", "tester 1", True, True), ("second", "other 1", True, True)
AROUND_SMALL, AROUND_SECOND = ("small", "tester 1", False, True), ("second", "other 1", False, True)

CHANGES: dict[str, tuple[Callable[[Path], object], list[tuple[str, str, bool, bool]]]] = {
    "nothing": (lambda root: None, []),
    "a page that nobody reads": (lambda root: (root / "README.md").write_text("hello"), []),
    "the agent's code": (lambda root: (root / "agent" / "main.py").write_text("print('play')\n"), [SMALL]),
    "a new file of its code": (lambda root: (root / "agent" / "more.py").write_text(""), [SMALL]),
    "a cache in its code": (lambda root: (root / "agent" / "x.pyc").write_text(""), []),
    "its prompt": (lambda root: (root / "prompt.md").write_text("Be quick.\n"), [SMALL]),
    "its command": (lambda root: write(root / "agent.yaml", changed(root / "agent.yaml", command=["${python}"])), [SMALL]),
    "its description": (lambda root: write(root / "agent.yaml", changed(root / "agent.yaml", description="new")), []),
    "one scenario": (lambda root: write(root / "second.yaml", changed(root / "second.yaml", gate={"pass_rate": 1})), [AROUND_SECOND]),
    "the topology": (
        lambda root: write(root / "topology.yaml", changed(root / "topology.yaml", description="new")),
        [AROUND_SECOND, AROUND_SMALL],
    ),
    "a seed": (lambda root: (root / "schema.sql").write_text((root / "schema.sql").read_text() + "--"), [AROUND_SECOND, AROUND_SMALL]),
    "a service": (lambda root: (root / "service" / "service.py").write_text("# none"), [AROUND_SECOND, AROUND_SMALL]),
    "the tickets": (lambda root: (root / "tickets.jsonl").write_text('{"id": "t2", "queue": "q", "text": ""}\n'), [AROUND_SECOND, AROUND_SMALL]),
    "both": (
        lambda root: [(root / "agent" / "main.py").write_text(""), (root / "boundary.yaml").write_text((root / "boundary.yaml").read_text() + "#")],
        [AROUND_SECOND, SMALL],
    ),
    "the agent's file has another name": (
        lambda root: [git(root, "mv", "agent.yaml", "renamed.yaml"), write(root / "scenario.yaml", changed(root / "scenario.yaml", agent="renamed.yaml"))],
        [AROUND_SMALL],
    ),
    "the agent's code has another place, and another line": (
        lambda root: [
            git(root, "mv", "agent", "moved"),
            (root / "moved" / "main.py").write_text("print('play')\n"),
            write(root / "agent.yaml", changed(root / "agent.yaml", directory="moved")),
        ],
        [SMALL],
    ),
    "another version of an agent": (
        lambda root: [shutil.copytree(root / "agent", root / "v2"), write(root / "v2.yaml", changed(root / "agent.yaml", version="2", directory="v2", prompt=None))],
        [("small", "tester 2", True, True)],
    ),
    "a scenario with an agent that was not there": (
        lambda root: [
            write(root / "new-agent.yaml", changed(root / "other.yaml", name="fresh")),
            write(root / "third.yaml", changed(root / "scenario.yaml", name="third", agent="new-agent.yaml")),
        ],
        [("third", "fresh 1", True, False)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
@pytest.mark.parametrize("what", CHANGES)
def test_what_is_picked(project: Project, what: str, committed: bool) -> None:
    change, expected = CHANGES[what]
    change(project.root)
    if committed:
        commit(project.root)
    assert sorted(names(picked(project))) == sorted(expected)


def test_a_component_and_a_case_are_files_of_whoever_uses_them(project: Project) -> None:
    root = project.root
    part = {"apiVersion": "podctl/v1", "kind": "Component", "name": "checks", "content": [{"kind": "state"}]}
    write(root / "checks.yaml", part)
    write(root / "scenario.yaml", changed(root / "scenario.yaml", checks=[{"use": "checks.yaml"}]))
    suite = {"apiVersion": "podctl/v1", "kind": "Suite", "name": "s", "scenario": "../second.yaml"}
    (root / "suite" / "cases").mkdir(parents=True)
    write(root / "suite" / "suite.yaml", suite)
    write(root / "second.yaml", changed(root / "second.yaml", tickets="suite/suite.yaml"))
    commit(root)
    git(root, "branch", "-f", "main")
    write(root / "checks.yaml", {**part, "content": [{"kind": "state", "name": "rows"}]})
    assert names(picked(project)) == [AROUND_SMALL]
    origin = {"kind": "incident", "why": "w", "learned": "now", "by": "ana"}
    case = {"apiVersion": "podctl/v1", "kind": "Case", "name": "t9", "ticket": {"id": "t9"}, "origin": origin}
    write(root / "suite" / "cases" / "t9.yaml", case)
    assert sorted(names(picked(project))) == [AROUND_SECOND, AROUND_SMALL]


def test_an_agent_that_nobody_uses_is_named(project: Project) -> None:
    write(project.root / "stray.yaml", changed(project.root / "other.yaml", name="stray"))
    found = picked(project)
    assert (names(found), [path.name for path in found.unused]) == ([], ["stray.yaml"])


def test_only_the_scenarios_that_are_named_are_looked_at(project: Project) -> None:
    (project.root / "schema.sql").write_text("--")
    assert [name for name, *_ in names(picked(project, scenarios=(project.root / "second.yaml",)))] == ["second"]


def test_the_base_is_where_the_branch_left_and_what_the_agent_was_there(project: Project) -> None:
    root = project.root
    before = agent_digest(load_model(root / "agent.yaml", Agent)).digest
    git(root, "checkout", "-q", "main")
    (root / "other" / "main.py").write_text("print('meanwhile')\n")
    (root / "agent" / "main.py").write_text("print('meanwhile')\n")
    commit(root)
    git(root, "checkout", "-q", "change")
    (root / "agent" / "main.py").write_text("print('play')\n")
    commit(root)
    git(root, "checkout", "-q", "--detach")
    (case,) = picked(project).cases
    assert case.base is not None
    assert agent_digest(load_model(case.base, Agent)).digest == before != case.identity.digest
    assert git(root, "status", "--porcelain") == "", "the work tree or the index was touched"


def test_what_surrounds_an_agent_has_a_digest_that_does_not_know_where_it_lies(project: Project, tmp_path: Path) -> None:
    (project.root / "agent" / "main.py").write_text("")
    (case,) = picked(project).cases
    git(project.root, "worktree", "add", "-q", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere" / "agent" / "main.py").write_text("")
    (same,) = picked(Project(tmp_path / "elsewhere")).cases
    (tmp_path / "elsewhere" / "service" / "service.py").write_text("# other")
    other = picked(Project(tmp_path / "elsewhere")).cases[-1]
    assert case.environment == same.environment != other.environment
    assert case.environment


def shallow(project: Project, tmp_path: Path) -> Path:
    (project.root / "README.md").write_text("x")
    commit(project.root)
    git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "change", f"file://{project.root}", "shallow")
    return tmp_path / "shallow"


def test_without_a_base_there_is_a_plain_error(project: Project, tmp_path: Path) -> None:
    def refused(directory: Path, base: str) -> SpecError:
        with pytest.raises(SpecError) as error:
            Repository.at(directory).base(base)
        return error.value

    (tmp_path / "none").mkdir()
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    with pytest.raises(SpecError, match="is not in a git repository"):
        Repository.at(tmp_path / "none")
    assert refused(tmp_path / "empty", "main").code == "ci-no-commit"
    assert refused(project.root, "nope").what == "there is no revision 'nope' here, nor in origin"
    assert refused(project.root, "--all").code == "ci-no-base"
    assert refused(project.root, "0" * 40).code == "ci-no-base"
    clone = shallow(project, tmp_path)
    assert "fetch-depth: 0" in refused(clone, "main").hint
    git(clone, "fetch", "-q", "--depth", "1", "origin", "main:main")
    unrelated = refused(clone, "main")
    assert (unrelated.code, "shallow" in unrelated.cause) == ("ci-no-common", True)
    git(clone, "fetch", "-q", "--unshallow", "origin", "change")
    git(clone, "branch", "-q", "-D", "main")
    git(clone, "fetch", "-q", "origin", "main:refs/remotes/origin/main")
    assert Repository.at(clone).base("main") == git(project.root, "rev-parse", "main").strip()


def test_odd_names_are_only_names(project: Project) -> None:
    odd = project.root / "agent" / 'a "b"\n\tc; $(touch x)'
    odd.mkdir()
    (odd / "-n é.py").write_text("")
    commit(project.root)
    (case,) = picked(project).cases
    assert "-n é.py" in case.reasons[0]

"""Which agents are to be tried: those that a change since the base can have made act otherwise, and why."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from podctl.agents.identity import IGNORED, AgentIdentity, agent_digest, code_digest
from podctl.ci.git import Change, Repository
from podctl.errors import SpecError
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle, load_model, paths_in
from podctl.spec.models import Agent
from podctl.spec.problems import printable
from podctl.spec.suite import cases_directory

_KIND = re.compile(r"^kind:[ \t]*[\"']?(Scenario|Agent)\b", re.MULTILINE)
_MOST_BYTES = 1 << 20
#: Of the files that changed so many are named.
_NAMED = 3
#: Keys of an agent that name files; as it was in the base they are not there before they are checked out.
_FILES = ("directory", "prompt", "read_only")


@dataclass(frozen=True)
class Case:
    """An agent to be tried by a scenario. ``base`` is the agent's file as it was, checked out; None: there was none.

    ``agent_changed`` is false where only what surrounds the agent did.
    """

    bundle: Bundle
    identity: AgentIdentity
    reasons: tuple[str, ...]
    base: Path | None
    agent_changed: bool
    environment: str  # a digest over the files that surround the agent; empty: they are too many

    @property
    def name(self) -> str:
        agent = self.bundle.agent
        return f"{self.bundle.scenario.name}-{agent.name}-{agent.version}"


@dataclass(frozen=True)
class Picked:
    cases: tuple[Case, ...]
    scenarios: int  # looked at
    agents: int
    unused: tuple[Path, ...]  # agents that changed, and that no scenario has or could have


def pick(repository: Repository, commit: str, below: Path, scenarios: Sequence[Path], tree: Path) -> Picked:
    """Compare the work tree with ``commit``. ``scenarios``: only these; empty: all below ``below``.

    A scenario is tried with the agent that it names. An agent that no scenario names is tried by those whose agent has the
    same name: it is another version. What agents were in the base is checked out below ``tree``. Raises `SpecError`.
    """
    found = dict(_specs(repository.files(below, "*.yaml", "*.yml")))
    files = [path.absolute() for path in scenarios] or [path for path, kind in found.items() if kind == "Scenario"]
    bundles = [load_bundle(path) for path in files]
    named = {_normal(bundle.scenario.agent) for bundle in bundles}
    others = [path for path, kind in found.items() if kind == "Agent" and _normal(path) not in named]
    changes = repository.changes(commit)
    base = _Base(repository, commit, tree, changes)
    cases = [case for bundle in bundles if (case := _case(bundle, changes, base, repository.top, is_named=True)) is not None]
    unused = []
    for path in others:
        agent = load_model(path, Agent)
        if not _changed(_agent_paths(path, agent), changes):
            continue
        takers = [bundle for bundle in bundles if bundle.agent.name == agent.name]
        if not takers:
            unused.append(path)
        for taker in takers:
            bundle = load_bundle(taker.path, {"agent": path})
            if (case := _case(bundle, changes, base, repository.top, is_named=False, instead=taker.scenario.agent)) is not None:
                cases.append(case)
    return Picked(tuple(cases), len(bundles), len(named) + len(others), tuple(unused))


def scenarios_below(repository: Repository, directory: Path) -> list[Path]:
    """The files of scenarios that git knows or would add."""
    return [path for path, kind in _specs(repository.files(directory, "*.yaml", "*.yml")) if kind == "Scenario"]


class _Base:
    """Agents as they were."""

    def __init__(self, repository: Repository, commit: str, tree: Path, changes: Sequence[Change]) -> None:
        self._repository = repository
        self._commit = commit
        self._tree = tree
        self._before = {change.path: change.before for change in changes}

    def agent(self, path: Path) -> Path | None:
        """The file of the agent that ``path`` is now; None where there was none, or it was no agent that can be run."""
        if not path.is_relative_to(self._repository.top):
            return None
        relative = self._before.get(path, path.relative_to(self._repository.top))
        if relative is None:
            return None
        self._repository.check_out(self._commit, [relative], self._tree)
        file = self._tree / relative
        if not file.is_file():
            return None
        try:
            agent = load_model(file, Agent, absent=_FILES)
            paths = [path for path in paths_in(agent) if path.is_relative_to(self._tree)]
            self._repository.check_out(self._commit, [path.relative_to(self._tree) for path in paths], self._tree)
            load_model(file, Agent)
        except SpecError:
            return None
        return file


def _case(
    bundle: Bundle, changes: Sequence[Change], base: _Base, top: Path, *, is_named: bool, instead: Path | None = None
) -> Case | None:
    """None where nothing that matters has changed. ``instead``: the agent that stands in for one that is new."""
    path = bundle.scenario.agent
    identity = agent_digest(bundle.agent)
    touched = _changed(_agent_paths(path, bundle.agent), changes)
    around = _changed(_surrounding_paths(bundle), changes) if is_named else []
    before = base.agent(path)
    reasons = []
    if touched:
        reasons.append(_because("the agent is new" if before is None else "the agent changed", touched, top))
        if before is not None and agent_digest(load_model(before, Agent)).digest == identity.digest:
            touched, reasons = [], []  # another version number or description: it acts as it did
    if around:
        reasons.append(_because("what is around it changed", around, top))
    if not reasons:
        return None
    if before is None and instead is not None:
        before = base.agent(instead)
    return Case(bundle, identity, tuple(reasons), before, bool(touched), _environment(bundle, top))


def _specs(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Scenarios and agents among them, by what stands in the file."""
    for path in paths:
        if path.stat().st_size <= _MOST_BYTES and (match := _KIND.search(path.read_text("utf-8", errors="replace"))):
            yield path, match[1]


def _agent_paths(path: Path, agent: Agent) -> list[Path]:
    return [path, *paths_in(agent)]


def _surrounding_paths(bundle: Bundle) -> list[Path]:
    """Of the files a run reads all but the agent's."""
    scenario = bundle.scenario
    own = scenario.model_copy(update={"agent": bundle.path})
    return [
        bundle.path,
        *paths_in(own),
        *paths_in(bundle.topology),
        *paths_in(bundle.tickets),
        *paths_in(bundle.boundary),
        *_beside(bundle),
    ]


def _beside(bundle: Bundle) -> list[Path]:
    """What a run reads that no path in its specs leads to: components, and a suite's cases."""
    cases = [] if bundle.cases is None else [cases_directory(bundle.scenario.tickets)]
    return [*bundle.components, *cases]


def _changed(covered: Sequence[Path], changes: Sequence[Change]) -> list[Path]:
    """What changed of files and directories, links to them followed."""
    places = {place for path in covered for place in (_normal(path), path.resolve())}
    return [change.path for change in changes if _touches(_normal(change.path), places)]


def _touches(changed: Path, places: set[Path]) -> bool:
    for place in (changed, *changed.parents):
        if place in places:
            inside = changed.relative_to(place).parts
            return not any(fnmatch.fnmatchcase(part, pattern) for part in inside for pattern in IGNORED)
    # A submodule is one change, however much is in it.
    return any(changed in place.parents for place in places)


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _because(what: str, changed: Sequence[Path], top: Path) -> str:
    names = sorted(dict.fromkeys(str(path.relative_to(top)) if path.is_relative_to(top) else str(path) for path in changed))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return printable(f"{what} ({', '.join(names[:_NAMED])}{more})", 400)


def _environment(bundle: Bundle, top: Path) -> str:
    """Two runs with the same one, and the same digests of specs and sample, had the same files around the agent.

    What lies outside of the repository is the machine's, and not looked at.
    """
    digest = hashlib.sha256()
    # The digests of specs and sample know what the specs say, and which tickets were drawn.
    known = {
        bundle.path,
        bundle.scenario.topology,
        bundle.scenario.tickets,
        bundle.scenario.boundary,
        *paths_in(bundle.tickets),
    }
    for path in dict.fromkeys(path for path in _surrounding_paths(bundle) if path not in known):
        if not path.exists() or not path.resolve().is_relative_to(top.resolve()):
            continue
        try:
            content = code_digest(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        except SpecError:
            return ""
        digest.update(f"{os.path.relpath(path, bundle.path.parent)}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

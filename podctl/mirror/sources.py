"""From what a user names to a topology: which system it is, what is read of it, what comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from podctl.errors import SpecError
from podctl.mirror import compose, kubernetes, kustomize
from podctl.mirror.carry import Carried, carry
from podctl.mirror.composefiles import NAMES, OVERRIDES, Loader
from podctl.mirror.files import Files
from podctl.mirror.places import fit_name
from podctl.mirror.said import Place, Said
from podctl.mirror.secrets import Ledger
from podctl.mirror.tree import Node, tree
from podctl.spec.problems import SpecMistakes, printable, shown
from podctl.spec.source import read_foreign

Kind = Literal["compose", "kubernetes", "kustomize", "namespace"]
_MANIFESTS = (".yaml", ".yml", ".json")
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_CHART = "Chart.yaml"
_MOST_MANIFESTS = 2_000
_RENDER = "render it, and name what comes out: helm template CHART > rendered.yaml"


@dataclass(frozen=True)
class Asked:
    """What to import. ``within`` is what may be read; ``profiles`` and ``env_files`` are Compose's."""

    paths: tuple[Path, ...]
    within: Path | None = None
    profiles: frozenset[str] = frozenset()
    env_files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Imported:
    """``secrets``: how many were replaced."""

    kind: Kind
    name: str
    sources: tuple[str, ...]
    digest: str
    carried: Carried
    said: Said
    secrets: int


def import_paths(asked: Asked, directory: str) -> Imported:
    """``directory`` is where files will be, relative to the topology. Raises `SpecError`."""
    for path in asked.paths:
        if not path.exists():
            raise SpecError(
                f"no such file or directory: {printable(shown(path))}", code="source-not-found", unchanged="nothing was written"
            )
    first = asked.paths[0]
    files = Files(asked.within or (first if first.is_dir() else first.parent))
    if (
        any((path / name).is_file() for path in asked.paths if path.is_dir() for name in _KUSTOMIZATIONS)
        and len(asked.paths) == 1
    ):
        return _kustomize(first, files, directory)
    said = Said()
    found = _compose_paths(asked.paths, files)
    if found:
        return _compose(found, asked, files, said, directory)
    documents = list(_manifests(asked.paths, files, said))
    return from_objects(
        "kubernetes", first, documents, said, files.digest(), tuple(shown(path) for path in asked.paths), directory
    )


def from_objects(
    kind: Kind, named: Path, documents: list[Node], said: Said, digest: str, sources: tuple[str, ...], directory: str
) -> Imported:
    """Kubernetes objects, wherever they were read. Raises `SpecError`."""
    ledger = Ledger()
    workloads = kubernetes.workloads(documents, said, ledger)
    carried = carry(workloads, said, ledger, directory, infer_order=True)
    stem = named.name if named.is_dir() else named.stem
    return Imported(kind, fit_name(stem or "production", {}), sources, digest, carried, said, len(ledger.words))


def import_text(data: bytes, name: str, directory: str) -> Imported:
    """Rendered manifests that are in no file, such as Helm's output. Raises `SpecError`."""
    digest = hashlib.sha256(data).hexdigest()
    return from_objects("kubernetes", Path(name), _documents(data, name, Path()), Said(), digest, (name,), directory)


def parse_objects(text: str, name: str) -> list[Node]:
    """Documents of a manifest that is not a file. Raises `SpecError`."""
    return _documents(text.encode(), name, Path())


# ---- Compose ----


def _compose_paths(paths: Iterable[Path], files: Files) -> list[Path]:
    """The Compose files among what was named; none when it is something else."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            own = next((path / name for name in NAMES if (path / name).is_file()), None)
            if own is not None:
                found.append(own)
                found += [path / name for name in OVERRIDES if (path / name).is_file()][:1]
        elif _is_compose(path, files):
            found.append(path)
    return found


def _is_compose(path: Path, files: Files) -> bool:
    if path.suffix not in (".yaml", ".yml", ".json") and path.name not in NAMES:
        return False
    try:
        documents = read_foreign(files.source(path), shown(path))
    except SpecMistakes:
        return "compose" in path.name
    root = documents[0].root if documents else None
    if root is None or root.get("apiVersion") is None:
        # Its name says what it was meant to be, and its mistakes are told as such.
        return "compose" in path.name or (root is not None and (root.get("services") or root.get("include")) is not None)
    return False


def _compose(paths: list[Path], asked: Asked, files: Files, said: Said, directory: str) -> Imported:
    loader = Loader(files, said)
    project = loader.project(paths, asked.env_files)
    ledger = Ledger()
    workloads = compose.workloads(project, loader, files, said, asked.profiles)
    compose.learn_secrets(project, files, ledger)
    carried = carry(workloads, said, ledger, directory)
    name = fit_name(project.name or "production", {})
    return Imported("compose", name, tuple(project.files), files.digest(), carried, said, len(ledger.words))


# ---- manifests ----


def _manifests(paths: Iterable[Path], files: Files, said: Said) -> Iterable[Node]:
    for path in paths:
        if path.is_file():
            yield from _documents(files.source(path), shown(path), path.parent)
            continue
        chart = path / _CHART
        if chart.is_file():
            raise SpecError(
                f"{printable(shown(path))} is a Helm chart: its templates are no manifests yet",
                code="source-templated",
                unchanged="nothing was written",
                hint=_RENDER,
            )
        leaves = sorted(leaf for leaf in path.rglob("*") if leaf.suffix in _MANIFESTS and leaf.is_file())
        leaves = [leaf for leaf in leaves if not any(part.startswith(".") for part in leaf.relative_to(path).parts)]
        if len(leaves) > _MOST_MANIFESTS:
            raise SpecError(
                f"{printable(shown(path))} has more than {_MOST_MANIFESTS} manifests",
                code="source-too-large",
                unchanged="nothing was written",
                hint="name the directory of one system",
            )
        if not leaves:
            raise SpecError(
                f"{printable(shown(path))} has no Compose file and no manifest",
                code="source-not-found",
                unchanged="nothing was written",
                hint=f"podctl looks for {', '.join(NAMES)}, kustomization.yaml, and *.yaml",
            )
        for leaf in leaves:
            if any((parent / _CHART).is_file() for parent in leaf.parents if parent.is_relative_to(path)):
                said.add("left out", f"file {shown(leaf)}", "", f"of a Helm chart; {_RENDER}", Place(shown(leaf)))
            elif leaf.name in _KUSTOMIZATIONS:
                said.add("left out", f"file {shown(leaf)}", "", "name its directory to have it applied", Place(shown(leaf)))
            else:
                yield from _documents(files.source(leaf), shown(leaf), leaf.parent)


def _documents(data: bytes, name: str, base: Path) -> list[Node]:
    try:
        documents = read_foreign(data, name)
    except SpecMistakes as error:
        if b"{{" in data:
            raise SpecError(
                f"{printable(name)} is a Helm template that was not rendered",
                code="source-templated",
                cause=error.what,
                unchanged="nothing was written",
                hint=_RENDER,
            ) from error
        raise
    return [tree(document, base) for document in documents]


def _kustomize(path: Path, files: Files, directory: str) -> Imported:
    text = kustomize.build(path, files.root)
    name = f"kustomize {shown(path)}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return from_objects("kustomize", path, parse_objects(text, name), Said(), digest, (shown(path),), directory)


def facts(imported: Imported) -> dict[str, Any]:
    """The report as JSON has it, for people's programs and for the fidelity of runs."""
    lines = imported.said.ordered()
    counts = {status: sum(line.status == status for line in lines) for status in ("imported", "changed", "stubbed", "left out")}
    return {
        "apiVersion": "podctl/v1",
        "kind": "TopologyImport",
        "name": imported.name,
        "from": imported.kind,
        "sources": list(imported.sources),
        "digest": imported.digest,
        "secretsReplaced": imported.secrets,
        "lines": counts,
        "items": [line.facts() for line in lines],
    }

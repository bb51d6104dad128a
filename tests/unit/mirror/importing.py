"""Imports for tests: a source's text in, the topology that was written and the report out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podctl.mirror.sources import Asked, Imported, facts, import_paths
from podctl.mirror.writing import write
from podctl.spec.load import load_model
from podctl.spec.models import Topology


@dataclass(frozen=True)
class Result:
    imported: Imported
    topology: Topology
    plain: dict[str, Any]
    lines: list[dict[str, Any]]
    everything: str

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.plain["services"][name]
        return found

    def said(self, subject: str, key: str = "") -> list[str]:
        """``status: why`` of each line about a subject's key."""
        return [f"{line['status']}: {line['why']}" for line in self.lines if (line["subject"], line["key"]) == (subject, key)]


def imported(root: Path, files: dict[str, str], *sources: str, **asked: Any) -> Result:
    """Write ``files`` beneath ``root``/src, import ``sources`` (the first file without any), and read what was written."""
    base = root / "src"
    for name, text in files.items():
        target = base / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    paths = tuple(base / source for source in sources or [next(iter(files))])
    return written(import_paths(Asked(paths, **asked), "topology.files"), root)


def written(made: Imported, root: Path) -> Result:
    output = root / "topology.yaml"
    write(made, output, "podctl topology import", force=True)
    texts = [path.read_bytes().decode("utf-8", "replace") for path in sorted(root.glob("topology*/**/*")) if path.is_file()]
    texts += [output.read_text(), (root / "topology.import.json").read_text()]
    topology = load_model(output, Topology)
    told = json.loads((root / "topology.import.json").read_text())
    assert told == json.loads(json.dumps(facts(made)))
    return Result(made, topology, yaml.safe_load(output.read_text()), told["items"], "\n".join(texts))


def compose(root: Path, services: str, **more: str) -> Result:
    """A Compose file of these services."""
    indented = "\n".join(f"  {line}" for line in services.strip("\n").splitlines())
    return imported(root, {"compose.yaml": f"services:\n{indented}\n", **more})

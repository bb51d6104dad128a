"""What an agent is made of, from its own files, which are read and never run."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podctl.agents.identity import own_files
from podctl.review.facts import AgentFile, Made, Package
from podctl.spec.models import Agent

_MOST = 1 << 20
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]{0,100})\s*(?:\[[^\]]*\])?\s*([^;#]*)")


def made_of(agent: Agent) -> Made:
    """Raises `SpecError` when the code cannot be read."""
    files = tuple(AgentFile(name, digest, size) for name, digest, size in own_files(agent.directory))
    packages = [package for file in files if file.sha256 for package in _asked(agent.directory, file.name)]
    return Made(files, tuple(dict.fromkeys(packages)), tuple(path.name for path in agent.read_only))


def _asked(directory: Path, name: str) -> Iterator[Package]:
    last = name.rpartition("/")[2]
    readers = {"pyproject.toml": _of_pyproject, "package.json": _of_node}
    read = _of_requirements if re.fullmatch(r"requirements[\w.-]*\.txt", last) else readers.get(last)
    if read is None:
        return
    with open(directory / name, "rb") as file:
        content = file.read(_MOST)
    try:
        for package, version in read(content.decode("utf-8")):
            yield Package(package[:100], version.strip()[:100], name)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return  # it is none that its tools would read; the file itself is listed


def _of_requirements(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if not line.strip().startswith(("#", "-")) and (found := _NAME.match(line)):
            yield found[1], found[2]


def _of_pyproject(text: str) -> Iterator[tuple[str, str]]:
    for line in tomllib.loads(text).get("project", {}).get("dependencies", ()):
        if found := _NAME.match(line):
            yield found[1], found[2]


def _of_node(text: str) -> Iterator[tuple[str, str]]:
    for name, version in json.loads(text).get("dependencies", {}).items():
        yield str(name), str(version)


def sbom(made: Made, name: str, version: str, digest: str) -> dict[str, Any]:
    """CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json/), without a time and a serial number: the same agent gives the same bytes."""
    files = [
        {"type": "file", "name": one.name, **({"hashes": [{"alg": "SHA-256", "content": one.sha256}]} if one.sha256 else {})}
        for one in made.files
    ]
    packages = [
        {
            "type": "library",
            "name": one.name,
            "version": one.version,
            "properties": [{"name": "podctl:asked-in", "value": one.asked_in}],
        }
        for one in made.packages
    ]
    component = {"type": "application", "name": name, "version": version, "hashes": [{"alg": "SHA-256", "content": digest}]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component},
        "components": files + packages,
    }

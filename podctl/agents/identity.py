"""Which agent this is: one digest over everything that makes it act as it does."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.spec.models import Agent
from podctl.spec.problems import printable, shown

IGNORED = ("__pycache__", ".git", ".venv", "*.pyc")
MAX_FILES = 20_000
MAX_BYTES = 512 << 20


@dataclass(frozen=True)
class AgentIdentity:
    """``digest`` is sha256 over ``parts``: code, command, prompt, model, tools, environment and, where there is one, routing, each a sha256."""

    name: str
    version: str
    digest: str
    parts: dict[str, str]


def agent_digest(agent: Agent) -> AgentIdentity:
    """The agent's identity; the same wherever its directory lies, whatever its name and version.

    Raises `SpecError` when the code cannot be read or is too large.
    """
    parts = {
        "code": code_digest(agent.directory),
        "command": _digest(list(agent.command)),
        "prompt": _digest(None if agent.prompt is None else _contents(agent.prompt)),
        "model": _digest(agent.model.model_dump(mode="json")),
        "tools": _digest(sorted(agent.tools)),
        "environment": _digest(agent.environment),
    }
    if agent.routing:
        parts["routing"] = _digest({name: route.model_dump(mode="json") for name, route in sorted(agent.routing.items())})
    return AgentIdentity(agent.name, agent.version, _digest(parts), parts)


def code_digest(directory: Path) -> str:
    """sha256 over each file's relative path, whether it is executable, and its contents.

    A symbolic link counts by its target's text and is not followed. Caches and version control do not count.
    """
    entries = []
    total = 0
    for path in _files(directory, directory):
        name = path.relative_to(directory).as_posix()
        try:
            mode = path.lstat()
            if stat.S_ISLNK(mode.st_mode):
                entries.append([name, "link", str(path.readlink())])
                continue
            if not stat.S_ISREG(mode.st_mode):
                raise _refused(directory, f"{name} is neither a file, a directory nor a link")
            total += mode.st_size
            if total > MAX_BYTES or len(entries) >= MAX_FILES:
                raise _refused(directory, f"more than {MAX_BYTES >> 20} MiB or {MAX_FILES} files")
            entries.append([name, "executable" if mode.st_mode & 0o111 else "file", _contents(path)])
        except OSError as error:
            raise _refused(directory, f"{name}: {error.strerror}") from error
    return _digest(sorted(entries))


def own_files(directory: Path) -> list[tuple[str, str, int]]:
    """(name, sha256, bytes) of each file that `code_digest` counts, by name; of a symbolic link the digest is empty. Raises `SpecError`."""
    found = []
    for path in _files(directory, directory):
        is_file = stat.S_ISREG(path.lstat().st_mode)
        name = path.relative_to(directory).as_posix()
        found.append((name, _contents(path) if is_file else "", path.lstat().st_size if is_file else 0))
    return sorted(found)


def _files(directory: Path, root: Path) -> Iterator[Path]:
    pending = [directory]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as found:
                children = list(found)
        except OSError as error:
            raise _refused(root, f"{current.name}: {error.strerror}") from error
        for child in children:
            if any(fnmatch.fnmatchcase(child.name, pattern) for pattern in IGNORED):
                continue
            if child.is_dir(follow_symlinks=False):
                pending.append(Path(child.path))
            else:
                yield Path(child.path)


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _refused(path, str(error.strerror)) from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _refused(path: Path, cause: str) -> SpecError:
    return SpecError(
        f"the agent's code in {printable(shown(path))} cannot be identified",
        code="agent-code",
        cause=printable(cause),
        hint="keep data and virtual environments outside the agent's directory, or name them under read_only",
    )

"""What git says of the files that a run was started from; nothing where there is no git, and never a failure."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_WAIT_S = 5.0
#: Where CI systems that check out a commit alone say which branch it is of; a pull request's own before its target's.
_BRANCHES = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "BRANCH_NAME")


@dataclass(frozen=True)
class Revision:
    branch: str = ""
    commit: str = ""
    dirty: bool = False


def revision_of(path: Path, environment: Mapping[str, str] = os.environ) -> Revision:
    """Of the git work tree in which ``path`` lies. Only for files of whoever runs podctl: git obeys what a repository configures."""
    directory = path.resolve().parent
    commit = _git(directory, environment, "rev-parse", "--verify", "HEAD")
    if not commit:
        return Revision()
    branch = _git(directory, environment, "symbolic-ref", "--short", "HEAD")
    if not branch:
        branch = next((environment[name] for name in _BRANCHES if environment.get(name)), "")
    changed = _git(directory, environment, "status", "--porcelain", "--untracked-files=no")
    return Revision(branch[:200], commit[:64], bool(changed))


def _git(directory: Path, environment: Mapping[str, str], *arguments: str) -> str:
    """What git prints; empty when it fails, is not there, or takes long."""
    quiet = {**environment, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments],
            env=quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()

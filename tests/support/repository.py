"""Git repositories for tests: made, changed and cloned by git itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: Of nobody's own settings, and the same on every machine.
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))
    },
}


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=directory, env={**os.environ, **GIT}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(directory: Path, message: str = "a change") -> str:
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "--allow-empty", "-m", message)
    return git(directory, "rev-parse", "HEAD").strip()


def make_repository(directory: Path) -> str:
    """Of what is in the directory, on a branch ``main``; its first commit."""
    git(directory, "init", "-q", "-b", "main")
    (directory / ".gitignore").write_text(".podctl/\npodctl-ci/\n")
    return commit(directory, "first")

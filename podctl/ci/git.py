"""What a git repository says: the commit that a branch left from, what changed since, files as they were then."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podctl.errors import EnvironmentProblem, SpecError
from podctl.spec.problems import printable

_WAIT_S = 300
_UNCHANGED = "nothing was run"


@dataclass(frozen=True)
class Change:
    """``path`` is absolute, as it is now or, for what was deleted, as it was; ``before`` is what it was called, relative to the top."""

    path: Path
    before: Path | None


class Repository:
    """One work tree. Every method raises `EnvironmentProblem` where git fails."""

    def __init__(self, top: Path) -> None:
        self.top = top

    @staticmethod
    def at(directory: Path) -> Repository:
        """The repository that ``directory`` lies in. Raises `SpecError` where there is none."""
        done = _git(directory, ["rev-parse", "--show-toplevel"])
        if done.returncode:
            told = _told(done)
            owned = "dubious ownership" in told
            raise SpecError(
                f"{printable(str(directory))} is not in a git repository",
                code="ci-no-repository",
                cause=printable(told),
                unchanged=_UNCHANGED,
                hint=f"git config --global --add safe.directory {directory}"
                if owned
                else "podctl ci compares with an earlier commit: git init, and commit",
            )
        return Repository(Path(os.fsdecode(done.stdout.removesuffix(b"\n"))))

    def head(self) -> str:
        """Raises `SpecError` before the first commit."""
        found = self._commit("HEAD")
        if found is None:
            raise SpecError("there is no commit here yet", code="ci-no-commit", unchanged=_UNCHANGED, hint="git commit")
        return found

    def base(self, revision: str) -> str:
        """The commit at which HEAD left ``revision``, a branch (here or of ``origin``), tag or commit. Raises `SpecError`."""
        self.head()
        found = self._commit(revision) or self._commit(f"origin/{revision}")
        shallow = self._ask("rev-parse", "--is-shallow-repository").strip() == b"true"
        if found is None:
            raise SpecError(
                f"there is no revision {printable(revision)!r} here, nor in origin",
                code="ci-no-base",
                cause="this clone is shallow: it has the latest commits alone" if shallow else "",
                unchanged=_UNCHANGED,
                hint=f"git fetch origin {printable(revision)}"
                + ("; in GitHub Actions: actions/checkout with fetch-depth: 0" if shallow else ""),
            )
        done = _git(self.top, ["merge-base", found, "HEAD"])
        if done.returncode:
            raise SpecError(
                f"HEAD and {printable(revision)} have no commit in common here",
                code="ci-no-common",
                cause="this clone is shallow: it has the latest commits alone" if shallow else printable(_told(done)),
                unchanged=_UNCHANGED,
                hint="git fetch --unshallow; in GitHub Actions: actions/checkout with fetch-depth: 0"
                if shallow
                else "name another base",
            )
        return done.stdout.decode("ascii").strip()

    def changes(self, base: str) -> list[Change]:
        """What is other in the work tree than in ``base``: committed or not; files that git ignores are not looked at."""
        told = self._ask("diff", "--name-status", "-z", "--find-renames", "--no-ext-diff", "--no-textconv", base, "--")
        words = iter(told.split(b"\0"))
        found = []
        for status in words:
            if not status:
                continue
            path = Path(os.fsdecode(next(words)))
            if status[:1] in (b"R", b"C"):
                after = Path(os.fsdecode(next(words)))
                found += [Change(self.top / after, path), Change(self.top / path, path)]
            else:
                found.append(Change(self.top / path, None if status == b"A" else path))
        untracked = self._ask("ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
        return [*found, *(Change(self.top / os.fsdecode(path), None) for path in untracked if path)]

    def files(self, below: Path, *patterns: str) -> list[Path]:
        """Files below a directory that git knows or would add, by patterns such as ``*.yaml``."""
        asked = ["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z", "--", *patterns]
        told = self._ask(*asked, at=below)
        return sorted(path for name in told.split(b"\0") if name and (path := below / os.fsdecode(name)).is_file())

    def check_out(self, commit: str, paths: Sequence[Path], target: Path) -> None:
        """Write those of ``paths`` (relative to the top, files or directories) that ``commit`` has below ``target``.

        The repository's index and work tree are left alone.
        """
        index = {"GIT_INDEX_FILE": str(target / ".index")}
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ask("read-tree", commit, environment=index)
        listed = self._ask("--literal-pathspecs", "ls-files", "-z", "--", *(str(path) for path in paths), environment=index)
        self._ask("checkout-index", "--force", f"--prefix={target}/", "-z", "--stdin", given=listed, environment=index)
        (target / ".index").unlink()

    def _commit(self, revision: str) -> str | None:
        done = _git(self.top, ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"])
        return done.stdout.decode("ascii").strip() if done.returncode == 0 else None

    def _ask(
        self, *arguments: str, given: bytes = b"", at: Path | None = None, environment: dict[str, str] | None = None
    ) -> bytes:
        done = _git(at or self.top, list(arguments), given, environment)
        if done.returncode:
            raise EnvironmentProblem(
                f"git {arguments[0]} failed", code="ci-git", cause=printable(_told(done)), unchanged=_UNCHANGED
            )
        return done.stdout


def _git(
    directory: Path, arguments: list[str], given: bytes = b"", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    # What hooks set would lead git to another index or work tree than those of the directory.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_DIR", "GIT_WORK", "GIT_INDEX"))}
    settings = {**inherited, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **(environment or {})}
    try:
        return subprocess.run(
            ["git", *arguments], cwd=directory, env=settings, input=given, capture_output=True, timeout=_WAIT_S, check=False
        )
    except FileNotFoundError as error:
        raise EnvironmentProblem(
            "git is not installed", code="ci-git", unchanged=_UNCHANGED, hint="apt-get install git"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"git {arguments[0]} did not end within {_WAIT_S} s", code="ci-git", unchanged=_UNCHANGED
        ) from error


def _told(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[0] if lines else f"exit code {done.returncode}"

"""What is handed to people is written whole or not at all: beside its place first, with its name at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podctl.errors import EnvironmentProblem, ExitCode


@contextmanager
def written_whole(out: Path, problem: type[EnvironmentProblem], what: str) -> Iterator[Path]:
    """Where to make a file or a directory that becomes ``out`` when nothing was raised; otherwise it is removed.

    ``what`` begins the problems' codes. Raises ``problem`` when something is at ``out`` already, and when it cannot be written.
    """
    if out.exists() or out.is_symlink():
        raise problem(f"{out} is there already", code=f"{what}-exists", hint="name another", exit_code=ExitCode.USAGE)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield draft
        draft.rename(out)
    except OSError as error:
        raise problem(f"{out} cannot be written", code=f"{what}-unwritable", cause=str(error)) from error
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def private(name: str, flags: int) -> int:
    """An opener of `open`, for files that nobody else may read."""
    return os.open(name, flags, 0o600)

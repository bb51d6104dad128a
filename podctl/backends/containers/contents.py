"""What of a directory of this machine is given to containers elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from podctl.errors import SpecError

_LEFT_OUT = {"__pycache__", ".git", ".venv", "node_modules"}


def contents(source: Path) -> Iterator[tuple[str, bytes]]:
    """(path within it, content) of every file of a directory, or of the one file. Raises `SpecError`."""
    if source.is_file():
        yield source.name, source.read_bytes()
        return
    root = source.resolve()
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if _LEFT_OUT & set(relative.parts) or path.is_dir():
            continue
        if not path.resolve().is_relative_to(root) or not path.is_file():
            raise SpecError(
                f"{path} is no plain file of {source}",
                code="files-link",
                cause="a link that leads out of the directory, or a special file",
                hint="copy what is needed into the directory",
            )
        yield relative.as_posix(), path.read_bytes()

"""A small project that works, for someone to change into theirs."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from podctl.errors import SpecError
from podctl.spec.problems import printable, shown


def scaffold(target: Path) -> list[Path]:
    """Write the project into ``target``, making it when needed, and return the files written.

    Raises `SpecError`, having written nothing, when one of the files is there already.
    """
    files = {target / name: text for name, text in _templates().items()}
    taken = [path for path in files if path.exists() or path.is_symlink()]
    blocked = [parent for path in files for parent in path.parents if parent.exists() and not parent.is_dir()]
    if taken or blocked:
        names = ", ".join(dict.fromkeys(shown(path) for path in [*taken, *blocked]))
        raise SpecError(
            f"already there: {printable(names, 400)}",
            code="scaffold-exists",
            hint="name an empty directory",
            unchanged="nothing was written",
        )
    written: list[Path] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="") as stream:
                written.append(path)
                stream.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise SpecError(
            f"cannot write the project into {printable(shown(target))}",
            code="scaffold-unwritable",
            cause=str(error),
            unchanged="no file was left there",
        ) from error
    return written


def _templates() -> dict[PurePosixPath, str]:
    """Relative path -> contents. Programs end in .txt in the package, so that nothing takes them for its modules."""
    found: dict[PurePosixPath, str] = {}
    pending: list[tuple[PurePosixPath, Traversable]] = [(PurePosixPath(), resources.files("podctl.spec") / "_scaffold")]
    while pending:
        place, entry = pending.pop()
        for child in entry.iterdir():
            if child.is_dir():
                pending.append((place / child.name, child))
            else:
                found[place / child.name.removesuffix(".txt")] = child.read_text("utf-8")
    return dict(sorted(found.items()))

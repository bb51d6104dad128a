"""Reading of what a source names, and of nothing outside of its directory."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from podctl.errors import SpecError
from podctl.mirror.said import Place
from podctl.mirror.tree import wrong
from podctl.spec.problems import printable, shown

MAX_SOURCE = 8 * 2**20
MAX_CONFIG = 2**20
#: Of a directory that a service is given.
MAX_FILES, MAX_BYTES = 100, 2 * 2**20


class Refused(Exception):
    """Why a path was not read, in words."""


class Files:
    """Reads beneath ``root``, links followed. ``digest`` is over everything that was read."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._seen: dict[str, str] = {}

    def inside(self, path: Path) -> Path:
        """The path with links followed. Raises `Refused` when it leads out of the root."""
        try:
            found = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise Refused(f"it cannot be followed ({type(error).__name__})") from error
        if not found.is_relative_to(self.root):
            raise Refused(f"it lies outside of {shown(self.root)} and was not opened; --within widens what may be read")
        return found

    def read(self, path: Path, limit: int = MAX_CONFIG) -> bytes:
        """A regular file's content. Raises `Refused`."""
        found = self.inside(path)
        try:
            # A pipe that nobody writes to must not be waited for.
            with open(os.open(found, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise Refused("it is no regular file")
                data = stream.read(limit + 1)
        except FileNotFoundError as error:
            raise Refused("no such file") from error
        except OSError as error:
            raise Refused(f"it cannot be read: {error.strerror}") from error
        if len(data) > limit:
            raise Refused(f"it is larger than {limit // 2**20} MiB")
        self._seen[str(found)] = hashlib.sha256(data).hexdigest()
        return data

    def source(self, path: Path, named_at: Place | None = None) -> bytes:
        """A file that the import cannot do without. Raises `SpecError`."""
        try:
            return self.read(path, MAX_SOURCE)
        except Refused as error:
            name = printable(shown(path))
            if named_at is not None:
                raise wrong(named_at, f"{name}: {error}", code="source-unreadable") from error
            code = "source-not-found" if str(error) == "no such file" else "source-unreadable"
            raise SpecError(f"{name}: {error}", code=code, unchanged="nothing was written") from error

    def directory(self, path: Path) -> dict[str, bytes]:
        """Path beneath it -> content. Raises `Refused`, also for more than a service's configuration would be."""
        found = self.inside(path)
        files: dict[str, bytes] = {}
        size = 0
        for directory, names, leaves in os.walk(found):
            names[:] = sorted(name for name in names if name not in (".git", "node_modules", "__pycache__"))
            for leaf in sorted(leaves):
                if len(files) >= MAX_FILES:
                    raise Refused(f"more than {MAX_FILES} files")
                each = Path(directory) / leaf
                data = self.read(each)
                size += len(data)
                if size > MAX_BYTES:
                    raise Refused(f"more than {MAX_BYTES // 2**20} MiB")
                files[each.relative_to(found).as_posix()] = data
        return files

    def digest(self) -> str:
        """sha256 in hex: the same files with the same content, wherever they lie."""
        told = sorted((os.path.relpath(name, self.root), value) for name, value in self._seen.items())
        return hashlib.sha256(repr(told).encode()).hexdigest()

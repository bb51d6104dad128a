"""An image for containers of tests, of this machine's own files: no registry and no download is needed.

A shell with a few programs, Python with psycopg, and PostgreSQL: what docs/docker.md asks of an image.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from podctl.backends.local import postgres

PYTHON = Path(sys.executable).resolve()
_TOOLS = ("sh", "cat", "cp", "dirname", "echo", "env", "false", "grep", "id", "ln", "locale", "ls", "mkdir", "mkfifo", "rm")
_TOOLS += ("mount", "sleep", "sort", "tail", "true", "unshare", "yes")
_MODULES = ("psycopg", "psycopg_binary", "typing_extensions")
_WITHOUT = re.compile(r"/(site-packages|test|tests|idlelib|tkinter|ensurepip|lib2to3|__pycache__|include|config-[^/]*|.*\.a)$")


def root() -> bytes:
    """Its files as a tar, for ``docker import``; some 150 MB."""
    server = postgres.programs().root
    standard = Path(sysconfig.get_paths()["stdlib"])
    modules = [path for name in _MODULES for path in _module(name)]
    tools = {name: Path(found) for name in _TOOLS if (found := shutil.which(name))}
    binaries = [PYTHON, *tools.values(), *(standard / "lib-dynload").glob("*.so")]
    binaries += [server / "bin" / name for name in ("postgres", "initdb")]
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:

        def add(path: Path, name: str) -> None:
            tar.add(path, name, filter=_entry)

        for library in sorted(libraries(binaries, server)):
            # PostgreSQL's own are found where every library is: nobody sets a path for them.
            add(library.resolve(), f"/usr/lib/{library.name}" if library.is_relative_to(server) else str(library))
        add(standard, str(standard))
        for path in modules:
            add(path, f"{standard}/site-packages/{path.name}")
        add(PYTHON, str(PYTHON))
        for name, path in tools.items():
            add(path.resolve(), f"/bin/{name}")
        for part in ("bin", "lib", "share"):
            add(server / part, f"/usr/lib/postgresql/{postgres.programs().major}/{part}")
        for path in (Path("/usr/lib/locale/C.utf8"), Path("/usr/share/zoneinfo/UTC")):
            if path.exists():
                add(path, str(path))
        tar.addfile(_link("/usr/local/bin/python3", str(PYTHON)))
        # Root's /workspace and /agent are in the way of podctl's own, which must not mind.
        for name in ("/tmp", "/proc", "/sys", "/dev", "/etc", "/data", "/workspace", "/agent"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "/tmp" else 0o755
            tar.addfile(entry)
        users = b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
        entry = tarfile.TarInfo("/etc/passwd")
        entry.size = len(users)
        tar.addfile(entry, io.BytesIO(users))
    return made.getvalue()


def _entry(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    return None if _WITHOUT.search(f"/{entry.name}") else entry


def _link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


def _module(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name) if name != "psycopg_binary" else None
    if name == "psycopg_binary":  # it refuses to be looked for before psycopg
        place = Path(importlib.util.find_spec("psycopg").origin or "").parents[1]  # type: ignore[union-attr]
        return [path for path in (place / name, place / f"{name}.libs") if path.exists()]
    origin = Path(spec.origin) if spec and spec.origin else None
    return [] if origin is None else [origin.parent if origin.name == "__init__.py" else origin]


def libraries(binaries: list[Path], server: Path = Path("/nowhere")) -> set[Path]:
    library = {**os.environ, "LD_LIBRARY_PATH": str(server / "lib")}
    said = subprocess.run(["ldd", *map(str, binaries)], env=library, capture_output=True, text=True).stdout
    return {Path(name) for name in re.findall(r"(/\S+) \(0x", said)}

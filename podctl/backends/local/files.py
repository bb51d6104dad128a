"""Where things are in a pod's directory."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from podctl.backends.local.sandbox import SHARED_ETC
from podctl.backends.servicing import SERVICE_SCRIPTS

#: Every uid of a pod has a name: initdb refuses one without, and the host's users are nobody's business.
_USERS = {"root": 0, "postgres": 1, "service": 2, "agent-outside": 3, "user": 1000, "agent": 10001, "nobody": 65534}
PASSWD = "".join(f"{name}:x:{number}:{number}:{name}:/tmp:/bin/sh\n" for name, number in _USERS.items())
GROUP = "".join(f"{name}:x:{number}:\n" for name, number in _USERS.items())


class PodFiles:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc = root / "etc"
        #: What services may be run by, as they are named in their sandboxes.
        self.scripts = {f"/{name}": root / name for name in SERVICE_SCRIPTS}
        self.runtime = root / "rt"
        self.work = root / "work"
        self.scratch = root / "scratch"
        self.logs = root / "logs"

    def lay_out(self, hosts: str) -> None:
        """Make the skeleton: readable by the pod's users, writable by none of them."""
        for directory in (self.runtime, self.work, self.scratch, self.etc):
            directory.mkdir(mode=0o711, exist_ok=True)
            directory.chmod(0o755 if directory == self.etc else 0o711)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        scripts = [
            (path, Path(__file__).parent.with_name(path.name).read_text(encoding="utf-8")) for path in self.scripts.values()
        ]
        own = {"hosts": hosts, "passwd": PASSWD, "group": GROUP}
        for path, text in [*scripts, *((self.etc / name, text) for name, text in own.items())]:
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)

    def etc_binds(self) -> list[tuple[Path, Path]]:
        """What the pod's /etc shares with the host's: (host path, place), the places made."""
        binds = []
        for source in map(Path, SHARED_ETC):
            if source.exists():
                place = self.etc / source.relative_to("/etc")
                place.parent.mkdir(mode=0o755, exist_ok=True)
                _make_place(place, source)
                binds.append((source.resolve(), place))
        return binds

    def data(self, database: str) -> Path:
        return self.root / "pg" / database

    def server_log(self, database: str) -> Path:
        return self.root / "pglog" / database

    def sockets(self, database: str) -> Path:
        return self.root / "sock" / database

    def runtime_target(self, source: Path, number: int) -> Path:
        """The place where a host path is bound for the pod; made to match a directory or a file."""
        target = self.runtime / str(number)
        _make_place(target, source)
        return target


def _make_place(place: Path, source: Path) -> None:
    """Something to bind ``source`` over: bound things are what they are bound over, a directory or a file."""
    if source.is_dir():
        place.mkdir(exist_ok=True)
        place.chmod(0o755)
    else:
        place.touch()


def remove_tree(path: Path) -> None:
    """Remove a directory whose parts may belong to the pod's users or be unreadable."""

    def retry(function: Any, name: str, error: BaseException) -> None:
        if isinstance(error, FileNotFoundError):
            return
        os.chmod(os.path.dirname(name), 0o700)  # noqa: PTH101, PTH120
        function(name)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=retry)
    else:
        shutil.rmtree(path, onerror=lambda function, name, info: retry(function, name, info[1]))

"""Where things are in a pod's directory."""

from __future__ import annotations

from pathlib import Path

PASSWD = "agent:x:10001:10001:agent:/workspace:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "agent:x:10001:\nnogroup:x:65534:\n"


class PodFiles:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.hosts = root / "hosts"
        self.passwd = root / "passwd"
        self.group = root / "group"
        self.stub = root / "stub.py"
        self.runtime = root / "rt"
        self.work = root / "work"
        self.scratch = root / "scratch"
        self.logs = root / "logs"

    def lay_out(self, hosts: str) -> None:
        """Make the skeleton: readable by the pod's users, writable by none of them."""
        for directory in (self.runtime, self.work, self.scratch):
            directory.mkdir(mode=0o711, exist_ok=True)
            directory.chmod(0o711)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        stub = Path(__file__).with_name("stub.py").read_text()
        for path, text in ((self.hosts, hosts), (self.passwd, PASSWD), (self.group, GROUP), (self.stub, stub)):
            path.write_text(text)
            path.chmod(0o644)

    def data(self, database: str) -> Path:
        return self.root / "pg" / database

    def sockets(self, database: str) -> Path:
        return self.root / "sock" / database

    def runtime_target(self, source: Path, number: int) -> Path:
        """The place where a host path is bound for the pod; made to match a directory or a file."""
        target = self.runtime / str(number)
        if source.is_dir():
            target.mkdir(exist_ok=True)
            target.chmod(0o755)
        else:
            target.touch()
        return target

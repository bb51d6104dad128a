"""Files with secret keys: made for their owner alone, and read only where nobody else could have read them."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from podctl.errors import SpecError

#: Bytes; no key file of podctl's is longer.
_MOST = 4096
#: What tells a project's directory, or a seed's.
_PROJECT = (".git", ".podctl", "seed.json", "scenario.yaml", "topology.yaml")


class KeyProblem(SpecError):
    """A key that is not there, that cannot be trusted any more, or that is no key. No message has anything of a secret in it."""


@dataclass(frozen=True)
class KeyPlace:
    """A secret key's file. ``make`` and ``renew`` are what to type for a first key, and for another when others may have read it."""

    path: Path
    make: str
    renew: str

    def present(self) -> bool:
        return self.path.exists() or self.path.is_symlink()

    def read(self) -> bytes:
        """Raises `KeyProblem` when others may read the file, when it is a link or none, or lies in a project."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                content = file.read(_MOST)
        except FileNotFoundError:
            raise KeyProblem(f"there is no key {self.path}", code="key-missing", hint=self.make) from None
        except OSError as error:
            linked = error.errno == errno.ELOOP
            raise KeyProblem(
                f"the key {self.path} is a symbolic link" if linked else f"the key {self.path} cannot be read",
                code="key-link" if linked else "key-unreadable",
                cause="" if linked else os.strerror(error.errno or 0),
                hint="name the file itself" if linked else "",
            ) from None
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyProblem(
                f"others may read the key {self.path}",
                code="key-open",
                unchanged="it was not used",
                hint=f"chmod 600 {self.path}; if others may have read it: {self.renew}",
            )
        self.refuse_project()
        return content

    def write_new(self, content: bytes) -> None:
        """Raises `KeyProblem` when there is something already, or when the place is in a project."""
        self.refuse_project()
        private = self._draft(content)
        try:
            os.link(private, self.path)  # unlike a rename, never over another key
        except FileExistsError:
            raise KeyProblem(
                f"there is a key: {self.path}",
                code="key-exists",
                unchanged="it was left as it is",
                hint=f"for another: {self.renew}",
            ) from None
        finally:
            private.unlink()

    def replace(self, content: bytes) -> None:
        self._draft(content).rename(self.path)

    def _draft(self, content: bytes) -> Path:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            with open(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            private.unlink(missing_ok=True)
            raise
        return private

    def refuse_project(self) -> None:
        """A key in a repository is committed some day, and one in a project goes where its seeds go."""
        home = Path.home().resolve()
        for directory in self.path.resolve().parents:
            if directory == home:  # people keep their home under version control; the key's own directory is not in a project
                return
            found = next((name for name in _PROJECT if (directory / name).exists()), None)
            if found is not None:
                raise KeyProblem(
                    f"the key {self.path} lies in a project: {directory} has {found}",
                    code="key-beside",
                    unchanged="nothing was made or used",
                    hint="keep keys apart from what they are for, such as in the directory that podctl takes by itself",
                )


def keys_directory() -> Path:
    """``$XDG_CONFIG_HOME/podctl/keys``."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "podctl" / "keys"

"""The files of a TestRun's scenario, from where it says: they are the submitter's, and trusted with nothing."""

from __future__ import annotations

import base64
import io
import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from podctl.errors import SpecError
from podctl.evidence.safe import printable

_MOST_BYTES = 256 * 2**20
_MOST_FILES = 20_000
_ARCHIVES = (".tar.gz", ".tgz")


def unpack(config_maps: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """Lay out what the ConfigMaps have, in ``directory``, which is made anew. Raises `SpecError`."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    budget = _Budget()
    for config_map in config_maps:
        contents: dict[str, bytes] = {key: text.encode() for key, text in (config_map.get("data") or {}).items()}
        for key, encoded in (config_map.get("binaryData") or {}).items():
            contents[key] = base64.b64decode(encoded)
        for key in sorted(contents):
            if key.endswith(_ARCHIVES):
                _unpack_archive(key, contents[key], directory, budget)
            else:
                budget.take(1, len(contents[key]))
                (directory / key).write_bytes(contents[key])


class _Budget:
    def __init__(self) -> None:
        self._files = self._bytes = 0

    def take(self, files: int, size: int) -> None:
        self._files += files
        self._bytes += max(0, size)
        if self._files > _MOST_FILES or self._bytes > _MOST_BYTES:
            raise SpecError(
                "the TestRun's source is too large",
                code="source-too-large",
                cause=f"more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB unpacked",
                hint="give large sources to the controller as a directory: spec.source.directory",
            )


def _unpack_archive(name: str, content: bytes, directory: Path, budget: _Budget) -> None:
    """Files and directories alone: without links nothing can lead out. (Python before 3.11.4 has no filter for that.)"""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                budget.take(1, member.size)
                target = directory / _inside(member.name)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                elif member.isfile() and (source := archive.extractfile(member)) is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open(target, "wb") as file:
                        shutil.copyfileobj(source, file)
                    target.chmod(0o755 if member.mode & 0o100 else 0o644)
                else:
                    raise ValueError(f"{member.name!r} is neither a file nor a directory")
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise SpecError(
            f"the archive {name} of the TestRun's source cannot be unpacked",
            code="source-archive",
            cause=printable(f"{type(error).__name__}: {error}"),
            hint="make it with: tar czhf project.tar.gz scenarios fixtures",
        ) from error


def _inside(name: str) -> PurePosixPath:
    """Raises ValueError for a name that climbs."""
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts:
        raise ValueError(f"{name!r} leads out of the archive")
    return path

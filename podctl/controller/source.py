"""The files of a TestRun's scenario, from where it says: they are the submitter's, and trusted with nothing."""

from __future__ import annotations

import base64
import binascii
import io
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from podctl.errors import SpecError

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
        self._bytes += size
        if self._files > _MOST_FILES or self._bytes > _MOST_BYTES:
            raise SpecError(
                "the TestRun's source is too large",
                code="source-too-large",
                cause=f"more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB unpacked",
                hint="give large sources to the controller as a directory: spec.source.directory",
            )


def _unpack_archive(name: str, content: bytes, directory: Path, budget: _Budget) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                budget.take(1, member.size)
                # Neither links that lead out, nor devices, nor names that climb.
                archive.extract(member, directory, filter="data")
    except (tarfile.TarError, EOFError, OSError, binascii.Error, ValueError) as error:
        raise SpecError(
            f"the archive {name} of the TestRun's source cannot be unpacked",
            code="source-archive",
            cause=f"{type(error).__name__}: {error}"[:300],
            hint="make it with: tar czf project.tar.gz scenarios fixtures",
        ) from error

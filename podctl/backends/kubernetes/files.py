"""Directories of this machine as ConfigMaps: how an agent's and a service's code gets into a cluster without an image.

A directory becomes as many ConfigMaps as it needs, each within the API's limit of 1 MiB; the kubelet lays them out again
as one read-only directory. What is too large for that belongs into an image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from podctl.backends.containers.contents import contents
from podctl.backends.kubernetes.objects import Files
from podctl.errors import SpecError

#: Of content; a ConfigMap may hold 1,048,576 bytes with its keys.
PART_BYTES = 1_000_000
MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Bundle:
    """``parts``: ConfigMap name -> key -> content; ``files`` says how they make up the directory again."""

    parts: dict[str, dict[str, bytes]]
    files: Files


def bundle(source: Path, target: str) -> Bundle:
    """The directory or file ``source`` as it is to appear at ``target``.

    Raises `SpecError` when it does not fit, or holds a link to somewhere else.
    """
    found = list(contents(source))
    total = sum(len(content) for _, content in found)
    largest = max(found, key=lambda entry: len(entry[1]), default=("", b""))
    if total > MOST_BYTES or len(largest[1]) > PART_BYTES:
        why = (
            f"{total} bytes in all, {MOST_BYTES} at most" if total > MOST_BYTES else f"{largest[0]} has {len(largest[1])} bytes"
        )
        raise SpecError(
            f"{source} is too large to be given to a cluster as files",
            code="files-too-large",
            cause=f"{why}; a single file may have {PART_BYTES}",
            hint="put it into the image, and name the image with PODCTL_IMAGE",
        )
    digest = hashlib.sha256()
    for name, content in found:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    label = digest.hexdigest()[:16]
    parts: dict[str, dict[str, bytes]] = {}
    items: dict[str, dict[str, str]] = {}
    room = 0
    for number, (name, content) in enumerate(found):
        if not parts or room < len(content):
            current = f"files-{label}-{len(parts)}"
            parts[current], items[current], room = {}, {}, PART_BYTES
        parts[current][f"f{number}"] = content
        items[current][f"f{number}"] = name
        room -= len(content)
    if source.is_file():
        target = target.rpartition("/")[0]
    return Bundle(parts, Files(target, items))

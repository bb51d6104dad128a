"""A service of the source, whichever system it is from: what the readers find and `podctl.mirror.carry` carries over. PURE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from podctl.mirror.said import Place
from podctl.spec.base import parse_size


@dataclass(frozen=True)
class Text:
    """A value and where it stands. ``secret``: the source itself calls it one; with no text, the source does not have it."""

    text: str | None
    place: Place
    secret: bool = False
    about: str = ""


@dataclass(frozen=True)
class Given:
    """A file or a directory that the service finds at ``target``: path beneath it (empty: the file itself) -> content."""

    target: str
    files: Mapping[str, bytes]
    place: Place
    secret: bool = False
    key: str = "files"


@dataclass(frozen=True)
class Wait:
    """When it is ready: ``path`` and ``port`` of HTTP, ``port`` alone of TCP, ``command`` in the container."""

    place: Place
    port: int = 0
    path: str = ""
    command: tuple[str, ...] = ()
    timeout: float = 15.0


@dataclass
class Workload:
    """``why_not`` is a sentence when it is left out. ``port_of`` maps ports by which others call it to its own.

    ``links`` are wishes: they order services where no other order forbids it. ``tcp``: the source says that it does not speak HTTP.
    """

    name: str
    place: Place
    image: str = ""
    image_place: Place | None = None
    command: list[Text] = field(default_factory=list)
    arguments: list[Text] = field(default_factory=list)
    environment: dict[str, Text] = field(default_factory=dict)
    ports: dict[int, Place] = field(default_factory=dict)
    port_of: dict[int, int] = field(default_factory=dict)
    named_ports: dict[str, int] = field(default_factory=dict)
    files: list[Given] = field(default_factory=list)
    writable: dict[str, tuple[int, Place]] = field(default_factory=dict)
    wait: Wait | None = None
    depends_on: dict[str, Place] = field(default_factory=dict)
    links: dict[str, Place] = field(default_factory=dict)
    replicas: tuple[int, Place] | None = None
    memory: tuple[int, Place] | None = None
    cpu: tuple[float, Place] | None = None
    processes: tuple[int, Place] | None = None
    user: tuple[int, Place] | None = None
    working_directory: tuple[str, Place] | None = None
    aliases: dict[str, Place] = field(default_factory=dict)
    tcp: bool = False
    seeds: list[Place] = field(default_factory=list)
    why_not: str = ""

    @property
    def subject(self) -> str:
        return f"service {self.name}"


_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h)")
_UNIT = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float | None:
    """``1m30s``, ``10s`` or a bare number of seconds; None for something else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _GO_DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT[unit] for number, unit in parts)


_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_COMPOSE_UNITS = {"b": 1, "": 1, "k": 2**10, "kb": 2**10, "m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}


def compose_bytes(text: str) -> int | None:
    """``512M``, ``1gb`` as Compose counts: powers of 1024."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2].lower() not in _COMPOSE_UNITS:
        return None
    return int(float(match[1]) * _COMPOSE_UNITS[match[2].lower()])


def quantity(text: str) -> float | None:
    """A Kubernetes quantity: ``250m``, ``0.5``, ``128Mi``, ``1G``, ``1e3``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]\d+)?)(m|Ki|Mi|Gi|Ti|k|M|G|T)?", text.strip())
    if match is None:
        return None
    unit = {"m": 1e-3, None: 1.0, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    return float(match[1]) * unit[match[2]]


def size_text(size: int) -> str:
    """As the topology writes it; the inverse of its own sizes."""
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if size % factor == 0:
            text = f"{size // factor}{unit}"
            assert parse_size(text) == size
            return text
    return str(size)

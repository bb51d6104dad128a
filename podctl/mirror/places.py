"""Where names and addresses in a source's values lead: into the pod, to somebody else, or nowhere. PURE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from podctl.mirror import outside
from podctl.mirror.engines import Engine
from podctl.mirror.said import Place
from podctl.mirror.workload import Workload

Kind = Literal["service", "database", "stub", "left-out"]
_CLUSTER = re.compile(r"\.svc(\.cluster\.local)?\.?$")


@dataclass
class Target:
    """Something of the topology. ``user``, ``password`` and ``database`` are the source's, of a database."""

    kind: Kind
    name: str
    place: Place
    workload: Workload | None = None
    engine: Engine | None = None
    user: str = ""
    password: str = ""
    database: str = ""
    title: str = ""
    paths: dict[str, Place] = field(default_factory=dict)


def fit_name(text: str, taken: Mapping[str, object]) -> str:
    """A name that a topology may have, and that nothing else has."""
    plain = re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "-", text.lower())).strip("-")
    if not plain or not plain[0].isalpha():
        plain = f"x-{plain}".rstrip("-")
    plain = plain[:40].rstrip("-")
    if plain in ("gateway", "localhost"):
        plain += "-service"
    made, number = plain, 2
    while made in taken:
        made, number = f"{plain[:36]}-{number}", number + 1
    return made


class Places:
    """Every host that the source knows -> what it leads to. Hosts of somebody else's are added as they are met."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}  # by name in the topology
        self._hosts: dict[str, Target] = {}

    def add(self, wanted: str, target: Target) -> Target:
        target.name = fit_name(wanted, self.targets)
        self.targets[target.name] = target
        return target

    def lead(self, host: str, target: Target) -> None:
        self._hosts.setdefault(host.lower(), target)

    def find(self, host: str) -> Target | None:
        """What a host name of the source leads to; a cluster's long names lead where the short ones do."""
        lowered = host.lower()
        return self._hosts.get(lowered) or self._hosts.get(_CLUSTER.sub("", lowered))

    def hosts(self) -> list[str]:
        return sorted(self._hosts, key=len, reverse=True)

    def elsewhere(self, host: str, scheme: str, port: int, database: str, at: Place) -> Target:
        """What stands for a host of somebody else's."""
        found = outside.judge(host, scheme)
        # Amazon's and others' managed PostgreSQL cannot be told from their MySQL but by protocol and port.
        postgres = found.how == "postgres" or (port == 5432 and scheme in ("", "tcp"))
        if postgres:
            title = f"{found.title} ({host})"
            engine = Engine(title, 5432, postgres=True)
            target = self.add(
                database or host.partition(".")[0], Target("database", "", at, engine=engine, database=database, title=title)
            )
        else:
            kind: Kind = "stub" if found.how == "stub" else "left-out"
            same = next((one for one in self.targets.values() if one.title == found.title and one.kind == kind), None)
            target = same or self.add(found.name, Target(kind, "", at, title=found.title))
        self.lead(host, target)
        return target

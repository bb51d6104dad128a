"""What the MCP servers of a run listed, put together; and the file that it is pinned in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.evidence.records import Record
from podctl.evidence.toollists import INSTRUCTIONS

KIND = "ToolLock"
_LARGEST = 8 * 2**20


@dataclass(frozen=True)
class Version:
    """One tool as a server listed it; ``description`` is its beginning."""

    digest: str
    description: str = ""
    level: str = ""
    findings: tuple[str, ...] = ()


@dataclass
class Listed:
    """server -> tool -> its versions, in the order in which they were seen."""

    servers: dict[str, dict[str, list[Version]]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        if record.kind != "tools.listed" or "tools" not in record.data:
            return
        tools = self.servers.setdefault(str(record.data["server"]), {})
        for tool in record.data["tools"]:
            versions = tools.setdefault(str(tool["name"]), [])
            found = Version(tool["digest"], tool.get("description", ""), tool.get("level", ""), tuple(tool.get("findings", ())))
            if all(found.digest != one.digest for one in versions):
                versions.append(found)

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "server": server,
                "tool": name,
                "digest": one.digest,
                "level": one.level,
                "description": one.description,
                "findings": list(one.findings),
            }
            for server, tools in self.servers.items()
            for name, versions in sorted(tools.items())
            for one in versions
        ]


def changes_of(before: Listed, after: Listed) -> list[tuple[str, str, str]]:
    """What is said otherwise: in words, and both descriptions, of every server of either."""
    found = []
    for server in sorted(before.servers.keys() | after.servers.keys()):
        was, now = before.servers.get(server), after.servers.get(server)
        if was is None or now is None:
            found.append((f"{server}: {'new' if was is None else 'gone'}", "", ""))
            continue
        for name in sorted(was.keys() | now.keys()):
            old, new = was.get(name, []), now.get(name, [])
            if {one.digest for one in old} == {one.digest for one in new}:
                continue
            what = "new" if not old else "gone" if not new else "changed"
            if old and new and old[-1].description == new[-1].description:
                what += ": schemas, annotations, or what follows the beginning of the description"
            label = f"{server}, its instructions" if name == INSTRUCTIONS else f"{server}.{name}"
            found.append((f"{label}: {what}", old[-1].description if old else "", new[-1].description if new else ""))
    return found


def lock_text(listed: Listed) -> str:
    """The file: JSON, ASCII, sorted, so that a change in it is a change of a tool."""
    servers = {
        server: {name: {"digest": of[-1].digest, "description": of[-1].description} for name, of in tools.items()}
        for server, tools in listed.servers.items()
    }
    value = {"apiVersion": "podctl/v1", "kind": KIND, "servers": servers}
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def read_lock(path: Path) -> Listed:
    """Raises `SpecError`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        value = json.loads(data.decode("ascii"))
        if len(data) > _LARGEST or value["kind"] != KIND or value["apiVersion"] != "podctl/v1":
            raise ValueError("not a file that podctl tools lock wrote")
        return Listed(
            {
                str(server): {str(name): [Version(str(one["digest"]), str(one["description"]))] for name, one in tools.items()}
                for server, tools in value["servers"].items()
            }
        )
    except OSError as error:
        cause = error.strerror or str(error)
    except RecursionError:
        cause = "nested too deeply"
    except (ValueError, KeyError, TypeError, AttributeError):
        cause = "not a file that podctl tools lock wrote"
    raise SpecError(f"cannot read {path}", code="tools-lock", cause=cause, hint="podctl tools lock RUN --out FILE writes one")

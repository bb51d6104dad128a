"""Compose files to one merged tree: several files, ``extends``, ``include``, interpolation, as the Compose Specification says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from podctl.errors import SpecError
from podctl.mirror.files import Files, Refused
from podctl.mirror.interpolate import BadInterpolation, env_file, interpolate
from podctl.mirror.said import Place, Said
from podctl.mirror.tree import Node, scalar, tree, wrong
from podctl.spec.problems import SpecMistakes, printable, shown
from podctl.spec.source import read_foreign

#: In this order, as Compose looks for them.
NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = ("compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml")
_MAX_FILES = 200
#: Sequences that another file's takes the place of; others are added to.
_REPLACED = {"command", "entrypoint", "test"}
#: Lists that may be written as mappings, by the key of a service.
_PAIRS = ("environment", "labels", "annotations", "extra_hosts", "sysctls", "args")
_SECTIONS = ("services", "networks", "volumes", "configs", "secrets", "models")


@dataclass
class Project:
    """Merged files. ``values`` is what names in them stood for."""

    root: Node
    directory: Path
    name: str
    values: Mapping[str, str]
    files: list[str] = field(default_factory=list)


class Loader:
    def __init__(self, files: Files, said: Said) -> None:
        self._files = files
        self._said = said
        self._read = 0
        self._told: set[tuple[str, str]] = set()

    def project(self, paths: Iterable[Path], env_files: Iterable[Path] = ()) -> Project:
        """Files of one project, later ones over earlier. Raises `SpecError`."""
        paths = list(paths)
        directory = paths[0].parent
        values = self._values(directory, list(env_files))
        root = self._merged(paths, directory, values, ())
        name = root.text("name") or directory.resolve().name
        return Project(root, directory, name, values, [shown(path) for path in paths])

    # ---- files ----

    def _values(self, directory: Path, env_files: list[Path], given: Mapping[str, str] | None = None) -> dict[str, str]:
        """What names stand for: files of them, never this process's environment, which is nobody's production."""
        values = dict(given or {})
        implied = directory / ".env"
        for path in env_files or ([implied] if implied.is_file() else []):
            data = self._files.source(path)
            found = self._env_lines(data, path, values)
            values |= {name: value for name, value, _ in found if value is not None and name not in (given or {})}
        return values

    def _env_lines(self, data: bytes, path: Path, values: Mapping[str, str]) -> list[tuple[str, str | None, int]]:
        name = shown(path)
        try:
            return env_file(data.decode(), values, self._missing(Place(name)))
        except UnicodeDecodeError as error:
            raise wrong(Place(name), "expected UTF-8 text", code="source-encoding") from error
        except BadInterpolation as error:
            raise wrong(Place(name), str(error)) from error

    def env_file(self, path: Path, values: Mapping[str, str]) -> list[tuple[str, str | None, Place]]:
        """A service's env_file. Raises `Refused` when it may not or cannot be read, `SpecError` when it is none."""
        lines = self._env_lines(self._files.read(path), path, values)
        return [(name, value, Place(shown(path), line)) for name, value, line in lines]

    def _missing(self, place: Place) -> Callable[[str, str], None]:
        def told(name: str, why: str) -> None:
            if (name, place.file) not in self._told:
                self._told.add((name, place.file))
                hint = f"{why}; " if why else ""
                self._said.add("changed", f"variable {name}", "", f"{hint}no .env or --env-file gives it a value: empty", place)

        return told

    def _tree(self, path: Path, values: Mapping[str, str], named_at: Place | None) -> Node:
        self._read += 1
        if self._read > _MAX_FILES:
            raise wrong(named_at or Place(shown(path)), f"more than {_MAX_FILES} files are included", code="source-too-large")

        def change(text: str, place: Place) -> str:
            try:
                return interpolate(text, values, self._missing(place))
            except BadInterpolation as error:
                raise wrong(place, str(error), "write $$ for a plain dollar sign") from error

        documents = read_foreign(self._files.source(path, named_at), shown(path))
        if not documents:
            raise SpecError(
                f"{printable(shown(path))}: the file is empty", code="source-empty", unchanged="nothing was written"
            )
        if len(documents) > 1:
            raise wrong(Place(shown(path), documents[1].root.at.line), "a second document starts here; a Compose file has one")
        root = tree(documents[0], path.parent, change)
        if root.entries is None:
            raise wrong(root.place, "expected a mapping with services")
        return root

    # ---- one project's files ----

    def _merged(
        self,
        paths: list[Path],
        directory: Path,
        values: Mapping[str, str],
        chain: tuple[Path, ...],
        named_at: Place | None = None,
    ) -> Node:
        made: Node | None = None
        for path in paths:
            root = _based(normal(self._tree(path, values, named_at)), directory)
            root = self._extended(root, path, values)
            made = root if made is None else merged(made, root)
        assert made is not None
        includes = made.get("include")
        if includes is not None:
            made = self._included(made, includes, directory, values, (*chain, *(path.resolve() for path in paths)))
        return made

    def _included(
        self, root: Node, includes: Node, directory: Path, values: Mapping[str, str], chain: tuple[Path, ...]
    ) -> Node:
        for include in includes.items or []:
            paths = include.texts() if include.is_scalar else _path_list(include.get("path"))
            if not paths:
                raise wrong(include.place, "expected a path, or a mapping with one")
            if any("://" in path or path.startswith("oci:") for path in paths):
                raise wrong(include.place, "a file of another place is included", "fetch it, and name the copy")
            found = [directory / path for path in paths]
            if any(path.resolve() in chain for path in found):
                turn = " -> ".join(printable(shown(path)) for path in (*chain, found[0].resolve()))
                raise wrong(include.place, f"files include one another: {turn}", "remove one of the includes", "source-cycle")
            own = found[0].parent
            if include.text("project_directory"):
                own = directory / include.text("project_directory")
            env_files = [directory / path for path in _path_list(include.get("env_file"))]
            theirs = self._merged(found, own, self._values(own, env_files, values), chain, include.place)
            for section in _SECTIONS:
                for name, node in (theirs.get(section) or Node(None, theirs.place)).each():
                    mine = root.at(section, name)
                    if mine is not None and section == "services":
                        raise wrong(node.place, f"{section}.{name} is there already, at {mine.place}", "rename one of them")
                    if mine is None:
                        root = _put(root, section, name, node)
        return root

    # ---- extends ----

    def _extended(self, root: Node, path: Path, values: Mapping[str, str]) -> Node:
        services = root.get("services")
        if services is None or services.entries is None:
            return root
        made = {name: self._service(services, name, path, values, ()) for name in services.entries}
        return replace(root, entries={**(root.entries or {}), "services": replace(services, entries=made)})

    def _service(
        self, services: Node, name: str, path: Path, values: Mapping[str, str], chain: tuple[tuple[Path, str], ...]
    ) -> Node:
        service = (services.entries or {})[name]
        extends = service.get("extends")
        if extends is None or service.entries is None:
            return service
        link = (path.resolve(), name)
        if link in chain:
            turn = " -> ".join(printable(f"{shown(file)}:{one}") for file, one in (*chain, link))
            raise wrong(extends.place, f"services extend one another: {turn}", "remove one of the extends", "source-cycle")
        base_name = extends.written() if extends.is_scalar else extends.text("service")
        file = extends.text("file") if not extends.is_scalar else ""
        if file:
            other = service.base / file
            root = _based(normal(self._tree(other, values, extends.place)), other.parent)
            theirs = root.get("services") or Node(None, root.place)
        else:
            other, theirs = path, services
        if base_name not in (theirs.entries or {}):
            raise wrong(extends.place, f"{printable(shown(other))} has no service {base_name!r} to extend")
        base = self._service(theirs, base_name, other, values, (*chain, link))
        own = replace(service, entries={key: node for key, node in service.entries.items() if key != "extends"})
        return replace(merged(base, own), place=service.place, base=service.base)


def _path_list(node: Node | None) -> list[str]:
    """One path, a list of them, or a list of mappings with ``path``."""
    if node is None:
        return []
    if node.items is not None:
        return [item.written() if item.is_scalar else item.text("path") for item in node.items]
    return node.texts()


def _put(root: Node, section: str, name: str, node: Node) -> Node:
    there = root.get(section) or Node(None, node.place, entries={})
    section_node = replace(there, entries={**(there.entries or {}), name: node})
    return replace(root, entries={**(root.entries or {}), section: section_node})


def _based(node: Node, base: Path) -> Node:
    """The same values, whose paths are relative to ``base``."""
    entries = None if node.entries is None else {key: _based(child, base) for key, child in node.entries.items()}
    items = None if node.items is None else [_based(child, base) for child in node.items]
    return replace(node, base=base, entries=entries, items=items)


# ---- merging ----


def normal(root: Node) -> Node:
    """Services whose lists of pairs are mappings, so that files merge by name."""
    services = root.get("services")
    if services is None or services.entries is None:
        return root
    made = {name: _normal_service(node) for name, node in services.entries.items()}
    return replace(root, entries={**(root.entries or {}), "services": replace(services, entries=made)})


def _normal_service(service: Node) -> Node:
    if service.entries is None:
        return service
    entries = dict(service.entries)
    for key in _PAIRS:
        if key in entries:
            entries[key] = _mapping(entries[key], ":" if key == "extra_hosts" else "=")
    for key in ("depends_on", "networks"):
        if key in entries and entries[key].items is not None:
            named = {item.written(): replace(item, value=None) for item in entries[key].items or [] if item.is_scalar}
            entries[key] = replace(entries[key], items=None, entries=named)
    build = entries.get("build")
    if build is not None and build.entries is not None and "args" in build.entries:
        entries["build"] = replace(build, entries={**build.entries, "args": _mapping(build.entries["args"], "=")})
    return replace(service, entries=entries)


def _mapping(node: Node, separator: str) -> Node:
    if node.items is None:
        return node
    made: dict[str, Node] = {}
    for item in node.items:
        name, found, value = item.written().partition(separator)
        made[name] = scalar(value, item.place, item.base) if found else replace(item, value=None)
    return replace(node, items=None, entries=made)


def merged(base: Node, over: Node, key: str = "") -> Node:
    """``over`` laid on ``base``; ``key`` is what both are the value of."""
    if over.tag == "!reset":
        return replace(over, value=None, entries=None, items=None)
    if over.tag == "!override":
        return over
    if base.entries is not None and over.entries is not None:
        made = dict(base.entries)
        for name, node in over.entries.items():
            made[name] = merged(made[name], node, name) if name in made else node
            if node.tag == "!reset":
                del made[name]
        return replace(over, entries=made)
    if base.items is not None and over.items is not None and key not in _REPLACED:
        return replace(over, items=_joined(base.items, over.items, key))
    if over.is_scalar and over.value is None and not base.is_scalar:
        return base
    if {base.is_scalar, over.is_scalar} == {True, False} and key in ("env_file", "dns", "tmpfs"):
        listed = [*(base.items or [base]), *(over.items or [over])]
        return replace(over, value=None, items=listed, entries=None)
    return over


def _joined(base: list[Node], over: list[Node], key: str) -> list[Node]:
    """Both, without what ``over`` replaces: a volume of the same target, a port that is the same."""
    taken = {_identity(node, key) for node in over} - {""}
    return [*(node for node in base if _identity(node, key) not in taken), *over]


def _identity(node: Node, key: str) -> str:
    if key in ("volumes", "configs", "secrets"):
        if not node.is_scalar:
            return node.text("target") or node.text("source")
        return volume_parts(node.written())[1] if key == "volumes" else node.written()
    if key == "ports":
        if node.is_scalar:
            return node.written()
        return ":".join(node.text(part) for part in ("host_ip", "published", "target", "protocol"))
    return (
        node.written() if node.is_scalar and key in ("expose", "cap_add", "cap_drop", "tmpfs", "profiles", "env_file") else ""
    )


def volume_parts(text: str) -> tuple[str, str, str]:
    """(source, target, mode) of the short form; the source is empty for a volume without a name."""
    parts = re.split(r":(?![\\/]{2})", text)
    if len(parts[0]) == 1 and len(parts) > 1 and parts[1].startswith(("\\", "/")) and parts[0].isalpha():
        parts = [":".join(parts[:2]), *parts[2:]]  # C:\...
    if len(parts) == 1:
        return "", parts[0], ""
    return parts[0], parts[1], ":".join(parts[2:])


__all__ = ["NAMES", "OVERRIDES", "Loader", "Project", "Refused", "SpecMistakes", "merged", "volume_parts"]

"""Services of a merged Compose project as workloads; every key of it is either carried or named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from podctl.mirror.composefiles import Loader, Project, volume_parts
from podctl.mirror.composekeys import AS_IT_IS, DEPLOY, HEALTH_TIMES, LEFT_OUT, ONE_NETWORK
from podctl.mirror.files import Files, Refused
from podctl.mirror.said import Place, Said
from podctl.mirror.secrets import Ledger
from podctl.mirror.tree import Node, wrong
from podctl.mirror.workload import Given, Text, Wait, Workload, compose_bytes, seconds
from podctl.spec.problems import printable

VOLUME_BYTES = 256 * 2**20
_INIT_PLACE = "/docker-entrypoint-initdb.d"
_NUMBER = re.compile(r"[0-9]+")


def workloads(project: Project, loader: Loader, files: Files, said: Said, profiles: frozenset[str]) -> list[Workload]:
    """Raises `SpecError` for what leaves nothing to import."""
    root = project.root
    services = root.get("services")
    if services is None or services.entries is None or not services.entries:
        raise wrong(root.place, "there are no services", "name a Compose file with services:")
    jobs = _jobs(services)
    found = []
    for name, node in services.each():
        reader = _Service(name, node, project, loader, files, said)
        workload = reader.read()
        wanted = set((node.get("profiles") or Node(None, node.place, items=[])).texts())
        if wanted and not wanted & profiles and "*" not in profiles:
            workload.why_not = f"it is only in the profile {', '.join(sorted(wanted))}: --profile includes it"
        elif name in jobs:
            workload.why_not = f"{jobs[name]} waits for it to end: a job, and a pod's services stay"
        found.append(workload)
    _rest(root, said)
    return found


def learn_secrets(project: Project, files: Files, ledger: Ledger) -> None:
    """What the project's ``secrets`` hold, so that it is found wherever else it stands; it is never carried over."""
    for _, node in (project.root.get("secrets") or Node(None, project.root.place)).each():
        held = project.values.get(node.text("environment"), "")
        if node.text("file"):
            try:
                held = files.read(node.base / node.text("file")).decode("utf-8", "replace")
            except Refused:
                continue
        ledger.know(held.strip())


def _jobs(services: Node) -> dict[str, str]:
    """Services that another waits for to have ended -> that other."""
    found = {}
    for name, node in services.each():
        for other, condition in (node.get("depends_on") or Node(None, node.place)).each():
            if condition.text("condition") == "service_completed_successfully":
                found[other] = name
    return found


def _rest(root: Node, said: Said) -> None:
    """What else a file has at its top."""
    reasons = {
        "networks": ONE_NETWORK,
        "volumes": "each service that has it gets an empty directory of its own",
        "models": LEFT_OUT["models"],
    }
    for key, node in root.each():
        if key in ("version", "name"):
            said.add("imported", f"{key} of the file", "", "", node.place)
        elif key in reasons:
            for name, entry in node.each():
                said.add("left out", f"{key.removesuffix('s')} {name}", "", reasons[key], entry.place)
        elif key in ("configs", "secrets"):
            for name, entry in node.each():
                said.add("imported", f"{key.removesuffix('s')} {name}", "", "where services name it", entry.place)
        elif key.startswith("x-"):
            said.add("imported", f"{key} of the file", "", "where services take it over", node.place)
        elif key not in ("services", "include"):
            said.add("left out", f"{printable(key, 60)} of the file", "", "an unknown key", node.place)


class _Service:
    def __init__(self, name: str, node: Node, project: Project, loader: Loader, files: Files, said: Said) -> None:
        self._node, self._project, self._loader, self._files = node, project, loader, files
        self._said = said
        self._made = Workload(name, node.place)
        self._health: dict[str, Node] = {}

    def read(self) -> Workload:
        if self._node.entries is None:
            raise wrong(self._node.place, f"expected a mapping for service {self._made.name}")
        readers: dict[str, Callable[[Node], None]] = {
            "image": self._image,
            "build": self._build,
            "command": self._command,
            "entrypoint": self._entrypoint,
            "environment": lambda node: None,
            "env_file": lambda node: None,
            "ports": self._ports,
            "expose": self._expose,
            "volumes": self._volumes,
            "tmpfs": self._tmpfs,
            "configs": lambda node: self._grants(node, "configs"),
            "secrets": lambda node: self._grants(node, "secrets"),
            "healthcheck": self._healthcheck,
            "depends_on": self._depends_on,
            "links": self._links,
            "networks": self._networks,
            "container_name": self._alias,
            "hostname": self._alias,
            "user": self._user,
            "working_dir": self._working_dir,
            "deploy": self._deploy,
            "scale": self._scale,
            "mem_limit": self._mem_limit,
            "cpus": self._cpus,
            "pids_limit": self._pids_limit,
            "profiles": lambda node: self._add("imported", "profiles", "", node),
        }
        self._environment()
        for key, node in self._node.each():
            if key in readers:
                readers[key](node)
            elif key in AS_IT_IS:
                self._add("imported", key, AS_IT_IS[key], node)
            elif key in LEFT_OUT:
                self._add("left out", key, LEFT_OUT[key], node)
            elif key.startswith("x-"):
                self._add("left out", key, "an extension that podctl does not know", node)
            else:
                self._add("left out", printable(key, 60), "an unknown key", node)
        if not self._made.image and not self._made.why_not:
            name = f"{re.sub(r'[^a-z0-9_.-]', '', self._project.name.lower()) or 'project'}-{self._made.name}"
            self._made.image = name
        return self._made

    def _add(self, status: str, key: str, why: str, node: Node | Place, was: object = "", now: object = "") -> None:
        place = node.place if isinstance(node, Node) else node
        self._said.add(status, self._made.subject, key, why, place, was, now)  # type: ignore[arg-type]

    # ---- what runs ----

    def _image(self, node: Node) -> None:
        self._made.image, self._made.image_place = node.written(), node.place
        self._add("imported", "image", "", node, "", node.written())

    def _build(self, node: Node) -> None:
        if self._node.text("image"):
            self._add(
                "left out", "build", f"podctl builds nothing: the engine needs the image {self._node.text('image')}", node
            )
        else:
            self._add(
                "changed",
                "build",
                "podctl builds nothing: build it, and name the image (docker compose build names it so)",
                node,
            )

    def _argv(self, node: Node, key: str) -> list[Text]:
        if node.items is not None:
            parts = node.texts()
        else:
            try:
                parts = shlex.split(node.written())
            except ValueError as error:
                raise wrong(node.place, f"{key} is no command line: {error}") from error
        self._add("imported", key, "", node)
        return [Text(part, node.place, about=key) for part in parts]

    def _command(self, node: Node) -> None:
        self._made.arguments = self._argv(node, "command")

    def _entrypoint(self, node: Node) -> None:
        self._made.command = self._argv(node, "entrypoint")
        if not self._made.command and node.value != "" and node.items is not None:
            self._add("left out", "entrypoint", "an empty one takes the image's away, which podctl cannot", node)

    def _working_dir(self, node: Node) -> None:
        self._made.working_directory = (node.written(), node.place)
        self._add("imported", "working_dir", "", node)

    def _user(self, node: Node) -> None:
        text = node.written().partition(":")[0]
        if _NUMBER.fullmatch(text) and 0 < int(text) < 2**31:
            self._made.user = (int(text), node.place)
            self._add("imported", "user", "", node, "", text)
        else:
            why = "nothing in a pod runs as root" if text in ("0", "root") else "only numbers are known outside of the image"
            self._add("changed", "user", f"{why}; the pod's own user id is used", node)

    # ---- environment ----

    def _environment(self) -> None:
        for entry in _listed(self._node.get("env_file")):
            self._env_file(entry)
        for name, node in (self._node.get("environment") or Node(None, self._node.place)).each():
            if not node.is_scalar:
                self._add("left out", f"environment.{name}", "expected text", node)
            elif node.value is None and name in self._project.values:
                self._made.environment[name] = Text(self._project.values[name], node.place)
            elif node.value is None:
                self._add("left out", f"environment.{name}", "no .env or --env-file gives it a value", node)
            else:
                self._made.environment[name] = Text(node.written(), node.place)

    def _env_file(self, entry: Node) -> None:
        name = entry.written() if entry.is_scalar else entry.text("path")
        try:
            lines = self._loader.env_file(entry.base / name, self._project.values)
        except Refused as error:
            self._add("left out", f"env_file {printable(name, 100)}", str(error), entry)
            return
        self._add("imported", f"env_file {printable(name, 100)}", "", entry)
        for variable, value, place in lines:
            if value is not None:
                self._made.environment[variable] = Text(value, place)
            else:
                self._add("left out", f"environment.{variable}", "no .env or --env-file gives it a value", place)

    # ---- network ----

    def _ports(self, node: Node) -> None:
        for entry in _listed(node):
            text = entry.written() if entry.is_scalar else entry.text("target")
            protocol = text.partition("/")[2] if entry.is_scalar else entry.text("protocol")
            own = _port_range(text.partition("/")[0].rpartition(":")[2])
            key = f"ports {printable(text, 60)}"
            if protocol and protocol.lower() != "tcp":
                self._add("left out", key, f"{printable(protocol, 20)} is not passed on in a pod", entry)
            elif not own:
                self._add("left out", key, "it is no port", entry)
            else:
                self._take_ports(own, entry)
                published = (":" in text) if entry.is_scalar else entry.get("published") is not None
                now = ", ".join(map(str, own))
                self._add(
                    "changed" if published else "imported",
                    key,
                    "reached by its own port, and from the pod alone" if published else "",
                    entry,
                    "",
                    now,
                )

    def _expose(self, node: Node) -> None:
        for entry in _listed(node):
            own = _port_range(entry.written().partition("/")[0])
            if own and not entry.written().endswith("/udp"):
                self._take_ports(own, entry)
                self._add("imported", f"expose {entry.written()}", "", entry)
            else:
                self._add("left out", f"expose {printable(entry.written(), 60)}", "it is no TCP port", entry)

    def _take_ports(self, ports: list[int], node: Node) -> None:
        for port in ports:
            self._made.ports.setdefault(port, node.place)

    def _networks(self, node: Node) -> None:
        self._add("left out", "networks", ONE_NETWORK, node)
        for _, network in node.each():
            for alias in (network.get("aliases") or Node(None, node.place, items=[])).texts():
                self._made.aliases.setdefault(alias, network.place)

    def _alias(self, node: Node) -> None:
        self._made.aliases.setdefault(node.written(), node.place)
        self._add(
            "imported",
            "container_name" if node is self._node.get("container_name") else "hostname",
            "it leads to the service",
            node,
        )

    def _links(self, node: Node) -> None:
        for entry in _listed(node):
            service, _, alias = entry.written().partition(":")
            self._made.links.setdefault(service, entry.place)
            why = f"{alias} is not known in a pod: name it {service}" if alias and alias != service else ""
            self._add("changed" if why else "imported", f"links {printable(entry.written(), 60)}", why, entry)

    # ---- files ----

    def _volumes(self, node: Node) -> None:
        for entry in _listed(node):
            if entry.is_scalar:
                source, target, _ = volume_parts(entry.written())
                kind = "bind" if source.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", source) else "volume"
            else:
                source, target, kind = entry.text("source"), entry.text("target"), entry.text("type") or "volume"
            key = f"volumes {printable(target, 100)}"
            if kind in ("volume", "tmpfs"):
                self._made.writable[target] = (VOLUME_BYTES, entry.place)
                self._add("changed", key, "empty, in memory, gone with the attempt", entry, printable(source, 60), "256Mi")
            elif kind == "bind":
                self._bind(source, target, key, entry)
            else:
                self._add("left out", key, f"a volume of type {printable(kind, 20)}", entry)

    def _bind(self, source: str, target: str, key: str, entry: Node) -> None:
        if source.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", source):
            self._add("left out", key, f"{printable(source, 100)} is the machine's own", entry)
            return
        if target.startswith(_INIT_PLACE):
            self._made.seeds.append(entry.place)
            self._add("left out", key, f"{printable(source, 100)} fills a database: see the line of the database", entry)
            return
        if self._is_own_code(entry.base / source):
            self._add("left out", key, f"{printable(source, 100)} is the code that its image is built from", entry)
            return
        self._take_file(entry.base / source, target, key, entry, printable(source, 100))

    def _is_own_code(self, path: Path) -> bool:
        build = self._node.get("build")
        if build is None:
            return False
        context = build.written() if build.is_scalar else build.text("context") or "."
        root = (build.base / context).resolve()
        return path.resolve() == root or (
            path.is_dir() and path.resolve().is_relative_to(root) and root != build.base.resolve()
        )

    def _take_file(self, path: Path, target: str, key: str, entry: Node, name: str, secret: bool = False) -> None:
        try:
            given = self._files.directory(path) if self._files.inside(path).is_dir() else {"": self._files.read(path)}
        except Refused as error:
            self._add("left out", key, f"{name}: {error}", entry)
            return
        self._made.files.append(Given(target.rstrip("/"), given, entry.place, secret, key))

    def _tmpfs(self, node: Node) -> None:
        for entry in _listed(node):
            target, _, options = entry.written().partition(":")
            size = next((compose_bytes(part[5:]) for part in options.split(",") if part.startswith("size=")), None)
            self._made.writable[target] = (min(size or 64 * 2**20, VOLUME_BYTES), entry.place)
            self._add("imported", f"tmpfs {printable(target, 100)}", "", entry)

    def _grants(self, node: Node, section: str) -> None:
        """``configs`` and ``secrets`` that the project defines."""
        secret = section == "secrets"
        for entry in _listed(node):
            name = entry.written() if entry.is_scalar else entry.text("source")
            target = (entry.text("target") if not entry.is_scalar else "") or name
            if not target.startswith("/"):
                target = f"/run/secrets/{target}" if secret else f"/{target}"
            key = f"{section} {printable(name, 60)}"
            defined = self._project.root.at(section, name)
            if defined is None:
                self._add("left out", key, f"the project defines no such entry of {section}", entry)
            elif secret:
                self._made.files.append(Given(target, {"": b""}, entry.place, True, key))
            elif defined.text("file"):
                self._take_file(defined.base / defined.text("file"), target, key, entry, printable(defined.text("file"), 100))
            elif defined.get("content") is not None:
                self._made.files.append(Given(target, {"": defined.text("content").encode()}, entry.place, False, key))
            else:
                self._add("left out", key, "its content is not in the project", entry)

    # ---- order and readiness ----

    def _depends_on(self, node: Node) -> None:
        for name, condition in node.each():
            wanted = condition.text("condition")
            if wanted == "service_completed_successfully":
                self._add("left out", f"depends_on {name}", "it is a job", condition)
                continue
            self._made.depends_on[name] = condition.place
            others = [key for key in (condition.entries or {}) if key != "condition"]
            why = "podctl waits until it is ready" if wanted in ("", "service_started") else ""
            self._add("imported", f"depends_on {name}", why, condition)
            for key in others:
                self._add("left out", f"depends_on {name}.{printable(key, 40)}", "nothing is started again in a pod", condition)

    def _healthcheck(self, node: Node) -> None:
        test = node.get("test")
        for key, entry in node.each():
            if key == "disable":
                self._add("imported", "healthcheck.disable", "", entry)
            elif key not in HEALTH_TIMES and key != "test":
                self._add("left out", f"healthcheck.{printable(key, 40)}", "an unknown key", entry)
        if test is None or node.text("disable") == "true":
            return
        words = test.texts()
        if not test.is_scalar and words[:1] == ["NONE"]:
            return
        plain = not test.is_scalar and words[:1] == ["CMD"]
        command = words[1:] if plain else ["/bin/sh", "-c", words[-1] if words else ""]
        every = seconds(node.text("interval")) or 30.0
        times = int(node.text("retries")) if _NUMBER.fullmatch(node.text("retries")) else 3
        timeout = min(max((seconds(node.text("start_period")) or 0.0) + every * times, 5.0), 300.0)
        self._made.wait = Wait(test.place, command=tuple(command), timeout=timeout)
        self._add("imported", "healthcheck", f"asked until it succeeds, for {timeout:g} s at most", test)

    # ---- scale ----

    def _scale(self, node: Node) -> None:
        if _NUMBER.fullmatch(node.written()):
            self._made.replicas = (int(node.written()), node.place)

    def _mem_limit(self, node: Node) -> None:
        self._amount("mem_limit", node)

    def _amount(self, key: str, node: Node) -> None:
        size = compose_bytes(node.written())
        if size:
            self._made.memory = (size, node.place)
        else:
            self._add("left out", key, "it is no size", node)

    def _cpus(self, node: Node, key: str = "cpus") -> None:
        try:
            self._made.cpu = (float(node.written()), node.place)
        except ValueError:
            self._add("left out", key, "it is no number", node)

    def _pids_limit(self, node: Node, key: str = "pids_limit") -> None:
        if _NUMBER.fullmatch(node.written()) and int(node.written()) > 0:
            self._made.processes = (int(node.written()), node.place)
        else:
            self._add("left out", key, "podctl bounds processes all the same", node)

    def _deploy(self, node: Node) -> None:
        for key, entry in node.each():
            if key == "replicas":
                self._scale(entry)
            elif key == "resources":
                for kind, amounts in entry.each():
                    for name, amount in amounts.each():
                        self._deployed(kind, name, amount)
            else:
                why = "it says how a cluster runs several" if key in DEPLOY else "an unknown key"
                self._add("left out", f"deploy.{printable(key, 40)}", why, entry)

    def _deployed(self, kind: str, name: str, amount: Node) -> None:
        key = f"deploy.resources.{printable(kind, 30)}.{printable(name, 30)}"
        if kind == "limits" and name == "memory":
            self._amount(key, amount)
        elif kind == "limits" and name == "cpus":
            self._cpus(amount, key)
        elif kind == "limits" and name == "pids":
            self._pids_limit(amount, key)
        else:
            self._add("left out", key, "limits are kept, nothing is reserved", amount)


def _listed(node: Node | None) -> list[Node]:
    if node is None:
        return []
    if node.items is not None:
        return node.items
    return [node] if node.value is not None or node.entries is not None else []


def _port_range(text: str) -> list[int]:
    """``80`` or ``8000-8002``; empty for something else, and for more ports than somebody means."""
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text.strip())
    if match is None:
        return []
    first, last = int(match[1]), int(match[2] or match[1])
    return list(range(first, last + 1)) if 1 <= first <= last <= 65535 and last - first < 32 else []

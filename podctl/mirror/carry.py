"""Workloads to a topology. PURE: what they say in, plain values and the lines of the report out."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from podctl.mirror import engines
from podctl.mirror.places import Places, Target, fit_name
from podctl.mirror.rewrite import Rewriter, referenced
from podctl.mirror.said import Line, Place, Said, Status
from podctl.mirror.secrets import Ledger, is_secret, strength
from podctl.mirror.tree import wrong
from podctl.mirror.workload import Given, Text, Workload, size_text
from podctl.spec.problems import printable

MEMORY, MOST_MEMORY = 512 * 2**20, 2 * 2**30
MOST_CPU, PROCESSES, MOST_PROCESSES = 2.0, 256, 1024
_TARGET = re.compile(r"(/[^/:,\s]+)+")
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_NOT_GIVEN = ("podctl", "proc", "sys", "dev")
#: Ports whose protocol is not HTTP/1.1, by custom.
_TCP_PORTS = {
    22,
    25,
    389,
    465,
    587,
    1433,
    1521,
    1883,
    2181,
    3306,
    4222,
    5432,
    5672,
    6379,
    9042,
    9092,
    11211,
    27017,
    50051,
    61616,
}
_KEYSTORES = re.compile(r"(?i)\.(jks|p12|pfx|keystore|kdbx|gpg)$")
_IN_ITS_PLACE = "podctl's own PostgreSQL server takes its place"


@dataclass(frozen=True)
class Carried:
    """``topology`` is what its file says, but for its head; ``files``: path beside it -> content."""

    topology: dict[str, Any]
    files: dict[str, bytes]


def carry(workloads: list[Workload], said: Said, ledger: Ledger, directory: str, infer_order: bool = False) -> Carried:
    """``directory`` is where files will be, relative to the topology. Lines are added to ``said``, one for each workload as a whole.

    Raises `SpecError` for services that wait for one another.
    """
    return _Carrier(workloads, said, ledger, directory, infer_order).carried()


class _Carrier:
    def __init__(self, workloads: list[Workload], said: Said, ledger: Ledger, directory: str, infer_order: bool) -> None:
        self._workloads = workloads
        self._said, self._ledger, self._directory = said, ledger, directory
        self._infer_order = infer_order
        self._places = Places()
        self._rewriter = Rewriter(self._places, ledger)
        self._of: dict[str, Target] = {}  # workload's name -> its place in the topology
        self._uses: dict[str, list[str]] = {}
        self._files: dict[str, bytes] = {}
        self._texts = list(_texts(workloads))

    def carried(self) -> Carried:
        for workload in self._workloads:
            self._settle(workload)
        self._ledger.spared |= {
            text for workload in self._workloads for text in (workload.name, workload.image, *workload.aliases)
        }
        self._ledger.spared |= {text for target in self._of.values() for text in (target.name, target.user, target.database)}
        for workload in self._workloads:
            for host in [workload.name, *workload.aliases]:
                self._places.lead(host, self._of[workload.name])
        self._guess_ports()
        present = [workload for workload in self._workloads if self._of[workload.name].kind == "service"]
        for workload in present:
            self._rewriter.learn(workload)
        services = {self._of[workload.name].name: self._service(workload) for workload in present}
        self._order(present, services)
        databases: dict[str, Any] = {}
        for target in self._places.targets.values():
            if target.kind == "database":
                databases[target.name] = self._database(target)
            elif target.kind == "stub":
                services[target.name] = self._stub(target)
            elif target.kind == "left-out":
                services[target.name] = self._left_out(target)
        for workload in present:
            self._whole(workload)
        made: dict[str, Any] = {}
        if databases:
            made["databases"] = databases
        made["services"] = services
        self._said.lines = [self._swept_line(line) for line in self._said.lines]
        return Carried(self._swept(made), {name: self._swept_file(data) for name, data in self._files.items()})

    # ---- what each is ----

    def _settle(self, workload: Workload) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]\S{0,511}", workload.image) and not workload.why_not:
            workload.why_not = f"{printable(workload.image, 60) or 'nothing'!r} is no name of an image"
        for name, value in workload.environment.items():
            if value.text and (value.secret or is_secret(name, value.text)):
                self._ledger.know(value.text)
        engine = engines.by_image(workload.image)
        if engine is None:
            targets = [*workload.writable, *(given.target for given in workload.files)]
            engine = engines.by_settings(workload.environment, workload.ports, targets, workload.name)
        if engine is not None and not _serves(workload):
            engine = None  # a client of the same image: a dump, a migration
        kind = "left-out" if workload.why_not else "database" if engine is not None and engine.postgres else "service"
        target = Target(kind, "", workload.place, workload, engine)  # type: ignore[arg-type]
        if kind == "database":
            said = {key: value.text or "" for key, value in workload.environment.items()}
            target.user = (
                said.get("POSTGRES_USER") or said.get("POSTGRESQL_USERNAME") or said.get("POSTGRESQL_USER") or "postgres"
            )
            target.password = said.get("POSTGRES_PASSWORD") or said.get("POSTGRESQL_PASSWORD") or ""
            target.database = said.get("POSTGRES_DB") or said.get("POSTGRESQL_DATABASE") or target.user
        self._of[workload.name] = self._places.add(workload.name, target)

    def _guess_ports(self) -> None:
        """Ports that are not said: the engine's own, or those by which others call it."""
        for workload in self._workloads:
            target = self._of[workload.name]
            if workload.ports or target.kind != "service":
                continue
            called = sorted({port for host in (workload.name, *workload.aliases) for port in referenced(self._texts, host)})
            if target.engine is not None:
                workload.ports = {target.engine.port: workload.place}
                self._add(
                    "changed",
                    workload,
                    "ports",
                    f"not said: {target.engine.title}'s own",
                    workload.place,
                    now=target.engine.port,
                )
            elif called:
                workload.ports = dict.fromkeys(called, workload.place)
                self._add(
                    "changed",
                    workload,
                    "ports",
                    "not said: those by which others call it",
                    workload.place,
                    now=", ".join(map(str, called)),
                )
            else:
                self._add(
                    "changed",
                    workload,
                    "ports",
                    "none are said: nobody waits for it, and agents have no door to it",
                    workload.place,
                )

    # ---- services ----

    def _service(self, workload: Workload) -> dict[str, Any]:
        made: dict[str, Any] = {"image": workload.image}
        for key, field in (("command", workload.command), ("arguments", workload.arguments)):
            if field:
                made[key] = self._argv(workload, field)
        if workload.working_directory is not None and self._fits(workload, "working_directory", *workload.working_directory):
            made["working_directory"] = workload.working_directory[0].rstrip("/")
        if workload.user is not None:
            made["user"] = workload.user[0]
        aliases = self._aliases(workload)
        if aliases:
            made["aliases"] = aliases
        environment = self._environment(workload)
        if environment:
            made["environment"] = environment
        writable = {
            target.rstrip("/"): size_text(size)
            for target, (size, place) in workload.writable.items()
            if self._fits(workload, f"volume {target}", target.rstrip("/"), place)
        }
        files = self._given(workload, writable)
        if files:
            made["files"] = files
        if writable:
            made["writable"] = writable
        made["ports"] = list(workload.ports)
        engine = self._of[workload.name].engine
        raw = engine is not None and not engine.http
        if workload.ports and (raw or workload.tcp or next(iter(workload.ports)) in _TCP_PORTS):
            made["protocol"] = "tcp"
        if workload.wait is not None:
            made["ready"] = self._ready(workload)
        made["resources"] = self._resources(workload)
        if workload.replicas is not None and workload.replicas[0] != 1:
            replicas, place = workload.replicas
            self._add("changed", workload, "replicas", "a pod has one of each", place, replicas, 1)
        return made

    def _argv(self, workload: Workload, parts: list[Text]) -> list[str]:
        made = []
        flag = ""
        for part in parts:
            found = self._rewriter.rewrite(workload, flag, part)
            self._used(workload, found.uses)
            made.append(found.text)
            if found.why:
                self._add("changed", workload, part.about, "; ".join(found.why), part.place)
            text = part.text or ""
            flag = text.lstrip("-") if text.startswith("-") and "=" not in text else ""
        return self._ledger.clean_argv(made)

    def _environment(self, workload: Workload) -> dict[str, str]:
        made = {}
        for name, value in workload.environment.items():
            found = self._rewriter.rewrite(workload, name, value)
            if not re.fullmatch(r"[^=\x00\s]+", name):
                self._add(
                    "left out", workload, f"environment.{printable(name, 60)}", "it is no name of a variable", value.place
                )
                continue
            made[name] = found.text
            self._used(workload, found.uses)
            self._add(
                "changed" if found.why else "imported", workload, f"environment.{name}", "; ".join(found.why), value.place
            )
        # What a cluster would have filled in from its own secrets.
        unread = {name: made[name] for name, value in workload.environment.items() if value.text is None and name in made}
        return {
            name: re.sub(r"\$\(([\w.-]+)\)", lambda match: unread.get(match[1], match[0]), text) for name, text in made.items()
        }

    def _used(self, workload: Workload, targets: Iterable[Target]) -> None:
        self._uses.setdefault(workload.name, []).extend(target.name for target in targets)

    def _aliases(self, workload: Workload) -> list[str]:
        own = self._of[workload.name].name
        names = dict(workload.aliases)
        if own != workload.name:
            names = {workload.name: workload.place, **names}
            self._add(
                "changed",
                workload,
                "name",
                "names have small letters, digits and hyphens here; the old one leads to it too",
                workload.place,
                "",
                own,
            )
        kept = []
        for alias, place in names.items():
            if alias == own or ("." in alias and not self._is_called(alias)):
                continue
            elsewhere = self._places.find(alias) is not self._of[workload.name] or alias in self._places.targets
            if elsewhere or not _ALIAS.fullmatch(alias) or alias in ("gateway", "localhost"):
                self._add("left out", workload, f"name {printable(alias, 60)}", "it cannot lead there in a pod", place)
            else:
                kept.append(alias)
        return kept

    def _is_called(self, host: str) -> bool:
        pattern = re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w.-])")
        return any(pattern.search(text) for text in self._texts)

    def _fits(self, workload: Workload, key: str, target: str, place: Place) -> bool:
        parts = target.split("/")
        if _TARGET.fullmatch(target) and not {".", ".."} & set(parts) and (parts[1] not in _NOT_GIVEN or target == "/dev/shm"):
            return True
        self._add("left out", workload, printable(key, 100), "no place that a service may have in a pod", place)
        return False

    def _given(self, workload: Workload, writable: Mapping[str, str]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for given in workload.files:
            single = list(given.files) == [""]
            if not self._fits(workload, given.key, given.target, given.place):
                continue
            if (
                given.target in made
                or (single and given.target.rpartition("/")[0] in ("", *writable))
                or given.target in writable
            ):
                self._add(
                    "left out",
                    workload,
                    given.key,
                    "something else has its place, or its directory is to be written to",
                    given.place,
                )
                continue
            if given.secret:
                made |= self._secret_files(workload, given)
            else:
                path = self._kept_files(workload, given)
                if path:
                    made[given.target] = path
        return made

    def _secret_files(self, workload: Workload, given: Given) -> dict[str, Any]:
        made = {}
        for name in given.files:
            target = f"{given.target}/{name}" if name else given.target
            about = Text(None, given.place, True, f"the secret {given.key}{'/' + name if name else ''}")
            found = self._rewriter.rewrite(workload, target.rpartition("/")[2], about)
            made[target] = {"text": found.text}
            self._add("changed", workload, given.key, "; ".join(found.why), given.place, "", printable(target, 100))
        return made

    def _kept_files(self, workload: Workload, given: Given) -> str:
        """Its path beside the topology; empty when nothing of it is kept."""
        own = self._of[workload.name].name
        base = f"{own}/{re.sub(r'[^A-Za-z0-9._-]+', '-', given.target.strip('/')) or 'file'}"
        kept = {}
        why = set()
        for name, data in given.files.items():
            if _KEYSTORES.search(name or given.target) or b"PRIVATE KEY-----" in data:
                self._add("left out", workload, f"{given.key}{'/' + name if name else ''}", "it holds keys", given.place)
                continue
            kept[name] = self._cleaned(data, name or given.target)
            if kept[name] != data:
                why.add("secrets were replaced")
        if not kept:
            return ""
        for name, data in kept.items():
            self._files[f"{base}/{name}" if name else base] = data
        self._add(
            "changed" if why else "imported",
            workload,
            given.key,
            "; ".join(sorted(why)),
            given.place,
            "",
            printable(given.target, 100),
        )
        return f"{self._directory}/{base}"

    def _cleaned(self, data: bytes, name: str) -> bytes:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return data
        last = name.rpartition("/")[2]
        if strength(last) == 2 and "\n" not in text.strip() and text.strip():
            return self._ledger.word(text.strip()).encode()
        return self._rewriter.clean(text).encode()

    def _ready(self, workload: Workload) -> dict[str, Any]:
        wait = workload.wait
        assert wait is not None
        made: dict[str, Any] = {}
        if wait.command:
            made["command"] = self._ledger.clean_argv(wait.command)
        if wait.path:
            made["path"] = wait.path
        if wait.port:
            made["port"] = wait.port
        return {**made, "timeout": f"{wait.timeout:g}s"}

    def _resources(self, workload: Workload) -> dict[str, Any]:
        made: dict[str, Any] = {"memory": MEMORY, "cpu": 1.0, "processes": PROCESSES}
        unsaid = []
        for key, given, most in (
            ("memory", workload.memory, MOST_MEMORY),
            ("cpu", workload.cpu, MOST_CPU),
            ("processes", workload.processes, MOST_PROCESSES),
        ):
            if given is None or given[0] <= 0:
                unsaid.append(key)
                continue
            made[key] = min(given[0], most)
            now = size_text(int(made[key])) if key == "memory" else made[key]
            was = size_text(int(given[0])) if key == "memory" else given[0]
            status: Status = "changed" if given[0] > most else "imported"
            self._add(
                status,
                workload,
                f"resources.{key}",
                "bounded" if given[0] > most else "",
                given[1],
                was if given[0] > most else "",
                now,
            )
        if unsaid:
            now = f"{size_text(int(made['memory']))}, {made['cpu']:g} cpu, {made['processes']} processes"
            self._add("changed", workload, "resources", f"no limit of {', '.join(unsaid)} is said", workload.place, "", now)
        made["memory"] = size_text(int(made["memory"]))
        return made

    # ---- order ----

    def _order(self, present: list[Workload], services: dict[str, Any]) -> None:
        there = {workload.name for workload in present}
        needs: dict[str, set[str]] = {}
        for workload in present:
            needs[workload.name] = set()
            for name, place in workload.depends_on.items():
                target = self._places.find(name)
                if target is None or target.workload is None:
                    self._add("left out", workload, f"depends_on {printable(name, 60)}", "there is no such service", place)
                elif target.kind == "left-out":
                    self._add("left out", workload, f"depends_on {name}", f"{name} is left out", place)
                elif target.kind == "service":
                    needs[workload.name].add(target.workload.name)
        self._refuse_cycle(present, needs)
        for workload in present:
            wished = {**workload.links, **(self._called(workload) if self._infer_order else {})}
            for name, place in wished.items():
                target = self._places.find(name)
                other = target.workload.name if target is not None and target.workload is not None else ""
                if other in there and other != workload.name and other not in needs[workload.name]:
                    tried = {**needs, workload.name: needs[workload.name] | {other}}
                    if _acyclic(tried):
                        needs = tried
                        if name not in workload.links:
                            self._add("changed", workload, f"depends_on {other}", "not said: it calls it", place)
        for workload in present:
            waits = sorted(self._of[name].name for name in needs[workload.name])
            waits += sorted(
                {name for name in self._uses.get(workload.name, []) if self._places.targets[name].kind == "database"}
            )
            waits += [one.name for name in workload.depends_on if (one := self._places.find(name)) and one.kind == "database"]
            if waits:
                services[self._of[workload.name].name]["depends_on"] = list(dict.fromkeys(waits))

    def _called(self, workload: Workload) -> dict[str, Place]:
        return {
            target.workload.name: workload.place
            for name in self._uses.get(workload.name, [])
            if (target := self._places.targets[name]).workload is not None
        }

    def _refuse_cycle(self, present: list[Workload], needs: Mapping[str, set[str]]) -> None:
        try:
            graphlib.TopologicalSorter(needs).prepare()
        except graphlib.CycleError as error:
            turn: list[str] = list(reversed(error.args[1]))
            first = next(workload for workload in present if workload.name == turn[0])
            place = next(
                (at for name, at in first.depends_on.items() if self._places.find(name) is self._of[turn[1]]), first.place
            )
            raise wrong(
                place, f"the services wait for each other: {' -> '.join(turn)}", "remove one depends_on", "source-cycle"
            ) from error

    # ---- what is no service ----

    def _database(self, target: Target) -> dict[str, Any]:
        name = re.sub(r"[^a-z0-9_]", "_", (target.database or target.name).lower())[:63]
        name = name if re.match(r"[a-z_]", name) else f"db_{name}"[:63]
        if name in ("postgres", "template0", "template1"):
            name = fit_name(target.name, {}).replace("-", "_") if target.name != name else "app"
            name = "app" if name == "postgres" else name
        made: dict[str, Any] = {"name": name}
        workload = target.workload
        if workload is not None:
            if len(workload.ports) == 1 and 5432 not in workload.ports:
                made["port"] = next(iter(workload.ports))
            self._take_over(target, workload, name)
        else:
            why = f"{target.title}: podctl's own PostgreSQL stands for it, empty until it is given a seed (podctl data capture)"
            self._said.add("changed", f"database {target.name}", "", why, target.place)
        return made

    def _take_over(self, target: Target, workload: Workload, name: str) -> None:
        """The lines of a workload whose server podctl's own takes the place of."""
        lacks = (
            f"; the extension {target.engine.extension} is not there"
            if target.engine is not None and target.engine.extension
            else ""
        )
        why = f"{_IN_ITS_PLACE}, as database {target.name}, empty until it is given a seed (podctl data capture){lacks}"
        self._said.lines = [
            line if line.subject != workload.subject or not line.key else _taken_over(line) for line in self._said.lines
        ]
        self._add("changed", workload, "", why, workload.place, "", f"database {target.name}")
        if "POSTGRES_DB" not in workload.environment and name != target.database:
            self._add("changed", workload, "database", "its name in a pod", workload.place, target.database, name)
        for key, value in workload.environment.items():
            if key in ("POSTGRES_DB", "POSTGRESQL_DATABASE"):
                changed = name != value.text
                self._add(
                    "changed" if changed else "imported",
                    workload,
                    f"environment.{key}",
                    "a name that a database may have here" if changed else "",
                    value.place,
                    "",
                    name,
                )
            elif re.search(r"USER|PASSWORD", key):
                self._add("changed", workload, f"environment.{key}", "each service gets a role of its own", value.place)
            else:
                self._add("left out", workload, f"environment.{key}", _IN_ITS_PLACE, value.place)
        told = {"resources.memory": workload.memory, "resources.cpu": workload.cpu, "resources.processes": workload.processes}
        for key, given in {**told, "replicas": workload.replicas}.items():
            if given is not None:
                self._add("left out", workload, key, _IN_ITS_PLACE, given[1])
        for one in workload.files:
            self._add("left out", workload, one.key, _IN_ITS_PLACE, one.place)
        for place in workload.seeds:
            self._add(
                "left out",
                workload,
                "seed",
                "SQL that fills it: read it, and name it in seed.sql of the database; it is loaded as it stands, unmasked",
                place,
            )

    def _stub(self, target: Target) -> dict[str, Any]:
        paths = list(target.paths) or ["/"]
        body = {"podctl": f"no answer of {target.title} is recorded yet; put one into the topology"}
        why = f"{target.title} is not in a pod: put recorded answers in its routes; until then it answers 501"
        self._said.add("stubbed", f"service {target.name}", "", why, target.place, "", ", ".join(paths[:5]))
        routes = [
            {"method": method, "path": path, "status": 501, "body": body}
            for path in sorted(paths)
            for method in ("GET", "POST")
        ]
        return {"mode": "stubbed", "reason": f"{target.title}; imported without answers", "routes": routes}

    def _left_out(self, target: Target) -> dict[str, Any]:
        workload = target.workload
        if workload is not None:
            self._said.lines = [
                line for line in self._said.lines if line.subject != workload.subject or line.status == "left out"
            ]
            self._said.add("left out", workload.subject, "", workload.why_not, workload.place)
            return {"mode": "left-out", "reason": self._ledger.sweep(workload.why_not)}
        why = f"{target.title} does not speak HTTP, so that recorded answers cannot stand for it; its name leads nowhere"
        self._said.add("left out", f"service {target.name}", "", why, target.place)
        return {"mode": "left-out", "reason": why}

    def _whole(self, workload: Workload) -> None:
        """The line of a service as a whole."""
        changed = any(line.status != "imported" for line in self._said.of(workload.subject))
        engine = self._of[workload.name].engine
        why = f"{engine.title} by its image: an ordinary service, neither seeded nor graded" if engine is not None else ""
        if not why and changed:
            why = "with differences, each in a line of its own"
        self._said.add("changed" if changed else "imported", workload.subject, "", why, workload.place)

    # ---- secrets that were found anywhere ----

    def _swept(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._sweep(value)
        if isinstance(value, list):
            return [self._swept(item) for item in value]
        if isinstance(value, dict):
            return {key: self._swept(item) for key, item in value.items()}
        return value

    def _sweep(self, text: str) -> str:
        return self._ledger.sweep(text)

    def _swept_file(self, data: bytes) -> bytes:
        try:
            return self._sweep(data.decode()).encode()
        except UnicodeDecodeError:
            return data

    def _swept_line(self, line: Line) -> Line:
        return replace(
            line, why=self._sweep(line.why), was=self._sweep(line.was), now=self._sweep(line.now), key=self._sweep(line.key)
        )

    def _add(
        self, status: Status, workload: Workload, key: str, why: str, place: Place, was: object = "", now: object = ""
    ) -> None:
        self._said.add(status, workload.subject, key, why, place, was, now)


#: What runs in place of a server in its own image.
_CLIENTS = re.compile(
    r"(.*/)?(psql|pg_\w+|createdb|sh|bash|sleep|mysql(dump|admin)?|mariadb(-dump|-admin)?|mongo(sh|dump|restore|import)?|redis-cli|python3?|node)"
)

_SERVERS = re.compile(
    r"docker-entrypoint\.sh|exec postgres\b|\b(redis|valkey|rabbitmq|clickhouse|nats|cassandra)-server\b|\b(mysqld|mariadbd|mongod|memcached|etcd)\b"
    r"|\bminio server\b|\bstart-(kafka|server)|kafka-server-start"
)


def _serves(workload: Workload) -> bool:
    """Whether an engine's image runs as the server, and not as a client of one."""
    words = [part.text or "" for part in (*workload.command, *workload.arguments)]
    return not words or _CLIENTS.fullmatch(words[0]) is None or _SERVERS.search(" ".join(words)) is not None


def _texts(workloads: Iterable[Workload]) -> Iterator[str]:
    """Everything in which one may name another."""
    for workload in workloads:
        yield from (
            value.text for value in (*workload.environment.values(), *workload.command, *workload.arguments) if value.text
        )
        for given in workload.files:
            yield from (data.decode("utf-8", "replace") for data in given.files.values())


def _taken_over(line: Line) -> Line:
    return replace(line, status="left out", why=_IN_ITS_PLACE, was="", now="")


def _acyclic(needs: Mapping[str, set[str]]) -> bool:
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError:
        return False
    return True

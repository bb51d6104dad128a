"""The escape suite's pods: two that know nothing of one another, a gateway, and how a program gets into them."""

from __future__ import annotations

import asyncio
import json
import resource
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from podctl.backends.base import Command, Exit
from podctl.backends.local import sandbox
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.escape_traps import Traps, host_addresses, host_directories, nameservers
from podctl.backends.local.files import PodFiles
from podctl.backends.local.network import GATEWAY, GATEWAY_PORT, addresses
from podctl.backends.local.pod import TEMPLATE_DATABASE
from podctl.backends.local.state import State
from podctl.data.connect import DatabaseUnreachable, connect
from podctl.gateway.client import Gateway
from podctl.gateway.contract import AttemptPass, GatewayConfig
from podctl.pods.plan import PodSpec, steps
from podctl.spec.bundle import Bundle
from podctl.spec.models import (
    Agent,
    Boundary,
    Database,
    Price,
    Scenario,
    Seed,
    Service,
    StateCheck,
    StubRoute,
    TableRule,
    Tickets,
    Topology,
    Upstream,
)

SEED = """\
CREATE TABLE tickets (id int PRIMARY KEY, status text, note text, owner text, secret text);
INSERT INTO tickets VALUES (1, 'open', '', 'somebody', 'human-only');
CREATE TABLE ledger (id int PRIMARY KEY, amount int);
INSERT INTO ledger VALUES (1, 100);
CREATE FUNCTION raise_limit(by int) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'UPDATE ledger SET amount = amount + by';
CREATE VIEW everything AS SELECT * FROM tickets;
"""
RULES = {"tickets": TableRule(read=("id", "status", "note"), update=("status", "note"))}
MODEL = "escape-model"
DATABASE = "escape"
SERVICE_WORD, FORBIDDEN_WORD = "the-allowed-service", "the-forbidden-service"
NEIGHBOUR_PORTS = {"service": 9911, "database": 5499}
MEBIBYTE = 2**20
GATEWAY_DESCRIPTORS = 1024
_API: Any = "podctl/v1"


def _stub(word: str, port: int = 8080) -> Service:
    return Service(mode="stubbed", ports=(port,), routes=(StubRoute(path="/word", body=word),))


def topologies(seed: Path) -> tuple[Topology, Topology]:
    """The pod under test and its neighbour: the same database, on other ports, so that neither is mistaken for the other."""
    filled = Seed(sql=(seed,))
    services = {"echo": _stub(SERVICE_WORD), "private": _stub(FORBIDDEN_WORD, 8090)}
    tested = Topology(
        apiVersion=_API,
        kind="Topology",
        name="escape",
        databases={"db": Database(name=DATABASE, seed=filled)},
        services=services,
    )
    neighbour = Topology(
        apiVersion=_API,
        kind="Topology",
        name="escape-neighbour",
        databases={"db": Database(name=DATABASE, seed=filled, port=NEIGHBOUR_PORTS["database"])},
        services={"beacon": _stub("beacon", NEIGHBOUR_PORTS["service"])},
    )
    return tested, neighbour


def _bundle(directory: Path, topology: Topology) -> Bundle:
    """As much of a bundle as a backend prepares from."""
    file = directory / "escape.yaml"
    named: dict[str, Any] = {"apiVersion": _API, "name": "escape"}
    agent = Agent(kind="Agent", version="1", command=("probe",), directory=directory / "agent", **named)
    scenario = Scenario(
        kind="Scenario", topology=file, tickets=file, agent=file, boundary=file, checks=(StateCheck(kind="state"),), **named
    )
    return Bundle(
        file,
        scenario,
        topology,
        Tickets(kind="Tickets", source=file, **named),
        agent,
        Boundary(kind="Boundary", **named),
    )


@dataclass
class BenchPod:
    """One pod with an attempt open in it."""

    spec: PodSpec
    backend: LocalBackend
    gateway: Gateway
    evidence: Path
    key: str
    services: tuple[str, ...] = ()
    role: str = ""
    password: str = ""

    @property
    def id(self) -> str:
        return self.spec.id

    async def up(self) -> None:
        for step in steps(self.spec, await self.backend.observe(self.id)):
            await self.backend.apply(self.spec, step)
        doors, dialer = self.backend.doors(self.id, self.gateway.pid)
        await self.gateway.open_pod(self.id, doors, dialer)

    async def begin(self) -> None:
        """A role and an attempt, as every attempt gets them."""
        self.role = f"ag_{secrets.token_hex(5)}"
        self.password = await self.backend.database(self.id, "db").grant_agent(self.role, RULES)
        granted = AttemptPass(attempt=f"{self.id}.1", pod=self.id, key=self.key, evidence=self.evidence, services=self.services)
        await self.gateway.open_attempt(granted)

    async def end(self) -> None:
        """As every attempt ends: connections cut, sessions ended, the role gone."""
        await self.gateway.close_attempt(f"{self.id}.1")
        await self.backend.database(self.id, "db").revoke_agent(self.role)

    async def sessions(self) -> int:
        """Sessions of agents at the pod's database."""
        rows = await self.backend.database(self.id, "db").query(
            "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'ag\\_%'"
        )
        return int(rows[0][0])

    async def reachable(self) -> bool:
        """Whether podctl itself gets a new connection to the pod's database."""
        known = self.backend.conninfo(self.id, "db")
        database = known.pop("database")
        try:
            connection = await connect(" ".join(f"{key}={value}" for key, value in known.items()), database)
        except DatabaseUnreachable:
            return False
        await connection.close()
        return True

    def login(self) -> dict[str, Any]:
        port = self.spec.topology.databases["db"].port
        return {"host": "db", "port": port, "dbname": DATABASE, "user": self.role, "password": self.password}


@dataclass
class Bench:
    backend: LocalBackend
    gateway: Gateway
    tested: BenchPod
    neighbour: BenchPod
    agent: Path

    async def probe(self, pod: BenchPod, modules: Sequence[str], plan: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The modules' probes as the pod's agent; empty when they did not end by themselves."""
        decoy = str(plan["decoy"]).encode()
        command = self.command("probes.py", *modules, files={"plan.json": json.dumps(plan).encode(), "decoy.txt": decoy})
        exit_ = await self.backend.execute(
            pod.id, replace(command, environment={"ESCAPE_DECOY": decoy.decode()}, collect=("report.json",), wall_s=60)
        )
        if "report.json" not in exit_.files:
            said = exit_.stderr.decode("utf-8", "replace").strip().splitlines()
            return {"": [None, f"the probes ended as {exit_.limit or exit_.code}: {said[-1] if said else ''}", False, ""]}
        found: dict[str, list[Any]] = json.loads(exit_.files["report.json"])
        return found

    async def run(self, *arguments: str, **changed: Any) -> Exit:
        """A program of `probes_limits` in the pod under test."""
        return await self.backend.execute(self.tested.id, replace(self.command("probes_limits.py", *arguments), **changed))

    def command(self, script: str, *arguments: str, files: Mapping[str, bytes] | None = None) -> Command:
        return Command(
            argv=("${python}", f"/agent/{script}", *arguments),
            environment={},
            directory=self.agent,
            files=files or {},
            wall_s=20,
            disk=16 * MEBIBYTE,
        )

    def plan(self, pod: BenchPod, traps: Traps, decoy: str) -> dict[str, Any]:
        """Everything that an attacker could wish to know."""
        table = addresses(pod.spec.topology)
        services = pod.spec.topology.services
        files = PodFiles(self.backend.state.directory(pod.id))
        admin = self.backend.conninfo(pod.id, "db")
        other = self.neighbour if pod is self.tested else self.tested
        names = list(services)
        bound = [*sandbox.interpreter_paths(), sandbox.bwrap_path()]
        root = self.backend.state.root
        return {
            "token": traps.token,
            "decoy": decoy,
            "provider_key": traps.provider_key,
            "environment_canary": traps.canary,
            "sentinel": traps.sentinel,
            "host_pids": [traps.process.pid, self.gateway.pid],
            "host_tcp": traps.tcp,
            "host_tcp6": traps.tcp6,
            "host_udp": traps.udp,
            "host_abstract": traps.abstract,
            "host_sockets": [
                traps.path_socket,
                str(files.sockets("db") / f".s.PGSQL.{admin['port']}"),
                "/run/docker.sock",
                "/run/dbus/system_bus_socket",
            ],
            "host_addresses": host_addresses(),
            "nameservers": nameservers(),
            "host_directories": host_directories([path.resolve() for path in bound] + bound),
            "host_files": ["/etc/shadow", "/etc/machine-id", "/etc/resolv.conf", str(traps.store_file.parent)],
            "state_files": [
                str(path)
                for path in (
                    traps.state_file,
                    root,
                    root / "pods",
                    root / "templates",
                    self.backend.state.directory(pod.id) / "pod.json",
                    self.backend.state.directory(other.id) / "pod.json",
                    files.data("db"),
                )
            ],
            "store_files": [str(traps.store_file)],
            "interpreter": [str(path) for path in sandbox.interpreter_paths()],
            "dns_canary": f"{traps.token}.escape.invalid",
            "gateway": [table[GATEWAY], GATEWAY_PORT],
            "doors": [[table[GATEWAY], GATEWAY_PORT], [table["db"], pod.spec.topology.databases["db"].port]]
            + [[table[name], services[name].ports[0]] for name in names],
            "service": names[0],
            "service_address": table[names[0]],
            "service_port": services[names[0]].ports[0],
            "service_path": "/word",
            "service_word": SERVICE_WORD,
            "forbidden": names[-1],
            "forbidden_address": table[names[-1]],
            "forbidden_port": services[names[-1]].ports[0],
            "forbidden_word": FORBIDDEN_WORD,
            "model": MODEL,
            "key": pod.key,
            "neighbour_key": other.key,
            "neighbour_service_port": NEIGHBOUR_PORTS["service"],
            "neighbour_database_port": NEIGHBOUR_PORTS["database"],
            "neighbour_login": {"user": other.role, "password": other.password},
            "database": pod.login(),
            "other_databases": ["postgres", TEMPLATE_DATABASE],
            "superuser_password": admin["password"],
        }


@asynccontextmanager
async def bench(state: State, directory: Path, traps: Traps) -> AsyncIterator[Bench]:
    """Two pods with an attempt open in each; all of it removed afterwards. Raises `PodctlError` where none can be made."""
    agent = directory / "agent"
    agent.mkdir(mode=0o755)
    for script in Path(__file__).parent.glob("probes*.py"):
        shutil.copy(script, agent)
    (directory / "seed.sql").write_text(SEED)
    tested, neighbour = topologies(directory / "seed.sql")
    backend = LocalBackend(state, ttl_s=900)
    pods: list[BenchPod] = []
    gateway: Gateway | None = None
    try:
        await backend.prepare(_bundle(directory, tested))
        gateway = await Gateway.start(_gateway_config(traps))
        # As most machines give it: a flood must be bounded, not merely smaller than a large table.
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (GATEWAY_DESCRIPTORS, GATEWAY_DESCRIPTORS))
        run = f"escape-{secrets.token_hex(3)}"
        for letter, topology, services in (("a", tested, ("echo",)), ("b", neighbour, ())):
            spec = PodSpec(f"{run}{letter}", run, topology)
            key = f"attempt-{secrets.token_hex(12)}"
            pods.append(BenchPod(spec, backend, gateway, directory / f"{letter}.jsonl", key, services))
        await asyncio.gather(*(pod.up() for pod in pods))
        for pod in pods:
            await pod.begin()
        yield Bench(backend, gateway, pods[0], pods[1], agent)
    finally:
        if gateway is not None:
            await gateway.stop()
        for pod in pods:
            await backend.delete(pod.id)
        await backend.close()


def _gateway_config(traps: Traps) -> GatewayConfig:
    url = f"http://127.0.0.1:{traps.tcp[1]}"
    price = Price(input=Decimal(1), output=Decimal(1))
    upstream = Upstream(mode="live", openai_url=f"{url}/v1", anthropic_url=url, prices={MODEL: price})
    return GatewayConfig(upstream=upstream, keys={"openai": traps.provider_key, "anthropic": traps.provider_key})

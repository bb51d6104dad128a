"""The shipped contract suite, on every backend that this machine can run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cluster as clusters
import engines
import pytest

from podctl.backends.base import Backend, Command, Image, Process
from podctl.backends.contract import CHECKS, Report, run_contract
from podctl.backends.docker.execution import NOT_RECORDED as NOT_ON_AN_ENGINE
from podctl.backends.kubernetes.execution import NOT_RECORDED as NOT_IN_A_CLUSTER
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.state import State
from podctl.backends.memory import Call, MemoryBackend, Refused
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle

SCHEMA = "create table items (id int primary key, label text not null); insert into items values (1, 'one');"
FILES = {
    "seed.sql": SCHEMA,
    "topology.yaml": "apiVersion: podctl/v1\nkind: Topology\nname: contract\n"
    "databases:\n  db: {name: contract, seed: {sql: [seed.sql]}}\n"
    "services:\n  echo: {mode: stubbed, routes: [{path: /ping, body: pong}]}\n",
    "tickets.jsonl": json.dumps({"id": "1", "reference": {"changes": []}}) + "\n",
    "tickets.yaml": "apiVersion: podctl/v1\nkind: Tickets\nname: t\nsource: tickets.jsonl\nfields: {reference: reference}\n",
    "agent/run.sh": "exit 0\n",
    "agent.yaml": "apiVersion: podctl/v1\nkind: Agent\nname: a\nversion: '1'\ncommand: [/bin/sh, run.sh]\ndirectory: agent\n",
    "boundary.yaml": "apiVersion: podctl/v1\nkind: Boundary\nname: b\n",
    "scenario.yaml": "apiVersion: podctl/v1\nkind: Scenario\nname: contract\ntopology: topology.yaml\ntickets: tickets.yaml\n"
    "agent: agent.yaml\nboundary: boundary.yaml\nchecks: [{kind: state}]\n",
}

FAMILY = """
import os, subprocess, threading
def shell(code, word):
    subprocess.run(["/bin/sh", "-c", f"exit {code}", word])
shell(7, "child")
os.waitpid(os.posix_spawn("/bin/true", ["true", "brief"], {}), 0)
killed = subprocess.Popen(["/bin/sh", "-c", "kill -STOP $$; sleep 100", "killed"])
os.waitpid(killed.pid, os.WUNTRACED)
killed.kill()
killed.wait()
forked = os.fork()
if forked == 0:
    os._exit(5)
os.waitpid(forked, 0)
thread = threading.Thread(target=shell, args=(8, "threaded"))
thread.start()
thread.join()
read, write = os.pipe()
os.set_inheritable(write, True)
between = os.fork()
if between == 0:
    if os.fork() == 0:
        parent = os.getppid()
        while os.getppid() == parent and parent != 1:
            pass
        os.execv("/bin/sh", ["sh", "-c", "exit 9", "orphan"])
    os._exit(0)
os.close(write)
os.waitpid(between, 0)
os.read(read, 1)
"""
#: An image may have the one driver or the other.
UPDATE = """
import os
try:
    import psycopg
except ImportError:
    import psycopg2 as psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.cursor().execute({!r})
"""
CROWD = "import os\nfor _ in range(1100):\n    os.fork() or os._exit(0)\n    os.wait()\n"


def bundle_in(directory: Path) -> Bundle:
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return load_bundle(directory / "scenario.yaml")


class LocalHarness:
    gaps: Mapping[str, str] = {}

    def __init__(self, directory: Path) -> None:
        self.bundle = bundle_in(directory)

    def backend(self) -> Backend:
        return LocalBackend(State.open())

    def program(self, name: str) -> Command:
        argv = {
            "exit-3": ("/bin/sh", "-c", "exit 3"),
            "echo-ticket": ("/bin/sh", "-c", "cp ticket.json result.json"),
            "sleep": ("/bin/sh", "-c", "trap '' TERM; sleep 100"),
            "flood": ("/bin/sh", "-c", "yes"),
            "link-result": ("/bin/sh", "-c", "ln -s /etc/passwd result.json"),
            "family": ("${python}", "-S", "-c", FAMILY),
            "crowd": ("${python}", "-S", "-c", CROWD),
            "set-label": ("${python}", "-c", UPDATE.format("update items set label = 'changed' where id = 1")),
            "set-id": ("${python}", "-c", UPDATE.format("update items set id = 2 where id = 1")),
        }[name]
        return Command(argv=argv, environment={}, directory=self.bundle.agent.directory)


class MemoryHarness:
    gaps: Mapping[str, str] = {
        "services are told of": "it has none; a program of its own says what befell them",
        "only plain files are collected": "its programs have no file system, only bytes by name",
    }

    def __init__(self, directory: Path) -> None:
        self.bundle = bundle_in(directory)

    def backend(self) -> Backend:
        async def exit_3(call: Call) -> int:
            return 3

        async def echo(call: Call) -> int:
            call.files["result.json"] = call.files["ticket.json"]
            return 0

        async def sleep(call: Call) -> int:
            await asyncio.sleep(100)
            return 0

        async def flood(call: Call) -> int:
            call.stdout.extend(b"y\n" * 100_000)
            return 0

        def update(column: str, value: object):  # type: ignore[no-untyped-def]
            async def program(call: Call) -> int:
                try:
                    call.databases["db"].update(call.role, "items", 1, {column: value})
                except Refused:
                    return 1
                return 0

            return program

        def process(pid: int, parent: int | None, code: int | None, word: str = "", number: int | None = None) -> Process:
            images = (Image(0, (word,)),) if word else ()
            return Process(pid, parent, pid, pid + 1, code, number, images, own=parent is None)

        async def family(call: Call) -> int:
            call.processes.extend(
                [
                    process(2, None, 0, "family"),
                    process(3, 2, 7, "child"),
                    process(4, 2, 0, "brief"),
                    process(5, 2, None, "killed", 9),
                    process(6, 2, 5),
                    process(7, 2, 8, "threaded"),
                    process(8, 2, 0),
                    process(9, 8, 9, "orphan"),
                ]
            )
            return 0

        async def crowd(call: Call) -> int:
            call.processes.extend([process(2, None, 0, "crowd"), *(process(pid, 2, 0) for pid in range(3, 1103))])
            return 0

        programs = {"family": family, "crowd": crowd, "exit-3": exit_3, "echo-ticket": echo, "sleep": sleep, "flood": flood}
        programs |= {"set-label": update("label", "changed"), "set-id": update("id", 2)}
        return MemoryBackend(programs, {"db": {"items": {1: {"id": 1, "label": "one"}}}})

    def program(self, name: str) -> Command:
        return Command(argv=(name,), environment={}, directory=Path("/"))


class ElsewhereHarness(LocalHarness):
    """The local backend's programs as they are; ``not_recorded`` says why the backend records no processes."""

    def __init__(self, directory: Path, open_backend: Backend, not_recorded: str) -> None:
        super().__init__(directory)
        self._backend = open_backend
        recording = ("every process is recorded", "processes kept are bounded, and all are counted")
        self.gaps = dict.fromkeys(recording, not_recorded)

    def backend(self) -> Backend:
        return self._backend


@pytest.fixture(scope="module")
def report_of(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Report]:
    """The suite is run once a backend, when its first check is asked for: all checks that are asked for in this session."""
    of_this_file = [item for item in request.session.items if isinstance(item, pytest.Function) and item.parent is request.node]
    asked = [item.callspec.params for item in of_this_file]

    async def contract(name: str) -> Report:
        directory = tmp_path_factory.mktemp(name)
        wanted = {params["check"] for params in asked if params["backend"] == name}
        if name == "kubernetes":
            return await run_contract(ElsewhereHarness(directory, await clusters.backend(), NOT_IN_A_CLUSTER), wanted)
        if name == "docker":
            return await run_contract(ElsewhereHarness(directory, await engines.backend(), NOT_ON_AN_ENGINE), wanted)
        return await run_contract({"memory": MemoryHarness, "local": LocalHarness}[name](directory), wanted)

    @cache
    def report(name: str) -> Report:
        if name in FIXTURES:
            request.getfixturevalue(FIXTURES[name])
        return asyncio.run(contract(name))

    return report


#: What is tried on a cluster each time; the rest, and all of it on an engine, takes minutes.
ALWAYS = ("the next generation is clean", "an interrupt ends a command")
FIXTURES = {"docker": "engine", "kubernetes": "cluster"}


def every_backend() -> Iterator[Any]:
    for check in CHECKS:
        yield pytest.param("memory", check)
        yield pytest.param("local", check)
        yield pytest.param("docker", check, marks=[pytest.mark.docker, pytest.mark.campaign])
        rarely = [] if check in ALWAYS else [pytest.mark.campaign]
        yield pytest.param("kubernetes", check, marks=[pytest.mark.cluster, *rarely])


@pytest.mark.parametrize(("backend", "check"), list(every_backend()))
def test_backend_keeps_the_contract(report_of: Callable[[str], Report], backend: str, check: str) -> None:
    report = report_of(backend)
    if check in report.gaps:
        pytest.skip(f"known gap: {report.gaps[check]}")
    assert check in report.passed, report.failed.get(check)

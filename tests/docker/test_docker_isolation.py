"""What an agent on a real engine can and cannot do; every refusal beside something of its kind that works."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from confined import AGENT, LIMITED, TOPOLOGY, assert_limits_hold, assert_no_rights, assert_writes_into_its_workspace_alone
from engines import backend

from podctl.backends.base import Command
from podctl.backends.containers.launch import SCRIPTS
from podctl.backends.docker.backend import DockerBackend
from podctl.backends.docker.leftovers import held
from podctl.pods.plan import PodSpec, steps
from podctl.spec.models import Seed, Topology

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, engine: None) -> dict[str, Any]:
    """One pod with a neighbour: what an agent of the one finds, and how agents that go too far end."""
    return asyncio.run(_find(tmp_path_factory.mktemp("agent")))


async def _find(directory: Path) -> dict[str, Any]:
    (directory / "main.py").write_text(AGENT)
    (directory / "seed.sql").write_text("create table t (id int primary key);")
    database = {"databases": {"db": {"name": "walls", "seed": Seed(sql=(directory / "seed.sql",)).model_dump()}}}
    used = await backend()
    specs = [
        PodSpec(f"walls-{secrets.token_hex(4)}", "tests", Topology.model_validate(TOPOLOGY | more)) for more in (database, {})
    ]
    spec, neighbour = specs
    try:
        await asyncio.gather(*(_up(used, one) for one in specs))
        own, other = await _addresses(used, spec.id), await _addresses(used, neighbour.id)
        past = {
            "service past the door": (own["svc-echo-1"], 8080),
            "database past the door": (own["db-db"], 5432),
            "neighbour's service": (other["svc-echo-1"], 8080),
        }
        places = {
            "gateway": ("gateway", 80),
            "echo by its name": ("echo", 8080),
            "db by its name": ("db", 5432),
            "other port of the door": ("gateway", 22),
            "the engine's machine": (own["gateway"], 22),
            "metadata": ("169.254.169.254", 80),
            "outside": ("192.0.2.1", 443),
            **past,
        }
        command = Command(
            argv=("${python}", "/agent/main.py"),
            environment={"PLACES": json.dumps(places)},
            directory=directory,
            collect=("result.json",),
            disk=16 * 2**20,
            processes=48,
            wall_s=60,
        )
        exit_ = await used.execute(spec.id, command)
        assert exit_.code == 0 and "result.json" in exit_.files, exit_
        result: dict[str, Any] = {"agent": json.loads(exit_.files["result.json"])}
        argv = ["python3", "-I", f"{SCRIPTS}/probe.py", *(f"{host}:{port}" for host, port in past.values())]
        answers = json.loads(await used.engine.run(f"podctl-{spec.id}-door", argv, 10_000))
        result["door"] = {name: answers[f"{host}:{port}"] for name, (host, port) in past.items()}
        for name, program in LIMITED.items():
            limited = Command(argv=("${python}", "-c", program), environment={}, directory=directory, memory=2**28, wall_s=40)
            result[name] = await used.execute(spec.id, limited)
        result["options"] = await _options(used, spec.id)
        return result
    finally:
        for one in specs:
            await used.delete(one.id)
        await used.close()


async def _up(used: DockerBackend, spec: PodSpec) -> None:
    for step in steps(spec, {}):
        await used.apply(spec, step)


async def _addresses(used: DockerBackend, pod: str) -> dict[str, str]:
    """Of the pod's network, by part of the pod; the bridge's own is ``gateway``."""
    told = await used.engine.call("a network", used.engine.client.api.inspect_network, f"podctl-{pod}")
    subnet = ipaddress.IPv4Network(told["IPAM"]["Config"][0]["Subnet"])
    prefix = f"podctl-{pod}-"
    found = {one["Name"].removeprefix(prefix): one["IPv4Address"].split("/")[0] for one in told["Containers"].values()}
    return found | {"gateway": str(subnet[1])}


async def _options(used: DockerBackend, pod: str) -> dict[str, Any]:
    names = [one.name for one in await held(used.engine, pod) if one.kind == "container"]
    inspect = used.engine.client.api.inspect_container
    return {name: (await used.engine.call(name, inspect, name))["HostConfig"] for name in names}


def test_it_reaches_names_through_the_door_and_nothing_else(found: dict[str, Any]) -> None:
    reached = {name for name, how in found["agent"]["reached"].items() if how == "reached"}
    assert reached == {"gateway", "echo by its name", "db by its name"}
    # What is past the door is there, for who is on that network, and a neighbour's is not.
    assert found["door"] == {"service past the door": True, "database past the door": True, "neighbour's service": False}


def test_it_resolves_the_pods_names_and_asks_no_name_server(found: dict[str, Any]) -> None:
    resolved = {name for name, how in found["agent"]["resolves"].items() if how.startswith("done")}
    assert resolved == {"gateway"}


def test_it_has_no_rights_on_its_machine(found: dict[str, Any]) -> None:
    assert_no_rights(found["agent"])


def test_it_sees_itself_alone(found: dict[str, Any]) -> None:
    agent = found["agent"]
    assert agent["keeper"] == []
    assert len(agent["pids"]) <= 2, "only its own processes"


def test_it_writes_into_its_workspace_alone(found: dict[str, Any]) -> None:
    assert_writes_into_its_workspace_alone(found["agent"])


def test_its_limits_hold_and_nothing_outlives_its_end(found: dict[str, Any]) -> None:
    assert_limits_hold(found)


def test_every_container_of_a_pod_is_confined(found: dict[str, Any]) -> None:
    assert len(found["options"]) == 4, "door, porch, database and service; the agents' are gone"
    for name, options in found["options"].items():
        assert options["ReadonlyRootfs"] and options["CapDrop"] == ["ALL"] and not options["Privileged"], name
        assert options["SecurityOpt"] == ["no-new-privileges"] and not options["PortBindings"], name
        assert options["Memory"] == options["MemorySwap"] > 0 and options["PidsLimit"] > 0 and options["NanoCpus"] > 0, name
        assert not any("docker.sock" in bind for bind in options["Binds"] or []), name

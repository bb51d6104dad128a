"""What an agent in a real cluster can and cannot do; every refusal beside something of its kind that works."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest
from cluster import backend
from confined import AGENT, LIMITED, TOPOLOGY, assert_limits_hold, assert_no_rights, assert_writes_into_its_workspace_alone

from podctl.backends.base import Command
from podctl.backends.containers.doors import FIRST_DOOR_PORT
from podctl.backends.kubernetes import objects
from podctl.pods.plan import PodSpec, steps
from podctl.spec.models import Seed, Topology

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> dict[str, Any]:
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
        own = {
            pod["metadata"]["name"]: pod["status"]["podIP"] for pod in await used.cluster.list("Pod", objects.PREFIX + spec.id)
        }
        other = (await used.cluster.list("Pod", objects.PREFIX + neighbour.id))[0]["status"]["podIP"]
        places = {
            "gateway": ("gateway", 80),
            "echo by its name": ("echo", 8080),
            "db by its name": ("db", 5432),
            "service past the door": (own["svc-echo-1"], 8080),
            "database past the door": (own["db-db"], 5432),
            "other port of the door": (own["door"], 22),
            "neighbour": (other, FIRST_DOOR_PORT),
            "api server": (os.environ.get("KUBERNETES_SERVICE_HOST", "10.96.0.1"), 443),
            "metadata": ("169.254.169.254", 80),
            "outside": ("192.0.2.1", 443),
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
        result = {"agent": json.loads(exit_.files["result.json"])}
        for name, program in LIMITED.items():
            limited = Command(argv=("${python}", "-c", program), environment={}, directory=directory, memory=2**28, wall_s=40)
            result[name] = await used.execute(spec.id, limited)
        return result
    finally:
        for one in specs:
            await used.delete(one.id)
        await used.close()


async def _up(used: Any, spec: PodSpec) -> None:
    for step in steps(spec, {}):
        await used.apply(spec, step)


def test_it_reaches_names_through_the_door_and_nothing_else(found: dict[str, Any]) -> None:
    reached = {name for name, how in found["agent"]["reached"].items() if how == "reached"}
    assert reached == {"gateway", "echo by its name", "db by its name"}


def test_it_resolves_the_pods_names_and_asks_no_name_server(found: dict[str, Any]) -> None:
    resolved = {name for name, how in found["agent"]["resolves"].items() if how.startswith("done")}
    assert resolved == {"gateway"}


def test_it_has_no_rights_on_its_node(found: dict[str, Any]) -> None:
    assert_no_rights(found["agent"])


def test_it_sees_itself_alone(found: dict[str, Any]) -> None:
    agent = found["agent"]
    assert agent["token"] is False and agent["keeper"] == [] and agent["environment"] == []
    assert len(agent["pids"]) <= 2, "only its own processes"


def test_it_writes_into_its_workspace_alone(found: dict[str, Any]) -> None:
    assert_writes_into_its_workspace_alone(found["agent"])


def test_its_limits_hold_and_nothing_outlives_its_end(found: dict[str, Any]) -> None:
    assert_limits_hold(found)

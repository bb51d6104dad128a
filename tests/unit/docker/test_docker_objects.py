"""What a pod is made of on an engine, as plain values."""

from __future__ import annotations

import ipaddress
from itertools import islice

import pytest

from podctl.backends.docker import objects
from podctl.backends.docker.execution import engine_time
from podctl.backends.docker.objects import AgentRun, Box, Image, Place, Program, Settings
from podctl.evidence.owner import Owner
from podctl.spec.models import Resources, Topology

TOPOLOGY = Topology.model_validate(
    {
        "apiVersion": "podctl/v1",
        "kind": "Topology",
        "name": "t",
        "databases": {"orders-db": {"name": "orders", "seed": {"sql": ["seed.sql"]}}},
        "services": {
            "web": {"mode": "stubbed", "ports": [80, 8080]},
            "orders": {"command": ["run"], "ports": [8080]},
            "gone": {"mode": "left-out", "reason": "not needed"},
        },
    }
)
PLACE = Place("p1", "r1", Owner(17, "42", "boot", "host"), 1_000, 2_000)
SETTINGS = Settings("image:1")
SUBNET = next(objects.subnets(PLACE, TOPOLOGY))
WHERE = objects.addresses(SUBNET, TOPOLOGY)
PROGRAM = Program(
    ("true",), {"KEY": "v"}, "/workspace", {"/agent": {"main.py": b""}}, Resources(memory=2**28, cpu=0.5, processes=9)
)
IMAGE = Image("shop/orders:1", 4711, (), {"/data": 2**20})
RUN = AgentRun("agent-1", PROGRAM, 2**24, 2**20, {"ticket.json": b"{}"}, {"output": 2**20})


def boxes() -> list[Box]:
    return [
        objects.door(PLACE, SETTINGS, {}, WHERE),
        objects.porch(PLACE, SETTINGS, {}, WHERE),
        objects.database(PLACE, "orders-db", 5432, "secret", SETTINGS, {}, WHERE),
        objects.service(PLACE, "web", 1, (80,), PROGRAM, SETTINGS, {}, WHERE),
        objects.service(PLACE, "orders", 1, (80,), PROGRAM, SETTINGS, {}, WHERE, IMAGE),
        objects.agent(PLACE, RUN, "porch-id", SETTINGS),
        objects.keeper(PLACE, RUN, "porch-id", SETTINGS, {}),
    ]


@pytest.mark.parametrize("box", boxes(), ids=lambda box: box.name)
def test_every_container_is_confined_and_labelled(box: Box) -> None:
    options = box.options
    assert options["read_only"] and options["cap_drop"] == ["ALL"] and options["security_opt"] == ["no-new-privileges"]
    assert options["privileged"] is False and not options["user"].startswith("0:") and options["ulimits"]["core"] == 0
    assert options["mem_limit"] == options["memswap_limit"] > 0 and options["pids_limit"] > 0 and options["nano_cpus"] > 0
    assert objects.place_of(box.labels) == PLACE
    assert all(":" not in mount for mount in box.files), "nothing of the machine is mounted"


def test_the_agent_has_no_network_but_the_porchs_and_the_porch_has_none() -> None:
    agent, porch = objects.agent(PLACE, RUN, "porch-id", SETTINGS), objects.porch(PLACE, SETTINGS, {}, WHERE)
    assert agent.network == "container:porch-id" and porch.network == "none"
    assert agent.options["pids_limit"] == 9 and agent.options["mem_limit"] == 2**28
    assert porch.options["extra_hosts"].keys() == {"gateway", "orders-db", "web", "orders"}
    assert not set(porch.options["extra_hosts"].values()) & set(WHERE.inside.values())


def test_the_agent_shares_a_workspace_and_pipes_with_its_keeper_and_nothing_else() -> None:
    agent, keeper = objects.agent(PLACE, RUN, "porch-id", SETTINGS), objects.keeper(PLACE, RUN, "porch-id", SETTINGS, {})
    assert agent.shared == keeper.shared and agent.shared.keys() == {"/workspace", "/podctl/io"}
    assert agent.files.keys() == {"/agent"} and "/podctl/given" in keeper.files
    assert "KEY" not in keeper.environment and not any(value == "v" for value in keeper.environment.values())


def test_names_that_share_a_port_have_addresses_of_their_own() -> None:
    ports = objects.porch_ports(TOPOLOGY, WHERE.outside)
    assert len({port.at for port in ports}) == len({port.listens for port in ports}) == len(ports) == 5
    assert ports[0].at.endswith(":80") and ports[0].kind == "gateway"
    assert [port.argument for port in ports] == [f"{port.listens}={port.at}" for port in ports]


def test_addresses_are_the_subnets_own_and_nobodys_twice() -> None:
    inside = [WHERE.door, *WHERE.inside.values()]
    assert len(set(inside)) == len(inside) == 4
    assert all(ipaddress.IPv4Address(address) in list(SUBNET.hosts())[1:] for address in inside), "the first is the bridge's"


def test_a_subnet_is_small_and_each_is_tried_once() -> None:
    found = list(objects.subnets(PLACE, TOPOLOGY))
    assert len(set(found)) == len(found) == 4096 and {subnet.prefixlen for subnet in found} == {28}
    assert all(subnet.subnet_of(ipaddress.IPv4Network(objects.SUBNETS)) for subnet in islice(found, 50))
    many = Topology(
        apiVersion="podctl/v1",
        kind="Topology",
        name="many",
        services={f"s{number}": TOPOLOGY.services["web"] for number in range(20)},
    )
    large = next(objects.subnets(PLACE, many))
    assert large.prefixlen == 27 and len(set(objects.addresses(large, many).inside.values())) == 20


def test_thirty_pods_seldom_ask_for_the_same_addresses() -> None:
    first = {next(objects.subnets(Place(f"pod-{number}", "r", PLACE.owner), TOPOLOGY)) for number in range(30)}
    assert len(first) >= 27


@pytest.mark.parametrize("change", [{}, {objects.OWNER: "[1]"}, {objects.CREATED: "soon"}, {objects.OWNER: "{"}])
def test_labels_of_somebody_else_are_no_place(change: dict[str, str]) -> None:
    labels = {**PLACE.labels("x"), **change} if change else {}
    with pytest.raises(ValueError, match="no test pod"):
        objects.place_of(labels)


def test_the_engines_times_are_read_to_the_microsecond() -> None:
    assert engine_time("1970-01-01T00:00:01.000002345Z") == 1_000_002_000
    assert engine_time("2026-01-01T00:00:00Z") == 1_767_225_600 * 10**9
    assert engine_time("0001-01-01T00:00:00Z") == 0 and engine_time("") == 0


def test_an_image_of_somebody_elses_gets_nothing_of_podctls_and_writes_to_memory_alone() -> None:
    box = objects.service(PLACE, "orders", 1, (8080,), PROGRAM, SETTINGS, {"probe.py": b""}, WHERE, IMAGE)
    assert box.options["image"] == "shop/orders:1" and box.options["user"] == "4711:4711"
    assert box.files.keys() == {"/agent"}, "its own files, and no scripts"
    assert set(box.options["tmpfs"]) == {"/tmp", "/dev/shm", "/data"}
    assert all("nosuid" in how and "uid=4711" in how for place, how in box.options["tmpfs"].items() if place != "/dev/shm")
    assert box.options["mem_limit"] == PROGRAM.resources.memory + 2**20, "what it writes does not take from its programs"

"""A test pod's objects: what they allow and what they do not, read as a cluster would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podctl.backends.containers.doors import FIRST_DOOR_PORT, door_ports, listeners
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.objects import AgentRun, Files, Place, Program, Settings
from podctl.spec.models import Resources, Topology

PLACE = Place("a1b2c3-0", "20260101-000000-a1b2c3")
SETTINGS = Settings(image="registry.example/podctl:1")
TOPOLOGY = Topology.model_validate(
    {
        "apiVersion": "podctl/v1",
        "kind": "Topology",
        "name": "shop",
        "databases": {"orders-db": {"name": "orders"}, "users-db": {"name": "users", "port": 5433}},
        "services": {
            "orders-api": {"command": ["x"], "ports": [8080, 9090], "ready": {"path": "/healthz"}},
            "payments-api": {"command": ["x"], "ports": [8080], "depends_on": ["orders-api"]},
            "web": {"mode": "stubbed", "ports": [80]},
            "warehouse": {"mode": "left-out", "reason": "not needed"},
        },
    }
)
PROGRAM = Program(("python3", "main.py", "$(HOME)"), "agent-1", "/workspace", (), Resources(memory=2**28, cpu=0.5))
RUN = AgentRun("agent-1", PROGRAM, 64, 2**24, 2**20, 300, {"f0": "ticket.json"}, {"control": ["10.0.0.1", 80]})


def job(settings: Settings = SETTINGS) -> dict[str, Any]:
    return objects.agent_job(PLACE, RUN, objects.aliases({"d-orders-api": "10.0.0.2"}, "d-"), settings)


def every_pod(settings: Settings = SETTINGS) -> dict[str, dict[str, Any]]:
    service = TOPOLOGY.services["web"]
    return {
        "door": objects.door_pod(PLACE, settings),
        "database": objects.database_pod(PLACE, "orders-db", 5432, settings),
        "service": objects.service_pod(PLACE, "web", 2, service, [], [], settings),
        "agent": job(settings)["spec"]["template"],
    }


@pytest.mark.parametrize("name", ["door", "database", "service", "agent"])
def test_every_pod_is_within_the_restricted_profile_and_has_no_token(name: str) -> None:
    spec = every_pod()[name]["spec"]
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never" and spec["dnsPolicy"] == "None"
    security = spec["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] > 0 and security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        held = container["securityContext"]
        assert held["allowPrivilegeEscalation"] is False and held["readOnlyRootFilesystem"] is True
        assert held["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} == set(container["resources"]["limits"])
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "configMap", "secret", "projected"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume)
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            assert set(source) == {"configMap"}, "no projected token"


def test_what_is_asked_of_the_runtime_is_on_every_pod() -> None:
    for pod in every_pod(Settings(image="i", runtime_class="gvisor", host_users=False)).values():
        assert pod["spec"]["runtimeClassName"] == "gvisor" and pod["spec"]["hostUsers"] is False


def reachable(source: dict[str, str], target: dict[str, str], port: int) -> bool:
    """NetworkPolicy's rule: a side that any policy selects needs one of them to allow it."""
    policies = [objects.default_deny(PLACE), *objects.allows(PLACE, TOPOLOGY)]

    def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())

    def allowed(own: dict[str, str], other: dict[str, str], kind: str, peers: str) -> bool:
        mine = [
            policy["spec"]
            for policy in policies
            if selects(policy["spec"]["podSelector"], own) and kind.capitalize() in policy["spec"]["policyTypes"]
        ]
        rules = [rule for spec in mine for rule in spec.get(kind, [])]
        return not mine or any(
            any(selects(peer["podSelector"], other) for peer in rule[peers])
            and port in [entry["port"] for entry in rule["ports"]]
            for rule in rules
        )

    return allowed(source, target, "egress", "to") and allowed(target, source, "ingress", "from")


def pod(component: str, purpose: str = "") -> dict[str, str]:
    return PLACE.labels(component) | {objects.PURPOSE: purpose}


def test_an_agent_reaches_the_doors_ports_and_nothing_else() -> None:
    agent = pod("agent", "agent-1")
    doors = door_ports(TOPOLOGY)
    assert all(reachable(agent, pod("door", ""), door.listens) for door in doors)
    assert not reachable(agent, pod("door", ""), 22)
    for component, name, ports in listeners(TOPOLOGY):
        assert not any(reachable(agent, pod(component, name), port) for port in ports)
    assert not reachable(agent, {"k8s-app": "kube-dns"}, 53)
    assert not reachable({"app": "elsewhere"}, agent, 8080) and not reachable(pod("service", "web"), agent, 8080)


def test_services_and_the_door_reach_what_listens_and_only_there() -> None:
    for caller in (pod("service", "payments-api"), pod("door", "")):
        assert reachable(caller, pod("service", "orders-api"), 9090)
        assert reachable(caller, pod("database", "users-db"), 5433)
        assert not reachable(caller, pod("database", "users-db"), 5432)
        assert not reachable(caller, {"app": "elsewhere"}, 8080)
    assert not reachable(pod("database", "users-db"), pod("service", "orders-api"), 8080)
    assert not reachable(pod("service", "web"), pod("door", ""), FIRST_DOOR_PORT)


def test_names_that_share_a_port_have_doors_of_their_own() -> None:
    doors = door_ports(TOPOLOGY)
    assert len({door.listens for door in doors}) == len(doors) == 7
    assert (doors[0].kind, doors[0].name, doors[0].port) == ("gateway", "gateway", 80)
    ways = {service["metadata"]["name"]: service["spec"] for service in objects.services(PLACE, TOPOLOGY)}
    assert {port["port"]: port["targetPort"] for port in ways["d-orders-api"]["ports"]} == {8080: 20003, 9090: 20004}
    assert ways["d-payments-api"]["ports"][0]["targetPort"] == 20005
    assert ways["s-payments-api"]["selector"] == {objects.COMPONENT: "service", objects.PURPOSE: "payments-api"}
    assert "s-warehouse" not in ways and "d-warehouse" not in ways


def test_a_namespace_says_whose_it_is_and_what_it_enforces() -> None:
    made = objects.namespace(PLACE, 10**18, 2 * 10**18, kept=True)["metadata"]
    assert made["labels"][objects.RUN] == PLACE.run and made["labels"][objects.MANAGED_BY] == "podctl"
    assert {made["labels"][f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}
    assert objects.parse_time(made["annotations"][objects.EXPIRES]) == 2 * 10**18
    assert len(made["name"]) <= 63


def test_secrets_are_named_in_pods_and_never_spelled_out() -> None:
    text = json.dumps([job(), *every_pod().values()])
    assert "secretRef" in text and "password" not in text.replace("/podctl/secret/password", "")
    made = objects.secret(PLACE, "agent-1", {"DATABASE_URL": b"postgresql://ag:pw@db/x"})
    assert made["data"] == {"DATABASE_URL": "cG9zdGdyZXNxbDovL2FnOnB3QGRiL3g="} and made["immutable"]


def test_an_agents_job_is_tried_once_and_ends_without_podctl() -> None:
    spec = job()["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 300)
    keeper, agent = spec["template"]["spec"]["containers"]
    assert agent["command"][-1] == "$$(HOME)", "the kubelet would expand it"
    shared = {mount["name"] for mount in agent["volumeMounts"]} & {mount["name"] for mount in keeper["volumeMounts"]}
    assert shared == {"workspace", "io"}, "the agent has no part in what the keeper keeps"
    assert spec["template"]["spec"]["hostAliases"] == [{"ip": "10.0.0.2", "hostnames": ["orders-api"]}]


def test_low_ports_and_several_names() -> None:
    assert "sysctls" in every_pod()["service"]["spec"]["securityContext"]
    assert "sysctls" not in every_pod()["database"]["spec"]["securityContext"]
    made = objects.service_pod(PLACE, "orders-api", 3, TOPOLOGY.services["orders-api"], [], [], SETTINGS)
    assert made["spec"]["hostname"] == "orders-api" and made["metadata"]["name"] == "svc-orders-api-3"


def test_a_services_pod_has_its_supervisor_alone() -> None:
    """Its credentials come with the order to start: they are in no object of the cluster."""
    service = every_pod()["service"]["spec"]
    assert len(service["containers"]) == 1 and service.get("shareProcessNamespace") is None, "the supervisor is process 1"
    container = service["containers"][0]
    assert container["command"][-2:] == ["/podctl/scripts/supervisor.py", "19999"]
    assert "envFrom" not in container and not container["env"] and "readinessProbe" not in container
    assert "secret" not in json.dumps(service["volumes"])
    assert objects.orders_port((8080, 19999, 19998)) == 19997


def test_a_database_that_is_copied_has_no_password_in_the_cluster() -> None:
    copied = objects.database_pod(PLACE, "orders-db", 5432, SETTINGS, "copied")["spec"]
    assert copied["containers"][0]["env"][-1] == {"name": "PODCTL_COPY_PORT", "value": "19999"}
    assert not any("secret" in volume for volume in copied["volumes"])
    own = objects.database_pod(PLACE, "orders-db", 5432, SETTINGS)["spec"]
    assert any("secret" in volume for volume in own["volumes"])


def test_a_quota_holds_the_pod_twice_and_nothing_that_leads_outside() -> None:
    hard = objects.quota(PLACE, TOPOLOGY, Resources(memory=2**30, cpu=2))["spec"]["hard"]
    assert hard["services.nodeports"] == hard["services.loadbalancers"] == hard["persistentvolumeclaims"] == "0"
    memory = 2 * (2 * 512 + 3 * (256 + 16) + 1024 + 2 * 128)
    assert hard["limits.memory"] == f"{memory}Mi" and int(hard["pods"]) >= 2 * 7


def test_files_of_several_config_maps_are_one_directory() -> None:
    files = Files("/agent", {"files-x-0": {"f0": "main.py"}, "files-x-1": {"f1": "lib/util.py"}})
    spec = objects.service_pod(PLACE, "web", 1, TOPOLOGY.services["web"], [files], [], SETTINGS)["spec"]
    volume = next(volume for volume in spec["volumes"] if "projected" in volume)
    assert [source["configMap"]["items"] for source in volume["projected"]["sources"]] == [
        [{"key": "f0", "path": "main.py"}],
        [{"key": "f1", "path": "lib/util.py"}],
    ]
    mount = next(mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == volume["name"])
    assert mount["mountPath"] == "/agent" and mount["readOnly"]

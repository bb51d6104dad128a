"""Compose files as the Compose Specification has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import compose, imported

from podctl.errors import SpecError

SHOP = {
    "compose.yaml": """
name: shop
x-common: &common
  restart: always
  environment: &environment
    LOG_LEVEL: info
services:
  web:
    <<: *common
    image: shop/web:${TAG:-1}
    command: ["serve", "--port", "8000"]
    ports: ["8080:8000", "127.0.0.1:9000-9001:9000-9001", {target: 7000, published: 70}]
    environment:
      <<: *environment
      API: http://orders_api:5000/v1
      EMPTY: ${NOTHING-}
      PRICE: $$5
    depends_on: {orders_api: {condition: service_healthy}}
    deploy: {replicas: 3, resources: {limits: {memory: 4g, cpus: '0.5'}}}
  orders_api:
    extends: {file: common.yaml, service: base}
    image: shop/orders
    healthcheck: {test: ["CMD", "wget", "-q", "localhost:5000/healthz"], interval: 2s, retries: 10, start_period: 10s}
    env_file: [orders.env]
    volumes: ["data:/var/lib/orders", "./orders.conf:/etc/orders/orders.conf:ro", "/etc/localtime:/etc/localtime:ro"]
    user: "1500:1500"
    working_dir: /srv
    tmpfs: /run/orders:size=8m
  report:
    image: shop/report
    profiles: [nightly]
volumes: {data: }
""",
    "common.yaml": "services:\n  base:\n    environment: [REGION=eu]\n    cap_add: [NET_ADMIN]\n    expose: [5000]\n",
    "orders.env": "# a comment\nexport MODE=production\nLIMIT='10 # not a comment'\nGREETING=\"hello ${MODE}\"\n",
    "orders.conf": "workers = 2\n",
    ".env": "TAG=7\n",
}


def test_a_system_is_carried_over_with_everything_that_a_pod_can_have(tmp_path: Path) -> None:
    found = imported(tmp_path, SHOP)
    assert found.plain["name"] == "shop" and found.plain["origin"]["kind"] == "compose"
    assert found.service("web") == {
        "image": "shop/web:7",
        "arguments": ["serve", "--port", "8000"],
        "environment": {"LOG_LEVEL": "info", "API": "http://orders_api:5000/v1", "EMPTY": "", "PRICE": "$5"},
        "ports": [8000, 9000, 9001, 7000],
        "resources": {"memory": "2Gi", "cpu": 0.5, "processes": 256},
        "depends_on": ["orders-api"],
    }
    assert found.service("orders-api") == {
        "image": "shop/orders",
        "working_directory": "/srv",
        "user": 1500,
        "aliases": ["orders_api"],
        "environment": {"MODE": "production", "LIMIT": "10 # not a comment", "GREETING": "hello production", "REGION": "eu"},
        "files": {"/etc/orders/orders.conf": "topology.files/orders-api/etc-orders-orders.conf"},
        "writable": {"/var/lib/orders": "256Mi", "/run/orders": "8Mi"},
        "ports": [5000],
        "ready": {"command": ["wget", "-q", "localhost:5000/healthz"], "timeout": "30s"},
        "resources": {"memory": "512Mi", "cpu": 1.0, "processes": 256},
    }
    assert found.service("report")["mode"] == "left-out" and "--profile" in found.service("report")["reason"]
    assert (tmp_path / "topology.files/orders-api/etc-orders-orders.conf").read_text() == "workers = 2\n"


def test_what_is_not_carried_over_is_said_at_its_place(tmp_path: Path) -> None:
    found = imported(tmp_path, SHOP)
    assert found.said("service web", "replicas") == ["changed: a pod has one of each"]
    assert found.said("service web", "resources.memory") == ["changed: bounded"]
    assert found.said("service orders_api", "cap_add")[0].startswith("left out: ")
    assert found.said("service orders_api", "volumes /etc/localtime") == ["left out: /etc/localtime is the machine's own"]
    line = next(line for line in found.lines if line["key"] == "cap_add")
    assert (line["file"].rpartition("/")[2], line["line"], line["column"]) == ("common.yaml", 4, 5)
    scaled = next(line for line in found.lines if line["key"] == "replicas")
    assert (scaled["was"], scaled["now"]) == ("3", "1")


def test_later_files_lie_over_earlier_ones(tmp_path: Path) -> None:
    over = """
services:
  web:
    image: shop/web:9
    command: other
    ports: !override ["81:8001"]
    environment: {LOG_LEVEL: debug}
    deploy: !reset null
    depends_on: [report]
  report: {profiles: !reset []}
"""
    found = imported(tmp_path, {**SHOP, "over.yaml": over}, "compose.yaml", "over.yaml")
    web = found.service("web")
    assert (web["image"], web["arguments"], web["ports"]) == ("shop/web:9", ["other"], [8001])
    assert web["environment"]["LOG_LEVEL"] == "debug" and web["environment"]["API"]
    assert web["resources"]["cpu"] == 1.0 and web["depends_on"] == ["orders-api", "report"]


def test_a_directory_brings_its_override_and_profiles_are_chosen(tmp_path: Path) -> None:
    files = {**SHOP, "compose.override.yaml": "services: {web: {image: 'shop/web:over'}}"}
    found = imported(tmp_path, files, ".", profiles=frozenset({"nightly"}))
    assert found.service("web")["image"] == "shop/web:over" and "mode" not in found.service("report")


def test_included_files_have_directories_and_variables_of_their_own(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "include: [team/compose.yaml, {path: [other.yaml], env_file: other.env}]\nservices: {a: {image: x, ports: [1000]}}",
        "team/compose.yaml": "services: {b: {image: 'y:${V}', env_file: b.env, ports: [1001]}}",
        "team/.env": "V=2",
        "team/b.env": "K=v",
        "other.yaml": "services: {c: {image: 'z:${V}', ports: [1002]}}",
        "other.env": "V=3",
    }
    found = imported(tmp_path, files)
    assert [found.service(name)["image"] for name in "abc"] == ["x", "y:2", "z:3"]
    assert found.service("b")["environment"] == {"K": "v"}


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("i:${A}", "i:one"),
        ("i:$A", "i:one"),
        ("i:${A:-x}", "i:one"),
        ("i:${E:-x}", "i:x"),
        ("i:${E-x}", "i:"),
        ("i:${U-x}", "i:x"),
        ("i:${U:-${A}-${U:-deep}}", "i:one-deep"),
        ("i:${A:+y}", "i:y"),
        ("i${U:+y}", "i"),
        ("i:${A:?needed}", "i:one"),
        ("i$${A}", "i${A}"),
    ],
)
def test_interpolation(written: str, image: str, tmp_path: Path) -> None:
    found = imported(tmp_path, {"compose.yaml": f"services: {{a: {{image: '{written}'}}}}", ".env": "A=one\nE=\n"})
    assert found.imported.carried.topology["services"]["a"].get("image", "") == image


def test_a_variable_without_a_value_is_named_once(tmp_path: Path) -> None:
    found = compose(tmp_path, "a: {image: 'i:x${TAG}', environment: {A: '${TAG}', B: '${KEY:?give it}'}, ports: [1]}")
    assert [line["why"] for line in found.lines if line["subject"] == "variable TAG"] == [
        "no .env or --env-file gives it a value: empty"
    ]
    assert any("give it" in line["why"] for line in found.lines if line["subject"] == "variable KEY")


def test_this_processs_environment_is_not_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAG", "of-this-shell")
    found = compose(tmp_path, "a: {image: 'i:x${TAG}', environment: [TAG], ports: [1]}")
    assert found.service("a")["image"] == "i:x" and "of-this-shell" not in found.everything
    assert found.said("service a", "environment.TAG") == ["left out: no .env or --env-file gives it a value"]


def test_ports_that_are_not_said_are_those_of_the_engine_or_of_its_callers(tmp_path: Path) -> None:
    found = compose(
        tmp_path,
        """
cache: {image: 'redis:7'}
api: {image: shop/api, environment: {CACHE: 'redis://cache:6379/0'}}
web: {image: shop/web, command: '--backend http://api:4000', ports: ['80:80']}
worker: {image: shop/worker}
""",
    )
    assert (found.service("cache")["ports"], found.service("cache")["protocol"]) == ([6379], "tcp")
    assert found.service("api")["ports"] == [4000] and found.service("worker")["ports"] == []
    assert "neither seeded nor graded" in found.said("service cache")[0]


def test_a_service_that_is_built_gets_the_name_that_compose_gives_it(tmp_path: Path) -> None:
    found = imported(tmp_path, {"compose.yaml": "name: shop\nservices: {web: {build: ./web, ports: [80]}}"})
    assert found.service("web")["image"] == "shop-web"
    assert found.said("service web", "build")[0].startswith("changed: podctl builds nothing")


def test_jobs_are_left_out_and_nobody_waits_for_them(tmp_path: Path) -> None:
    found = compose(
        tmp_path,
        "migrate: {image: m}\nweb: {image: w, ports: [80], depends_on: {migrate: {condition: service_completed_successfully}}}",
    )
    assert found.service("migrate")["mode"] == "left-out" and "depends_on" not in found.service("web")
    assert found.said("service web", "depends_on migrate") == ["left out: it is a job"]


def test_configs_and_secrets_are_given_as_files(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        {
            "compose.yaml": """
services:
  web:
    image: w
    ports: [80]
    configs: [plain, {source: inline, target: /etc/inline.conf}]
    secrets: [word, {source: word, target: other}]
configs: {plain: {file: plain.conf}, inline: {content: "a = ${A}"}}
secrets: {word: {file: word.txt}}
""",
            ".env": "A=1",
            "plain.conf": "x",
            "word.txt": "hunter2-is-here",
        },
    )
    files = found.service("web")["files"]
    assert files["/run/secrets/word"] == files["/run/secrets/other"] or files["/run/secrets/word"]["text"].startswith(
        "podctl-replaced"
    )
    assert "hunter2" not in found.everything
    assert (tmp_path / files["/etc/inline.conf"]).read_text() == "a = 1"
    assert "/plain" not in files and any("/plain" in line["key"] or line["key"] == "configs plain" for line in found.lines)


@pytest.mark.parametrize(
    ("services", "word"),
    [
        ("a: {image: x, depends_on: [b]}\nb: {image: y, depends_on: [a]}", "wait for each other"),
        ("a: {extends: b}\nb: {extends: a}", "extend one another"),
        ("a: {extends: {service: nobody}}", "no service 'nobody' to extend"),
        ("a: [x]", "expected a mapping for service a"),
        ("a: {image: '${A'}", "without }"),
        ('a: {image: x, command: "it\'s"}', "no command line"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(services: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        compose(tmp_path, services)
    said = refused.value.render()
    assert word in said and "compose.yaml:" in said, said
    assert not (tmp_path / "topology.yaml").exists()

"""What a backend cannot run is refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import make_project, ticket

from podctl.errors import SpecError
from podctl.pods.fit import refuse_unfit
from podctl.pods.values import placeholders
from podctl.spec.load import load_model
from podctl.spec.models import Topology
from podctl.spec.problems import SpecMistakes

HEAD = "apiVersion: podctl/v1\nkind: Topology\nname: t\n"


def topology(path: Path, text: str) -> Topology:
    file = path / "topology.yaml"
    file.write_text(HEAD + text)
    return load_model(file, Topology)


def mistakes(path: Path, text: str) -> str:
    with pytest.raises(SpecMistakes) as refused:
        topology(path, text)
    return refused.value.render()


IMAGES = "services:\n  web: {image: 'shop/web:1'}\n  gone: {image: x, mode: left-out, reason: r}\n  cache: {image: 'redis:7'}\n"


def test_each_service_of_an_image_is_named_with_the_choices(tmp_path: Path) -> None:
    value = topology(tmp_path, IMAGES)
    refuse_unfit(value, "docker", runs_images=True)
    with pytest.raises(SpecError) as refused:
        refuse_unfit(value, "local", runs_images=False)
    said = refused.value.render()
    assert "2 services" in said and "web: image shop/web:1" in said and "cache: image redis:7" in said and "gone" not in said
    assert "--backend docker" in said and "command:" in said and "stubbed" in said and "left-out" in said


@pytest.mark.parametrize(
    ("others", "stubbed"), [("", None), ("  web: {image: x}\n", "stubbed with routes: where it is no MCP server,")]
)
def test_a_tool_server_is_not_told_to_be_stubbed(tmp_path: Path, others: str, stubbed: str | None) -> None:
    value = topology(tmp_path, f"services:\n  crm: {{image: 'shop/crm:1', protocol: mcp}}\n{others}")
    with pytest.raises(SpecError) as refused:
        refuse_unfit(value, "kubernetes", runs_images=False)
    said = refused.value.render()
    assert "crm: image shop/crm:1" in said and ("stubbed" not in said if stubbed is None else stubbed in said)


def test_plan_says_so_before_a_run_and_by_the_backend(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("1")], scenario={"checks": [{"kind": "state"}]})
    (project.root / "topology.yaml").write_text(HEAD + IMAGES)
    (project.root / "boundary.yaml").write_text("apiVersion: podctl/v1\nkind: Boundary\nname: none\n")
    for backend in ("local", "kubernetes"):
        refused = project.podctl("plan", "scenario.yaml", "--backend", backend)
        assert refused.returncode == 2 and "[needs-images]" in refused.stderr and "web" in refused.stderr, refused.stderr
    assert project.podctl("plan", "scenario.yaml", "--backend", "docker").returncode == 0
    run = project.podctl("run", "scenario.yaml", "-q")
    assert run.returncode == 2 and "[needs-images]" in run.stderr and not (project.store / "runs").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("services: {a: {command: [x], files: {/etc/a: topology.yaml}}}", "`a` has files but no image"),
        ("services: {a: {command: [x], ports: []}}", "`a` has no ports"),
        ("services: {a: {mode: stubbed, ports: [], routes: [{path: /}]}}", "`a` has no ports"),
        ("services: {a: {command: [x], ready: {command: [y]}}}", "ready.command but no image"),
        ("services: {a: {image: i, ready: {path: /x, command: [y]}}}", "either path or command"),
        ("services: {a: {image: i, files: {/etc/../a: topology.yaml}}}", "not a plain path"),
        ("services: {a: {image: i, files: {/topology.yaml: topology.yaml}}}", "cannot be put there"),
        ("services: {a: {image: i, writable: {/d: 1Mi}, files: {/d/t: topology.yaml}}}", "cannot be put there"),
        ("services: {a: {image: i, writable: {/proc/x: 1Mi}}}", "not for a service to have"),
        ("services: {a: {image: i, aliases: [b]}, b: {image: i}}", "`b` is the name of something else"),
        ("services: {a: {image: i, aliases: [gateway]}}", "`gateway` is the name of something else"),
        ("services: {a: {image: i, user: 0}}", "a number of at least 1"),
        ("services: {a: {image: i, ports: []}, b: {image: i, environment: {A: '${a.url}'}}}", "names nothing here"),
    ],
)
def test_what_makes_no_sense_is_shown_at_its_place(text: str, word: str, tmp_path: Path) -> None:
    said = mistakes(tmp_path, text)
    assert word in said and "topology.yaml:4:" in said, said


def test_a_services_own_role_can_be_named_part_by_part(tmp_path: Path) -> None:
    value = topology(
        tmp_path,
        "databases: {db: {name: shop}}\nservices:\n  a: {image: i, ports: []}\n"
        "  b: {image: i, ports: [6379], protocol: tcp, arguments: ['${db.user}:${db.password}@${db.host}/${db.name}', '${a.host}']}\n",
    )
    found = placeholders(value, "python3", {"db": ("role", "word")})
    assert {name: found[f"db.{name}"] for name in ("user", "password", "name")} == {
        "user": "role",
        "password": "word",
        "name": "shop",
    }
    assert found["b.url"] == "tcp://b:6379" and found["a.host"] == "a" and "a.url" not in found

"""Components: put in place as values, told at both places where something is wrong, bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from podctl.errors import SpecError
from podctl.spec.components import expanded
from podctl.spec.load import load_bundle, load_model
from podctl.spec.models import Boundary
from podctl.spec.resolved import spec_digest
from podctl.spec.scaffold import scaffold
from podctl.spec.source import parse

HEAD = {"apiVersion": "podctl/v1", "kind": "Component", "name": "part"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    scaffold(tmp_path)
    return tmp_path


def component(path: Path, content: Any, **parameters: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({**HEAD, "parameters": parameters, "content": content}, sort_keys=False))


def scenario(project: Path, **changed: Any) -> Path:
    path = project / "scenario.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changed, sort_keys=False))
    return path


def refused(project: Path, **changed: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load_bundle(scenario(project, **changed))
    return caught.value.render()


def test_checks_of_a_component_stand_where_it_is_used_and_the_digest_is_that_of_writing_them_out(project: Path) -> None:
    written = yaml.safe_load((project / "scenario.yaml").read_text())["checks"]
    before = spec_digest(load_bundle(project / "scenario.yaml"))
    component(project / "parts/checks.yaml", written)
    bundle = load_bundle(scenario(project, checks=[{"use": "parts/checks.yaml"}]))
    assert spec_digest(bundle) == before
    assert bundle.components == (project / "parts/checks.yaml",)
    one_by_one = [{"use": "parts/first.yaml"}, *written[1:]]
    component(project / "parts/first.yaml", written[0])
    assert spec_digest(load_bundle(scenario(project, checks=one_by_one))) == before
    assert spec_digest(load_bundle(scenario(project, checks={"use": "parts/checks.yaml"}))) == before


def test_parameters_are_values_and_never_text(project: Path) -> None:
    evil = "1); DROP TABLE orders; --\n  - {kind: state}"
    query = "SELECT count(*) <= :most FROM orders WHERE customer = :who"
    content = [
        {
            "kind": "sql",
            "name": "few",
            "database": "shop-db",
            "query": query,
            "parameters": {"most": {"parameter": "most"}, "who": {"parameter": "who"}},
        }
    ]
    component(project / "c.yaml", content, most={"type": "number"}, who={"type": "text", "default": "x"})
    bundle = load_bundle(scenario(project, checks=[{"use": "c.yaml", "with": {"most": 3, "who": evil}}]))
    (check,) = bundle.scenario.checks
    assert (check.kind, check.query, check.parameters) == ("sql", query, {"most": 3, "who": evil})


def test_paths_are_relative_to_the_file_they_are_written_in(project: Path) -> None:
    (project / "parts/programs").mkdir(parents=True)
    (project / "mine").mkdir()
    command = {"kind": "command", "name": "c", "command": ["x"]}
    component(project / "parts/own.yaml", [{**command, "directory": "programs"}])
    component(
        project / "parts/told.yaml", [{**command, "name": "d", "directory": {"parameter": "where"}}], where={"type": "text"}
    )
    component(project / "parts/nested.yaml", [{"use": "told.yaml", "with": {"where": "programs"}}])
    uses = [{"use": "parts/own.yaml"}, {"use": "parts/told.yaml", "with": {"where": "mine"}}]
    assert [check.directory for check in load_bundle(scenario(project, checks=uses)).scenario.checks] == [
        project / "parts/programs",
        project / "mine",
    ]
    (nested,) = load_bundle(scenario(project, checks=[{"use": "parts/nested.yaml"}])).scenario.checks
    assert nested.directory == project / "parts/programs"


def test_what_stands_beside_a_use_comes_before_the_component(project: Path) -> None:
    component(project / "gate.yaml", {"pass_rate": 0.5, "boundary_violations": 3})
    gate = load_bundle(scenario(project, gate={"use": "gate.yaml", "pass_rate": 0.9})).scenario.gate
    assert (gate.pass_rate, gate.boundary_violations) == (0.9, 3)


def test_a_whole_scenario_and_parts_of_a_boundary_may_be_components(project: Path) -> None:
    path = project / "scenario.yaml"
    body = yaml.safe_load(path.read_text())
    component(
        project / "base.yaml",
        {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "name", "sample")},
    )
    before = load_bundle(path).scenario.checks
    path.write_text("apiVersion: podctl/v1\nkind: Scenario\nname: other\nuse: base.yaml\nsample: {size: 3}\n")
    bundle = load_bundle(path)
    assert (bundle.scenario.name, bundle.scenario.sample.size, bundle.scenario.checks) == ("other", 3, before)
    component(project / "orders.yaml", {"read": True, "update": {"parameter": "columns"}}, columns={"type": "list"})
    boundary = project / "b.yaml"
    boundary.write_text(
        "apiVersion: podctl/v1\nkind: Boundary\nname: b\ndatabases: {shop-db: {orders: {use: orders.yaml, with: {columns: [status]}}}}\n"
    )
    rule = load_model(boundary, Boundary).databases["shop-db"]["orders"]
    assert not isinstance(rule, str)
    assert rule.update == ("status",)


def test_where_keys_are_anybodys_use_is_a_key_like_others() -> None:
    text = "apiVersion: podctl/v1\nkind: Topology\nname: t\nservices: {a: {command: [x], environment: {use: nowhere.yaml}}}\n"
    from podctl.spec.models import Topology

    document = expanded(parse(text.encode(), Path("/nowhere/t.yaml")), Topology)
    assert (document.problems, document.broken) == ([], False)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, ["scenario.yaml:", "the component needs `most`, under `with`", "c.yaml:5:3"]),
        ({"most": "3"}, ["scenario.yaml:", "expected a number for `most`, found the text", "declared at", "c.yaml:5:3"]),
        ({"most": True}, ["expected a number for `most`, found true"]),
        ({"most": 3, "moost": 4}, ["scenario.yaml:", "has no parameter `moost`", "did you mean `most`?"]),
    ],
)
def test_what_is_wrong_with_parameters_is_told_at_both_places(project: Path, given: dict[str, Any], told: list[str]) -> None:
    component(project / "c.yaml", [{"kind": "state", "name": {"parameter": "most"}}], most={"type": "number"})
    said = refused(project, checks=[{"use": "c.yaml", "with": given}])
    assert [part for part in told if part not in said] == []


def test_a_mistake_in_a_component_is_shown_there_with_the_place_of_its_use(project: Path) -> None:
    component(project / "parts/c.yaml", [{"kind": "stat", "name": "x"}])
    said = refused(project, checks=[{"use": "parts/c.yaml"}])
    assert "c.yaml:6:9: expected `state`" in said
    assert "used at" in said and "scenario.yaml:" in said
    component(
        project / "parts/c.yaml", [{"kind": "state", "name": {"parameter": "nmae"}}], name={"type": "text", "default": "x"}
    )
    assert "no parameter is called `nmae`" in refused(project)


def test_circles_depth_number_and_size_are_bounded(project: Path) -> None:
    component(project / "a.yaml", [{"use": "b.yaml"}])
    component(project / "b.yaml", [{"use": "a.yaml"}])
    assert "in a circle: scenario.yaml -> a.yaml -> b.yaml -> a.yaml" in refused(project, checks=[{"use": "a.yaml"}])
    for number in range(12):
        component(project / f"n{number}.yaml", [{"use": f"n{number + 1}.yaml"}])
    component(project / "n12.yaml", [{"kind": "state"}])
    assert "more than 8 deep" in refused(project, checks=[{"use": "n0.yaml"}])
    component(project / "small.yaml", [{"kind": "state"}])
    assert "more than 200 uses" in refused(project, checks=[{"use": "small.yaml"} for _ in range(201)])
    component(project / "t1.yaml", [{"kind": "output", "name": "o", "path": "p", "equals": list(range(9000))}])
    assert "more than 50000 values" in refused(project, checks=[{"use": "t1.yaml"}] * 6)


def test_a_file_that_is_none_or_no_component_is_told(project: Path) -> None:
    assert "no such file" in refused(project, checks=[{"use": "nowhere.yaml"}])
    assert "expected kind: Component" in refused(project, checks=[{"use": "agent.yaml"}])
    component(project / "g.yaml", [{"kind": "state"}])
    assert "takes nothing beside `use` and `with`" in refused(project, checks=[{"use": "g.yaml", "name": "x"}])


def test_specs_of_others_use_nothing_outside_their_own_directory(project: Path) -> None:
    outside = project.parent / "outside.yaml"
    component(outside, [{"kind": "state"}])
    path = scenario(project, checks=[{"use": str(outside)}])
    assert load_bundle(path).scenario.checks
    with pytest.raises(SpecError, match="lies outside"):
        load_bundle(path, within=project)
    (project / "link.yaml").symlink_to(outside)
    with pytest.raises(SpecError, match="lies outside"):
        load_bundle(scenario(project, checks=[{"use": "link.yaml"}]), within=project)

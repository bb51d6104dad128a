"""The JSON Schemas accept what the loader accepts, and refuse what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from podctl.spec.load import load_model
from podctl.spec.models import Scenario, Topology
from podctl.spec.problems import SpecMistakes
from podctl.spec.scaffold import scaffold
from podctl.spec.schema import json_schema
from podctl.spec.shape import KINDS
from podctl.spec.source import read

_TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
#: What the little validator below knows, and what says nothing about a value.
_KNOWN = {
    "$ref",
    "anyOf",
    "oneOf",
    "type",
    "const",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "minLength",
    "maxLength",
    "items",
}
_KNOWN |= {"properties", "patternProperties", "additionalProperties", "required", "propertyNames"}
_SILENT = {"$schema", "$id", "$defs", "title", "description", "default", "format", "discriminator"}


def valid(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Whether a value fits, for the keywords our schemas use; an unknown keyword is an error of this test."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= _KNOWN | _SILENT, set(schema) - _KNOWN - _SILENT
    if "$ref" in schema and not valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root):
        return False
    if "anyOf" in schema and not any(valid(value, branch, root) for branch in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(valid(value, branch, root) for branch in schema["oneOf"]) != 1:
        return False
    if "type" in schema and not _typed(value, schema["type"]):
        return False
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:  # noqa: RUF021
        return False
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return fits and ("pattern" not in schema or re.search(schema["pattern"], value) is not None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high, above = schema.get("minimum", value), schema.get("maximum", value), schema.get("exclusiveMinimum")
        below = schema.get("exclusiveMaximum")
        return bool(low <= value <= high and (above is None or value > above) and (below is None or value < below))
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(valid(item, schema.get("items", True), root) for item in value)
    return not isinstance(value, dict) or _object(value, schema, root)


def _typed(value: Any, name: str) -> bool:
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPES[name])


def _object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    patterns = schema.get("patternProperties", {})
    for key, entry in value.items():
        matching = [sub for pattern, sub in patterns.items() if re.search(pattern, key)]
        if key in schema.get("properties", {}):
            matching.append(schema["properties"][key])
        if not all(valid(entry, sub, root) for sub in matching or [schema.get("additionalProperties", True)]):
            return False
    return all(key in value for key in schema.get("required", ()))


@pytest.mark.parametrize("name", ["scenario", "topology", "tickets", "agent", "boundary"])
def test_the_first_project_fits_its_schemas(name: str, tmp_path: Path) -> None:
    scaffold(tmp_path)
    value = read(tmp_path / f"{name}.yaml").root.value
    kind = value["kind"]
    assert valid(value, json_schema(kind), json_schema(kind))
    assert valid(value, json_schema(), json_schema())
    assert [other for other in KINDS if valid(value, json_schema(other), json_schema(other))] == [kind]
    assert not valid({**value, "unknown": 1}, json_schema(kind), json_schema(kind))


SECTIONS = [
    ("limits: {wall: 30}", True),
    ("limits: {wall: 30s}", True),
    ("limits: {wall: 0.5}", True),
    ("limits: {wall: 0}", False),
    ("limits: {wall: 30 seconds}", False),
    ("limits: {wall: true}", False),
    ("limits: {memory: 64Mi, disk: 1000}", True),
    ("limits: {memory: 64MB}", False),
    ("limits: {memory: 1.5}", False),
    ("limits: {dollars: 0.25, run_dollars: '3'}", True),
    ("limits: {dollars: -1}", False),
    ("limits: {dollars: 1 USD}", False),
    ("gate: {cost_per_ticket: null, seconds_per_ticket: 90s}", True),
    ("gate: {cost_per_ticket: '0.10', seconds_per_ticket: null}", True),
    ("gate: {pass_rate: 1.5}", False),
    ("gate: {pass_rate: 1}", True),
    ("sample: {size: 20, include: [a]}", True),
    ("sample: {size: all}", True),
    ("sample: {size: 0}", False),
    ("sample: {design: equl}", False),
    ("model: {prices: {m: {input: 1, output: '2.50'}}}", True),
    ("model: {prices: {m: {input: 1}}}", False),
    ("run: {seed: -3, ttl: 1h}", True),
    ("run: {pods: on}", False),
]


def with_section(project: Path, section: str) -> tuple[Any, bool]:
    """The first project's scenario with this section in place of its own, and whether the loader takes it."""
    path = project / "scenario.yaml"
    lines = path.read_text().splitlines()
    key = section.split(":")[0]
    start = next((index for index, line in enumerate(lines) if line.startswith(f"{key}:")), len(lines))
    end = next((index for index in range(start + 1, len(lines)) if not lines[index].startswith(" ")), len(lines))
    path.write_text("\n".join([*lines[:start], section, *lines[end:]]) + "\n")
    try:
        load_model(path, Scenario)
    except SpecMistakes:
        return read(path).root.value, False
    return read(path).root.value, True


@pytest.mark.parametrize(("section", "accepted"), SECTIONS)
def test_schema_and_loader_agree(section: str, accepted: bool, tmp_path: Path) -> None:
    scaffold(tmp_path)
    value, loaded = with_section(tmp_path, section)
    schema = json_schema("Scenario")
    assert (loaded, valid(value, schema, schema)) == (accepted, accepted)


COMPONENTS = {
    "gate": "{pass_rate: 0.5}",
    "check": "{kind: output, name: action, path: output.action, reference: action}",
    "checks": "[{kind: output, name: action, path: output.action, reference: action}]",
    "prices": "{big: {input: 1, output: 2}}",
    "whole": "{limits: {wall: 30s}}",
}
USES = [
    ("gate: {use: gate.yaml}", True),
    ("gate: {use: gate.yml.txt}", False),
    ("gate: {with: {a: 1}}", False),
    ("gate: {use: gate.yaml, pass_rate: 0.9}", True),
    ("gate: {use: gate.yaml, pass_rat: 0.9}", False),
    ("gate: {use: gate.yaml, with: 5}", False),
    ("checks: [{use: check.yaml}]", True),
    ("checks: [{use: checks.yaml}, {kind: output, name: other, path: output.other, reference: other}]", True),
    ("checks: [{use: check.yaml, name: other}]", True),
    ("checks: {use: checks.yaml}", True),
    ("checks: {use: checks.yaml, name: other}", False),
    ("checks: [use]", False),
    ("model: {prices: {use: prices.yaml}}", True),
    ("model: {prices: {use: prices.yaml, small: {input: 1, output: 2}}}", True),
    ("model: {prices: {use: prices.yaml, small: {input: 1}}}", False),
    ("model: {prices: {big: {use: prices.yaml}}}", None),
    ("sample: {include: {use: checks.yaml}}", False),
    ("use: whole.yaml", True),
    ("use: 5", False),
]


@pytest.mark.parametrize(("section", "accepted"), USES)
def test_what_a_component_may_stand_for_fits(section: str, accepted: bool | None, tmp_path: Path) -> None:
    """None: the schema cannot know what is in the component."""
    scaffold(tmp_path)
    for name, content in COMPONENTS.items():
        text = f"apiVersion: podctl/v1\nkind: Component\nname: {name}\ncontent: {content}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    value, loaded = with_section(tmp_path, section)
    fits = [valid(value, schema, schema) for schema in (json_schema("Scenario"), json_schema())]
    assert (loaded, fits) == (bool(accepted), [accepted is not False] * 2)


@pytest.mark.parametrize(
    ("services", "fits"),
    [("{use: s.yaml}", True), ("{use: s.yaml, web: {command: [x]}}", True), ("{use: s.yaml, web: {command: 5}}", False)],
)
def test_names_beside_a_use_are_held_to_what_names_stand_for(services: str, fits: bool, tmp_path: Path) -> None:
    head = "apiVersion: podctl/v1\n"
    (tmp_path / "s.yaml").write_text(head + "kind: Component\nname: s\ncontent: {api: {command: [x]}}\n")
    path = tmp_path / "topology.yaml"
    path.write_text(head + f"kind: Topology\nname: t\nservices: {services}\n")
    try:
        loaded = bool(load_model(path, Topology))
    except SpecMistakes:
        loaded = False
    schema = json_schema("Topology")
    assert (loaded, valid(read(path).root.value, schema, schema)) == (fits, fits)


def test_the_example_projects_fit_with_their_components() -> None:
    root = Path(__file__).parents[3]
    schema, used = json_schema(), 0
    for path in sorted([*root.glob("scenarios/*.yaml"), *root.glob("fixtures/**/*.yaml")]):
        value = read(path).root.value
        if isinstance(value, dict) and value.get("apiVersion") == "podctl/v1":
            used += "use:" in path.read_text()
            assert valid(value, schema, schema), path
    assert used >= 3


@pytest.mark.parametrize("kind", ["Component", "Suite", "Case"])
def test_files_that_are_read_without_components_may_not_use_any(kind: str) -> None:
    assert '"use"' not in json.dumps(json_schema(kind))


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_schema_says_what_it_is(kind: str | None) -> None:
    schema = json_schema(kind)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:podctl:schema:v1:{(kind or 'podctl').lower()}"
    assert schema["title"] == (kind or "podctl")
    assert schema["description"]
    references = set(re.findall(r"#/\$defs/(\w+)", json.dumps(schema)))
    assert references == set(schema["$defs"])


def test_every_default_fits_its_own_schema() -> None:
    schema = json_schema()
    for name, definition in schema["$defs"].items():
        for field, entry in definition.get("properties", {}).items():
            if "default" in entry:
                assert valid(entry["default"], entry, schema), f"{name}.{field}"


def test_an_unknown_kind_has_no_schema() -> None:
    with pytest.raises(KeyError):
        json_schema("Pod")

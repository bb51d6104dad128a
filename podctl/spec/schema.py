"""JSON Schemas of what users write, for editors and other programs."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from podctl.spec.base import Model, parse_decimal, parse_duration, parse_size
from podctl.spec.shape import KINDS
from podctl.spec.tickets import parse_age

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_AS_TEXT: dict[Any, tuple[str, str]] = {
    parse_duration: (r"^\s*[0-9]+(\.[0-9]+)?(ms|s|m|h)\s*$", "seconds, or a duration such as 250ms, 90s, 5m or 1h"),
    parse_age: (r"^\s*[0-9]+(\.[0-9]+)?(h|d|w)\s*$", "seconds, or an age such as 12h, 7d or 4w"),
    parse_size: (r"^\s*[0-9]+(Ki|Mi|Gi|k|M|G)?\s*$", "bytes, or a size such as 64Ki, 512Mi or 1Gi"),
    parse_decimal: (r"^\s*[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?\s*$", "dollars, such as 5 or 0.25"),
}
#: Files that are read without components.
_WITHOUT_USE = ("Component", "Suite", "Case")
_USE = {
    "use": {"type": "string", "pattern": r"\.ya?ml$", "description": "a component's file, which this mapping is made of"},
    "with": {"type": "object", "description": "what the component is told: its parameters"},
}
_ANNOTATIONS = ("title", "description", "default")
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


class _Generator(GenerateJsonSchema):
    """Shows durations, sizes and amounts as users may write them: a number or text."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        shown = super().function_before_schema(schema)
        known = _AS_TEXT.get(schema["function"]["function"])
        if known is None:
            return shown
        number = shown["anyOf"][0] if "anyOf" in shown else shown
        return {"anyOf": [number, {"type": "string", "pattern": known[0]}], "description": known[1]}


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """The schema (draft 2020-12) of one kind of file, or of all: one of them, told apart by ``kind``.

    Raises KeyError for a kind that is none of `podctl.spec.shape.KINDS`.
    """
    wanted: dict[str, type[Model]] = KINDS if kind is None else {kind: KINDS[kind]}
    mode: JsonSchemaMode = "validation"
    references, shared = models_json_schema([(model, mode) for model in wanted.values()], schema_generator=_Generator)
    definitions: dict[str, Any] = _standard(shared["$defs"])
    if kind not in _WITHOUT_USE:
        definitions = _with_use(definitions)
    head = {"$schema": DIALECT, "$id": f"urn:podctl:schema:v1:{(kind or 'podctl').lower()}"}
    if kind is not None:
        return {**head, **definitions.pop(kind), "$defs": definitions}
    return {
        **head,
        "title": "podctl",
        "description": "Any of podctl's files; kind says which.",
        "oneOf": [references[(model, mode)] for model in wanted.values()],
        "$defs": definitions,
    }


def _standard(schema: Any) -> Any:
    """pydantic writes the bounds of a number-or-text beside the choice, under names no validator knows; they move inside."""
    if isinstance(schema, list):
        return [_standard(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _standard(value) for key, value in schema.items()}
    if "anyOf" in result:
        moved = {_BOUNDS[key]: result.pop(key) for key in _BOUNDS if key in result and not isinstance(result[key], dict)}
        result["anyOf"] = [branch if branch.get("type") == "string" else {**branch, **moved} for branch in result["anyOf"]]
    return result


def _with_use(definitions: dict[str, Any]) -> dict[str, Any]:
    """``use`` in place of whatever a component may stand for (`podctl.spec.shape.takes_components`): a mapping that podctl knows, one of
    such, or a list of such. Keys beside it are those that might be there without it."""
    models = {name for name, definition in definitions.items() if "properties" in definition}

    def is_model(schema: Any) -> bool:
        branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
        return schema.get("$ref", "").removeprefix("#/$defs/") in models or any(map(is_model, branches))

    def is_mapping(schema: Any) -> bool:
        return schema.get("type") == "object" or is_model(schema) or any(map(is_mapping, schema.get("anyOf", ())))

    def changed(schema: Any) -> Any:
        if isinstance(schema, list):
            return [changed(entry) for entry in schema]
        if not isinstance(schema, dict):
            return schema
        result = {key: changed(value) for key, value in schema.items() if key != "discriminator"}
        if "oneOf" in result and is_model(schema):
            result["anyOf"] = result.pop("oneOf")  # one that uses a component may become any of them
        if schema.get("type") == "array" and is_model(schema.get("items", {})):
            return _or(result, {"type": "object", "properties": _USE, "required": ["use"], "additionalProperties": False})
        values = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        if schema.get("type") == "object" and any(isinstance(one, dict) and is_mapping(one) for one in values):
            using = {**result, "properties": _USE, "required": ["use"]}
            if "patternProperties" in using:
                named = using["patternProperties"].items()
                using["patternProperties"] = {pattern.replace("^", "^(?!(use|with)$)", 1): value for pattern, value in named}
            return _or(result, using)
        return result

    made = {}
    for name, definition in definitions.items():
        made[name] = changed(definition)
        if name in models and name not in (*_WITHOUT_USE, "Parameter"):
            required = made[name].pop("required", [])
            itself = [key for key in ("apiVersion", "kind") if name in KINDS]
            made[name]["properties"] |= _USE
            made[name]["anyOf"] = [
                {"required": required, "properties": {"use": False, "with": False}},
                {"required": ["use", *itself]},
            ]
    return made


def _or(schema: dict[str, Any], using: dict[str, Any]) -> dict[str, Any]:
    about = {key: schema[key] for key in _ANNOTATIONS if key in schema}
    return {**about, "anyOf": [{key: value for key, value in one.items() if key not in about} for one in (schema, using)]}

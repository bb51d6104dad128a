"""A part of a spec that several files use, with parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from podctl.spec.base import Model, Name

ParameterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Parameter(Model):
    """What a component is told where it is used; without a default it has to be."""

    type: Literal["text", "number", "boolean", "list", "mapping"]
    default: Any = Field(None, description="what holds when nothing is said")
    description: str = ""


class Component(Model):
    """``content`` takes the place of the mapping that says ``use``; ``{parameter: NAME}`` in it is what was said under ``with``."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Component"]
    name: Name
    description: str = ""
    parameters: dict[ParameterName, Parameter] = Field(default_factory=dict)
    content: dict[str, Any] | list[Any]

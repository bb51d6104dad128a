"""docs/scenarios.md: its examples are right, and no field is left out."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from podctl.spec import models
from podctl.spec.shape import KINDS, validate
from podctl.spec.source import parse

PAGE = Path(__file__).parents[3] / "docs" / "scenarios.md"
SECTIONS = {section.split("\n", 1)[0]: section for section in PAGE.read_text().split("\n## ")[1:]}


def test_every_kind_has_a_section() -> None:
    assert list(SECTIONS) == ["Scenario", "Topology", "Tickets", "Agent", "Boundary", "Capture", "Masking"]
    assert set(SECTIONS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_right(kind: str) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", SECTIONS[kind], re.DOTALL)
    assert len(examples) == 1
    value, problems = validate(parse(examples[0].encode(), PAGE), KINDS[kind])
    assert problems == []
    assert value is not None


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind: str) -> None:
    """What several kinds hold, in the first one's section."""
    text = SECTIONS[kind].split("```")[2]
    before: set[type[BaseModel]] = set().union(*(reachable(KINDS[first]) for first in takewhile(kind.__ne__, SECTIONS)))
    words = set(re.findall(r"`(\w+)`", text)) | {"apiVersion", "kind", "name", "description"}
    for model in reachable(KINDS[kind]) - before:
        missing = set(model.model_fields) - words
        assert not missing, f"{model.__name__}: {missing}"


def reachable(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and every model its fields can hold."""
    found: set[type[BaseModel]] = set()
    pending: list[object] = [model]
    while pending:
        annotation = pending.pop()
        pending += get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, models.Model) and annotation not in found:
            found.add(annotation)
            pending += [field.annotation for field in annotation.model_fields.values()]
    return found

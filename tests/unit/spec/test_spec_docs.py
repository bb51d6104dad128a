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
from podctl.spec.tickets import Pull

PAGE = Path(__file__).parents[3] / "docs" / "scenarios.md"
SECTIONS = {section.split("\n", 1)[0]: section for section in PAGE.read_text().split("\n## ")[1:]}


def test_every_kind_has_a_section() -> None:
    assert list(SECTIONS) == [
        "Scenario",
        "Topology",
        "Tickets",
        "Agent",
        "Boundary",
        "Capture",
        "Masking",
        "Quarantine",
        "Volume",
        "Prices",
        "PriceLock",
        "Ladder",
        "Component",
        "Suite",
        "Case",
        "Attack",
        "Chaos",
    ]
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


TICKETS = (PAGE.parent / "tickets.md").read_text()
HEAD = "apiVersion: podctl/v1\nkind: Tickets\nname: t\n"
SCENARIO = (
    "apiVersion: podctl/v1\nkind: Scenario\nname: s\ntopology: t\ntickets: t\nagent: t\nboundary: t\nchecks: [{kind: state}]\n"
)


@pytest.mark.parametrize("pull", re.findall(r"`((?:github|jira|zendesk|servicenow|sql): \{.*?\})`", TICKETS))
def test_every_example_of_a_pull_is_right(pull: str) -> None:
    _, problems = validate(parse(f"{HEAD}source: t.jsonl\npull:\n  {pull}\n".encode(), PAGE), KINDS["Tickets"])
    assert problems == []


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", TICKETS, re.DOTALL))
def test_every_example_of_tickets_and_samples_is_right(example: str) -> None:
    kind, head = ("Scenario", SCENARIO) if example.startswith("sample:") else ("Tickets", HEAD)
    source = "" if "source:" in example or kind == "Scenario" else "source: t.jsonl\n"
    _, problems = validate(parse(f"{head}{source}{example}".encode(), PAGE), KINDS[kind])
    assert problems == []


def test_there_is_an_example_of_every_pull() -> None:
    shown = set(re.findall(r"`(github|jira|zendesk|servicenow|sql): \{", TICKETS))
    assert shown == set(Pull.model_fields) - {"overlap", "patience"}


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

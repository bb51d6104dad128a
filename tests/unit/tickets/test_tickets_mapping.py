"""Paths into nested rows, first-of and joins, and strata of several dimensions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.errors import SpecError
from podctl.spec.models import Tickets
from podctl.tickets.fields import ABSENT, find, leads_somewhere, plain_parts, without
from podctl.tickets.mapping import Reading, rich_text
from podctl.tickets.sources import load_tickets
from podctl.tickets.strata import groupings
from podctl.tickets.types import Ticket

ISSUE = {
    "number": 7,
    "title": "It is broken",
    "body": None,
    "labels": [{"name": "bug", "id": 1}, {"name": "p1", "id": 2}],
    "priority": None,
    "deep": {"list": [{"tags": ["x", "y"]}, {"tags": []}, {"other": 1}]},
}


def load(path: Path, rows: list[dict[str, Any]], **spec: Any) -> list[Ticket]:
    (path / "t.json").write_text(json.dumps(rows))
    return load_tickets(Tickets.model_validate({**HEAD, "source": path / "t.json", **spec}))


HEAD = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": "t"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("labels[].name", ["bug", "p1"]),
        ("labels[0].name", "bug"),
        ("labels[-1].name", "p1"),
        ("labels[9].name", None),
        ("labels.name", ABSENT),
        ("labels[].nme", ABSENT),
        ("number[]", ABSENT),
        ("priority.name", None),
        ("priority[].name", None),
        ("deep.list[].tags", [["x", "y"], []]),
        ("deep.list[].tags[]", [["x", "y"], []]),
        ("deep.list[0].tags[1]", "y"),
        ("title.name", ABSENT),
    ],
)
def test_a_path_finds(path: str, value: Any) -> None:
    assert find(ISSUE, path) == value


def test_texts_are_joined_and_the_first_that_has_something_is_taken(tmp_path: Path) -> None:
    rows = [ISSUE, {**ISSUE, "number": 8, "body": "Very.", "labels": []}]
    text = {"join": ["title", "body", {"first": ["absent", "labels[].name"], "otherwise": "no label"}], "separator": " | "}
    stratum = [{"field": {"first": ["priority.name", "labels[0].name"], "otherwise": "untriaged"}}, "labels[].name"]
    first, second = load(tmp_path, rows, fields={"id": "number", "text": text, "stratum": stratum})
    assert (first.text, second.text) == ("It is broken | bug, p1", "It is broken | Very. | no label")
    assert (first.stratum, second.stratum) == ("bug / bug+p1", "untriaged / (none)")


def test_a_row_that_lacks_every_alternative_is_a_mistake_with_its_row(tmp_path: Path) -> None:
    rows = [ISSUE, {key: value for key, value in ISSUE.items() if key != "title"} | {"number": 8}]
    with pytest.raises(SpecError) as caught:
        load(tmp_path, rows, fields={"id": "number", "text": {"first": ["headline", "title"]}})
    assert "t.json:row 2: the text, 'headline', is missing" in caught.value.render()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": "titel"}, "text names 'titel', which no row has [tickets-invalid]\n  did you mean 'title'?"),
        ({"text": "labels[].nam"}, "did you mean 'labels[].name'?"),
        ({"stratum": ["number", {"field": "priorty"}]}, "stratum names 'priorty', which no row has"),
        ({"stratum": "tags"}, "did you mean 'deep.list[].tags'?"),
        ({"id": "nubmer"}, "did you mean 'number'?"),
        ({"text": "labels"}, "expected text or a number, found a list; labels[] reads it"),
        ({"stratum": {"field": "title", "bins": [3]}}, "the stratum: expected a number, found 'It is broken'"),
        (
            {"stratum": {"field": "title", "age": ["7d"]}},
            "expected a time as ISO 8601 has it, found 'It is broken'; time_format",
        ),
    ],
)
def test_a_path_that_matches_nothing_is_told_with_what_was_meant(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, [ISSUE, {**ISSUE, "number": 8}], fields={"id": "number", **fields})
    assert said in caught.value.render()


def test_hidden_paths_go_through_lists(tmp_path: Path) -> None:
    (ticket,) = load(tmp_path, [ISSUE], fields={"id": "number"}, hide=["labels[].name", "deep.list[].tags"])
    assert ticket.fields["labels"] == [{"id": 1}, {"id": 2}]
    assert ticket.fields["deep"] == {"list": [{}, {}, {"other": 1}]}


names = st.sampled_from(["a", "b", "a.b", "c"])
values = st.recursive(
    st.integers(0, 3) | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner), max_leaves=12
)


@given(st.dictionaries(names, values), st.lists(st.sampled_from(["a", "b.c", "a.b", "a.b.c", "c[].a", "b.a.b.c"]), max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_is_hidden_is_gone_and_the_rest_is_as_it_was(row: dict[str, Any], paths: list[str]) -> None:
    before = json.dumps(row)
    rest = without(row, paths)
    assert json.dumps(row) == before
    assert not any(leads_somewhere(rest, plain_parts(path)) for path in paths)
    if not any(leads_somewhere(row, plain_parts(path)) for path in paths):
        assert rest == row
    assert set(row) - set(rest) <= set(paths)


def test_a_text_in_atlassians_document_format_is_read_as_its_words() -> None:
    paragraph = {"type": "paragraph", "content": [{"type": "text", "text": "Please "}, {"type": "text", "text": "cancel"}]}
    item = {"type": "listItem", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "order 7"}]}]}
    mention = {"type": "paragraph", "content": [{"type": "mention", "attrs": {"text": "@ann"}}, {"type": "hardBreak"}, 3]}
    document = {"type": "doc", "version": 1, "content": [paragraph, {"type": "bulletList", "content": [item, item]}, mention]}
    assert rich_text(document) == "Please cancel\norder 7\norder 7\n@ann"
    bomb: dict[str, Any] = {"type": "text", "text": "deep"}
    for _ in range(500):
        bomb = {"type": "x", "content": [bomb]}
    assert rich_text(bomb) == ""


TIMED = [{"id": n, "opened": f"2026-03-{day:02}T12:00:00Z", "text": "x" * n, "hours": n, "sev": sev, "q": "?"}
         for n, (day, sev) in enumerate([(31, "1 - High"), (30, "2"), (24, "3"), (1, "4")])]  # fmt: skip


@pytest.mark.parametrize(
    ("dimension", "names"),
    [
        ("sev", ["1 - High", "2", "3", "4"]),
        ({"field": "sev", "values": {"high": ["1 - High", "2"]}}, ["high", "high", "3", "4"]),
        ({"field": "sev", "values": {"high": ["1 - High", "2"]}, "otherwise": "low"}, ["high", "high", "low", "low"]),
        ({"field": "hours", "bins": [1, 2.5]}, ["under 1", "1 to 2.5", "1 to 2.5", "2.5 and over"]),
        ({"field": "text", "length": [2]}, ["under 2", "under 2", "2 and over", "2 and over"]),
        ({"field": "hours", "quantiles": 2}, ["part 1 of 2", "part 1 of 2", "part 2 of 2", "part 2 of 2"]),
        ({"field": "opened", "age": ["36h", "7d"]}, ["under 36h", "under 36h", "7d and over", "7d and over"]),
        ({"field": "opened", "age": ["2d"], "at": "2026-03-31"}, ["under 2d", "under 2d", "2d and over", "2d and over"]),
        ("q", ["(none)"] * 4),
        ({"field": "q", "bins": [1]}, ["(none)"] * 4),
        ({"field": "q", "quantiles": 3}, ["(none)"] * 4),
        ({"field": "q", "age": ["1d"]}, ["(none)"] * 4),
    ],
)
def test_strata_by_a_dimension(tmp_path: Path, dimension: Any, names: list[str]) -> None:
    tickets = load(tmp_path, TIMED, empty=["?"], fields={"stratum": dimension})
    assert [ticket.stratum for ticket in tickets] == names
    both = load(tmp_path, TIMED, empty=["?"], fields={"stratum": [dimension, "id"]})
    assert [ticket.stratum for ticket in both] == [f"{name} / {n}" for n, name in enumerate(names)]


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        ({"field": "hours", "bins": [1], "quantiles": 2}, "at most one of"),
        ({"field": "hours", "bins": [2, 1]}, "rising order"),
        ({"field": "hours", "otherwise": "x"}, "values beside otherwise"),
        ({"field": "opened", "age": ["7 days"]}, "an age such as 12h, 7d or 4w"),
        ({"field": "opened", "age": ["7d"], "at": "yesterday"}, "newest, or a date"),
    ],
)
def test_a_dimension_that_makes_no_sense_is_refused(dimension: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tickets.model_validate({**HEAD, "source": "t.json", "fields": {"stratum": dimension}})


@given(st.lists(st.integers(-5, 5) | st.floats(-100, 100), min_size=1, max_size=60), st.integers(2, 8))
@settings(max_examples=200, deadline=None)
def test_quantiles_are_as_even_as_ties_allow(values: list[float], count: int) -> None:
    rows = [{"v": value} for value in values]
    dimension = Tickets.model_validate({**HEAD, "source": "t", "fields": {"stratum": {"field": "v", "quantiles": count}}})
    (grouping,) = groupings(dimension.fields.stratum, rows, Reading())
    parts = [(row["v"], grouping.namer(row)) for row in rows]
    by_value = {value: {part for other, part in parts if other == value} for value, _ in parts}
    assert all(len(part) == 1 for part in by_value.values()), "equal values are in one part"
    ordered = [part for _, part in sorted(parts)]
    assert ordered == sorted(ordered), "parts rise with values"
    if len(set(values)) == len(values):
        sizes = Counter(ordered).values()
        assert max(sizes) <= -(-len(values) // count) + 1

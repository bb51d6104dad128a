"""Any value a model can have comes back from YAML as it was; any bytes give a value or a SpecError."""

from __future__ import annotations

import json
import os
import string
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podctl.errors import SpecError
from podctl.spec import models
from podctl.spec import tickets as spec_tickets
from podctl.spec.checks import check
from podctl.spec.load import load_bundle, load_model
from podctl.spec.scaffold import scaffold
from podctl.spec.shape import KINDS, validate
from podctl.spec.source import parse

FILE = Path("/nowhere/spec.yaml")

text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
paths = st.text(string.ascii_letters + "._-é", min_size=1, max_size=8).map(Path)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text.filter("<<".__ne__), inner, max_size=3),
    max_leaves=5,
)
names = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
texts = st.lists(text, max_size=3).map(tuple)
dollars = st.decimals(0, 10**6, places=4)
seconds = st.floats(0.001, 604800)
ports = st.integers(1, 65535)
columns = st.booleans() | texts

resources = st.builds(models.Resources, memory=st.integers(1, 2**40), cpu=st.floats(0.01, 64), processes=st.integers(1, 4096))
seeds = st.builds(
    models.Seed, sql=st.lists(paths, max_size=2).map(tuple), csv=st.dictionaries(text.filter("<<".__ne__), paths, max_size=2)
)
databases = st.builds(
    models.Database, name=st.just("shop"), mode=st.sampled_from(["mirrored", "left-out"]), port=ports, seed=seeds
)
routes = st.builds(models.StubRoute, path=text.map("/{}".format), status=st.integers(100, 599), body=json_values)
services = st.builds(
    models.Service,
    mode=st.sampled_from(["mirrored", "stubbed", "left-out"]),
    command=texts,
    directory=st.none() | paths,
    environment=st.dictionaries(text.filter("<<".__ne__), text, max_size=2),
    ports=st.lists(ports, min_size=1, max_size=2).map(tuple),
    ready=st.none() | st.builds(models.Ready, path=st.just("/x"), port=st.none() | ports, timeout=seconds),
    depends_on=st.lists(names, max_size=2).map(tuple),
    resources=resources,
    routes=st.lists(routes, max_size=2).map(tuple),
    reason=text,
)
checks = st.lists(
    st.one_of(
        st.builds(models.StateCheck, kind=st.just("state"), name=names, ignore=texts),
        st.builds(models.SqlCheck, kind=st.just("sql"), name=names, database=names, query=text, expect=json_values),
        st.builds(
            models.OutputCheck, kind=st.just("output"), name=names, path=text, equals=json_values, matches=st.none() | text
        ),
        st.builds(
            models.CommandCheck,
            kind=st.just("command"),
            name=names,
            command=st.lists(text, min_size=1, max_size=2).map(tuple),
            directory=paths,
            timeout=seconds,
        ),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda check: check.name,
).map(tuple)
limits = st.builds(models.Limits, wall=seconds, tokens=st.integers(0, 2**40), dollars=dollars, memory=st.integers(1, 2**40))
prices = st.builds(models.Price, input=dollars, output=dollars, cache_read=st.none() | dollars)
upstreams = st.builds(
    models.Upstream, mode=st.sampled_from(["none", "live"]), prices=st.dictionaries(names, prices, max_size=2)
)
rates = st.dictionaries(text.filter("<<".__ne__), st.floats(0, 1), max_size=3)
samples = st.builds(
    models.Sample,
    size=st.just("all") | st.integers(1, 10**6),
    design=st.sampled_from(["proportional", "equal", "neyman"]),
    seed=st.integers(-5, 5),
    include=texts,
    minimum=st.integers(0, 10),
    prior=st.builds(spec_tickets.Prior, pass_rates=rates) | st.builds(spec_tickets.Prior, deviations=rates) | st.none(),
    held_out=st.none() | st.builds(spec_tickets.HeldOut, share=st.floats(0.01, 0.99), key=text.filter(bool)),
    frozen=st.none() | paths,
)
firsts = st.builds(spec_tickets.First, first=st.lists(text, min_size=1, max_size=2).map(tuple), otherwise=st.none() | text)
edges = st.lists(st.integers(1, 10**6), min_size=1, max_size=3, unique=True).map(sorted).map(tuple)
dimensions = st.one_of(
    st.builds(spec_tickets.Dimension, field=text | firsts),
    st.builds(spec_tickets.Dimension, field=text, bins=edges),
    st.builds(spec_tickets.Dimension, field=text, quantiles=st.integers(2, 20)),
    st.builds(spec_tickets.Dimension, field=text, age=edges, at=st.sampled_from(["newest", "2026-03-31"])),
    st.builds(spec_tickets.Dimension, field=text, length=edges),
    st.builds(
        spec_tickets.Dimension,
        field=text,
        values=st.dictionaries(text.filter("<<".__ne__), texts, max_size=2),
        otherwise=st.none() | text,
    ),
)
joined = st.builds(spec_tickets.Joined, join=st.lists(text | firsts, min_size=1, max_size=2).map(tuple), separator=text)
pulls = st.one_of(
    st.builds(spec_tickets.Pull, github=st.builds(spec_tickets.GitHub, repository=st.just("a/b"), labels=texts)),
    st.builds(spec_tickets.Pull, jira=st.builds(spec_tickets.Jira, url=text, jql=text, token_env=st.none()), patience=seconds),
    st.builds(spec_tickets.Pull, sql=st.builds(spec_tickets.Sql, url=text, table=text, key=text)),
)
gates = st.builds(models.Gate, pass_rate=st.none() | st.floats(0, 1), cost_per_ticket=st.none() | dollars)


def head(kind: str) -> dict[str, Any]:
    return {"apiVersion": st.just("podctl/v1"), "kind": st.just(kind), "name": names}


specs: st.SearchStrategy[models.Model] = st.one_of(
    st.builds(
        models.Topology,
        **head("Topology"),
        description=text,
        databases=st.dictionaries(names, databases, max_size=2),
        services=st.dictionaries(names, services, max_size=2),
    ),
    st.builds(
        models.Boundary,
        **head("Boundary"),
        databases=st.dictionaries(
            names,
            st.dictionaries(text.filter("<<".__ne__), st.builds(models.TableRule, read=columns, update=columns), max_size=2),
            max_size=2,
        ),
    ),
    st.builds(
        models.Tickets,
        **head("Tickets"),
        source=paths,
        fields=st.builds(
            spec_tickets.TicketFields,
            id=text,
            text=st.none() | text | firsts | joined,
            stratum=st.none() | text | dimensions | st.lists(text | dimensions, max_size=3).map(tuple),
        ),
        hide=texts,
        events=st.none() | st.builds(spec_tickets.Events, order=st.lists(text, min_size=1, max_size=2).map(tuple), last=texts),
        pull=st.none() | pulls,
    ),
    st.builds(
        models.Agent,
        **head("Agent"),
        version=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,9}", fullmatch=True),
        command=st.lists(text, min_size=1, max_size=3).map(tuple),
        directory=paths,
        environment=st.dictionaries(text.filter("<<".__ne__), text, max_size=2),
        model=st.builds(models.ModelSettings, name=st.none() | text, parameters=st.dictionaries(text.filter("<<".__ne__), json_values, max_size=2)),
    ),
    st.builds(
        models.Scenario,
        **head("Scenario"),
        topology=paths, tickets=paths, agent=paths, boundary=paths,
        sample=samples, limits=limits, model=upstreams, checks=checks, gate=gates,
    ),
)  # fmt: skip


@given(specs, st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_spec_comes_back_as_it_was(spec: models.Model, flow: bool) -> None:
    plain = json.loads(spec.model_dump_json())
    written = yaml.safe_dump(plain, default_flow_style=flow, sort_keys=False, allow_unicode=False, width=10**6)
    document = parse(quoted(written, plain).encode(), FILE)
    value, problems = validate(document, type(spec))
    assert problems == []
    assert value == spec


def test_json_s_escapes_of_a_large_character_are_one_character() -> None:
    assert parse(rb'{"a": "\ud83d\ude00!", "\ud83d\ude00": 1}', FILE).root.value == {"a": "\U0001f600!", "\U0001f600": 1}


def quoted(written: str, plain: Any) -> str:
    """PyYAML writes YAML 1.1: when it would read back otherwise under YAML 1.2's rules, JSON, which is YAML too, is used."""
    try:
        same = parse(written.encode(), FILE).root.value == plain
    except SpecError:
        same = False
    return written if same else json.dumps(plain)


@given(
    st.sampled_from(sorted(KINDS)),
    st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_value_or_a_spec_error(kind: str, data: bytes) -> None:
    head = f"apiVersion: podctl/v1\nkind: {kind}\nname: x\n".encode()
    for content in (data, head + data):
        try:
            document = parse(content, FILE)
        except SpecError as error:
            assert error.render()
        else:
            consume(document, kind)


syntax = st.lists(
    st.sampled_from(
        ["a", "kind", "checks", "databases", "services", "name", "x", "- ", ": ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ", ", "&a ",
         "*a", "!!int ", "!", "|\n", ">-\n", "'", '"', "# ", "%YAML 1.1\n", "%TAG ! x\n", "---\n", "...\n", "? ", "\\x", "1", ".5", "1e5",
         "null", "true", "~", "0x", "<<", "\t", "\r", "\x85", "\u2028", "\ufeff", "é", "\U0001f600", "${", "}", "sql", "output", "mode"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(st.sampled_from(sorted(KINDS)), syntax)
@settings(max_examples=400, deadline=None)
def test_any_yaml_gives_a_value_or_a_spec_error(kind: str, content: str) -> None:
    for before in (
        "",
        f"apiVersion: podctl/v1\nkind: {kind}\nname: x\n",
        f"kind: {kind}\nservices:\n  a:\n    ",
        f"kind: {kind}\nchecks:\n- ",
    ):
        try:
            document = parse((before + content).encode(), FILE)
        except SpecError as error:
            assert error.render()
        else:
            consume(document, kind)


def consume(document: Any, kind: str) -> None:
    value, problems = validate(document, KINDS[kind])
    problems += check(document, KINDS[kind])
    assert value is not None or problems
    for problem in problems:
        assert 1 <= problem.at.line <= len(document.lines)
        assert 1 <= problem.at.column <= len(document.lines[problem.at.line - 1]) + 1
        assert problem.render()


@given(st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_a_project_gives_a_bundle_or_a_spec_error(tmp_path: Path, data: st.DataObject) -> None:
    target = tmp_path / os.urandom(8).hex()
    scaffold(target)
    name = data.draw(st.sampled_from(["scenario", "topology", "tickets", "agent", "boundary"]))
    path = target / f"{name}.yaml"
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(len(content), start + 12)))
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=6) | syntax.map(str.encode)) + content[stop:])
    try:
        load_bundle(target / "scenario.yaml")
    except SpecError as error:
        assert error.render()


@pytest.mark.parametrize("amount", ["0.1", "5", "'5'", "'0.10'", "1e-3", "7.0"])
def test_amounts_are_exact(amount: str, tmp_path: Path) -> None:
    start = "apiVersion: podctl/v1\nkind: Scenario\nname: x\n"
    for role in ("topology", "tickets", "agent", "boundary"):
        (tmp_path / role).touch()
        start += f"{role}: {role}\n"
    (tmp_path / "s.yaml").write_text(f"{start}checks: [{{kind: state}}]\nlimits: {{dollars: {amount}}}\n")
    assert load_model(tmp_path / "s.yaml", models.Scenario).limits.dollars == Decimal(amount.strip("'"))

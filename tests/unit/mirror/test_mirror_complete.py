"""Whatever a source says is carried over or named: generated sources, with keys that nobody knows and secrets planted."""

from __future__ import annotations

import string
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import Result, imported

from podctl.mirror.composekeys import AS_IT_IS, LEFT_OUT
from podctl.mirror.kuberneteskeys import OF_CONTAINER, OF_POD
from podctl.spec.placeholders import expand

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.sampled_from(["web", "orders_api", "Cache", "db", "billing.v2", "a", "queue", "search", "9lives", "gateway"])
images = st.sampled_from(
    ["shop/web:1", "postgres:16", "redis:7", "mysql:8", "reg:5000/x@sha256:0", "bitnami/postgresql", "not an image"]
)
unknown = st.text(string.ascii_lowercase, min_size=3, max_size=9).map(lambda word: f"zz_{word}")
plain = st.one_of(st.booleans(), st.integers(-5, 70000), st.text(string.printable, max_size=12), st.none(), st.just("1.10"))
values = st.one_of(plain, st.lists(plain, max_size=2), st.dictionaries(unknown, plain, max_size=2))
#: No word of another value, and none that a replacement could have in it.
secrets = st.text(string.ascii_letters + string.digits, min_size=6, max_size=10).map(lambda text: f"Zq7{text}9xK")
variables = st.sampled_from(["LEVEL", "DATABASE_URL", "API_HOST", "MODE", "COUNT", "dotted.name"])


@st.composite
def compose_services(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """Services with known and unknown keys, and the secrets that were planted in them."""
    planted: list[str] = []

    def secret() -> str:
        planted.append(draw(secrets))
        return planted[-1]

    services: dict[str, Any] = {}
    chosen = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    for name in chosen:
        environment = draw(st.dictionaries(variables, plain, max_size=3))
        if draw(st.booleans()):
            environment["SOME_PASSWORD"] = secret()
        if draw(st.booleans()):
            environment["LINK"] = f"postgres://u:{secret()}@{draw(st.sampled_from([*chosen, 'db.example.com']))}:5432/x"
        service: dict[str, Any] = {"image": draw(images), "environment": environment}
        service |= draw(st.dictionaries(unknown, values, max_size=2))
        service |= draw(st.dictionaries(st.sampled_from(sorted({*LEFT_OUT, *AS_IT_IS})), plain.filter(bool), max_size=3))
        if draw(st.booleans()):
            service["command"] = ["run", "--api-key", secret(), "--plain", "x"]
        if draw(st.booleans()):
            service["ports"] = draw(st.lists(st.sampled_from([80, "8080:81", "53:53/udp", "x"]), max_size=3, unique=True))
        if draw(st.booleans()):
            service["healthcheck"] = {"test": f"curl -u a --password={secret()} localhost", draw(unknown): 1}
        if draw(st.integers(0, 4)) == 0:
            service["profiles"] = ["later"]
        services[name] = service
    return services, planted


@QUICK
@given(compose_services())
def test_each_compose_service_is_told_of_once_and_each_key_is_named(drawn: tuple[dict[str, Any], list[str]]) -> None:
    services, planted = drawn
    with tempfile.TemporaryDirectory() as directory:
        found = imported(Path(directory), {"compose.yaml": yaml.safe_dump({"services": services})})
    check(found, {f"service {name}": service for name, service in services.items()}, planted)
    for name, service in services.items():
        if not _is_left_out(found, name):
            for variable in service["environment"]:
                assert found.said(f"service {name}", f"environment.{variable}"), variable


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=40)
#: What readers and writers of YAML differ over, and what placeholders and variables look like.
odd = st.sampled_from(
    ["yes", "0x1F", "1e3", "1_000", "012", "~", "null", ".5", "-", "---", "a: b", "#x", " lead", "trail ", "\ttab", "a\n\nb\n", "\n", "=", "<<",
     "2024-01-01", "${a.url}", "$${x}", "${", "$x", "{{ .V }}", "'\"", "\u2028", "\ufeff", "é", "!tag", "&a", "*a", "%x", "@x", "`", "1:30", ""]
)  # fmt: skip


@QUICK
@given(
    st.dictionaries(st.sampled_from(["A", "B", "C", "D"]), texts | odd | st.tuples(odd, texts, odd).map("".join), min_size=1)
)
def test_a_value_that_is_imported_as_it_was_is_what_it_was(values: dict[str, str]) -> None:
    services = {
        "web": {"image": "w", "ports": [80], "environment": {name: text.replace("$", "$$") for name, text in values.items()}}
    }
    with tempfile.TemporaryDirectory() as directory:
        found = imported(Path(directory), {"compose.yaml": yaml.safe_dump({"services": services}, allow_unicode=True)})
    environment = found.topology.services["web"].environment
    assert environment.keys() == values.keys()
    for name, text in values.items():
        if found.said("service web", f"environment.{name}") == ["imported: "]:
            assert expand(environment[name], {}) == text


def check(found: Result, subjects: dict[str, dict[str, Any]], planted: list[str]) -> None:
    whole = Counter(line["subject"] for line in found.lines if not line["key"])
    for subject, keys in subjects.items():
        assert whole[subject] == 1, (subject, whole)
        said = {line["key"] for line in found.lines if line["subject"] == subject}
        if _is_left_out(found, subject.removeprefix("service ")):
            continue
        for key in keys:
            if key not in ("environment", "image"):
                assert any(one == key or one.startswith((f"{key} ", f"{key}.")) for one in said) or keys[key] in (
                    [],
                    {},
                    None,
                ), (subject, key, said)
    for secret in planted:
        assert secret not in found.everything
    assert all(line["line"] >= 1 and line["file"] for line in found.lines)
    assert {line["status"] for line in found.lines} <= {"imported", "changed", "stubbed", "left out"}


def _is_left_out(found: Result, name: str) -> bool:
    return any(
        line["subject"] == f"service {name}" and not line["key"] and line["status"] == "left out" for line in found.lines
    )


@st.composite
def pods(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]], list[str]]:
    """Objects, what each that runs has of unknown keys, and secrets."""
    planted: list[str] = []
    objects: list[dict[str, Any]] = []
    subjects: dict[str, dict[str, Any]] = {}
    for name in draw(st.lists(st.sampled_from(["web", "api", "cache", "db", "worker"]), min_size=1, max_size=4, unique=True)):
        planted.append(draw(secrets))
        strange = draw(st.dictionaries(unknown, plain, max_size=2))
        known = draw(st.dictionaries(st.sampled_from(sorted(set(OF_CONTAINER) - {"livenessProbe"})), plain, max_size=2))
        of_pod = draw(st.dictionaries(st.sampled_from(sorted(OF_POD)), plain, max_size=2)) | draw(
            st.dictionaries(unknown, plain, max_size=1)
        )
        environment = [
            {"name": "A_TOKEN", "value": planted[-1]},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]
        container = {"name": name, "image": draw(images), "env": environment, **strange, **known}
        kind = draw(st.sampled_from(["Pod", "Deployment", "StatefulSet", "Job"]))
        pod = {"containers": [container], **of_pod}
        spec = pod if kind == "Pod" else {"template": {"spec": pod}, **draw(st.dictionaries(unknown, plain, max_size=1))}
        objects.append(
            {"apiVersion": "v1" if kind == "Pod" else "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        )
        subjects[f"service {name}"] = {**strange, **known, **of_pod} | (
            {} if kind in ("Pod", "Job") else {key: 1 for key in spec if key != "template"}
        )
    others = draw(st.lists(st.sampled_from(["Ingress", "Wonder", "Role"]), max_size=2, unique=True))
    for kind in others:
        objects.append({"apiVersion": "x/v1", "kind": kind, "metadata": {"name": "other"}})
        subjects[f"{kind} other"] = {}
    planted.append(draw(secrets))
    objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": planted[-1]}})
    return objects, subjects, planted


@QUICK
@given(pods())
def test_each_object_is_told_of_once_and_each_key_is_named(
    drawn: tuple[list[dict[str, Any]], dict[str, dict[str, Any]], list[str]],
) -> None:
    objects, subjects, planted = drawn
    with tempfile.TemporaryDirectory() as directory:
        found = imported(Path(directory), {"all.yaml": yaml.safe_dump_all(objects)})
    check(found, subjects, planted)


def test_the_same_source_gives_the_same_topology_wherever_it_lies(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "services: {a: {image: x, environment: {API_TOKEN: abcdef123456}, volumes: ['./c:/etc/c']}}",
        "c": "k=v",
    }
    first, second = imported(tmp_path / "one", files), imported(tmp_path / "two", files)
    assert first.plain["origin"]["digest"] == second.plain["origin"]["digest"] != ""
    assert first.plain["services"] == second.plain["services"]
    assert imported(tmp_path / "two", {**files, "c": "k=w"}).plain["origin"]["digest"] != first.plain["origin"]["digest"]

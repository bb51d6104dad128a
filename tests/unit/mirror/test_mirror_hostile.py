"""Sources that mean harm, or are broken: a clear error, nothing read that may not be, nothing half-made left."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from importing import compose, imported

from podctl.errors import PodctlError, SpecError
from podctl.mirror.files import MAX_SOURCE
from podctl.mirror.interpolate import BadInterpolation, env_file

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
NESTED = "a: " + "[" * 5000 + "]" * 5000
DOLLARS = "services: {a: {image: '" + "${X:-" * 200 + "x" + "}" * 200 + "'}}"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (f"{BOMB}services: {{x: {{image: i, command: *h}}}}", "comes to more than"),
        (NESTED, "nested more than"),
        (DOLLARS, "nested more than"),
        ("services: {a: {image: x}}\nservices: {b: {image: y}}\n", "was given before, at"),
        ("services:\n  a: {image: x}\n  a: {image: y}\n", "was given before, at"),
        ("services: {a: {<<: [1]}}", "expected a mapping to merge"),
        ("services: {a: {image: [}}", "not valid YAML"),
        ("services: {a: {image: \"\\xff\\xfe\"}}\x00", "not allowed"),
        ("", "file is empty"),
        ("services: {}\n", "there are no services"),
        ("- a\n- b\n", "expected a mapping"),
        ("services: {a: {image: x}}\n---\nservices: {b: {image: y}}\n", "a second document"),
    ],
)  # fmt: skip
def test_what_is_broken_is_refused_quickly(text: str, word: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(PodctlError) as refused:
        imported(tmp_path, {"compose.yaml": text})
    assert time.monotonic() - began < 10 and word in refused.value.render(), refused.value.render()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


@pytest.mark.parametrize(
    "unit",
    ["a ", "a", "redis-cli ", "mysql -p", "://", "http://", "<a ", "--a ", "a=", 'a="', "a:", "x.y.", "ab/", "eyJ", "-----BEGIN A PRIVATE KEY-----", "${a", "a@b:"],
)  # fmt: skip
def test_texts_that_are_made_to_be_slow_are_not(unit: str, tmp_path: Path) -> None:
    text = (unit * 100_000)[: 100 * 2**10]
    began = time.monotonic()
    compose(
        tmp_path,
        f"a: {{image: x, ports: [80], volumes: ['./c.conf:/etc/c.conf'], environment: {{A: {json.dumps(text.replace('$', 'S'))}}}}}",
        **{"c.conf": text},
    )
    with contextlib.suppress(BadInterpolation):
        env_file(f"A={text}\n", {}, lambda name, why: None)
    assert time.monotonic() - began < 10  # a hundredth of what a quadratic pattern takes


def test_a_quote_that_is_not_closed_is_found_out_quickly() -> None:
    began = time.monotonic()
    with pytest.raises(BadInterpolation, match="line 1 has a quote"):
        env_file('A="' + "x\n" * 300_000, {}, lambda name, why: None)
    assert time.monotonic() - began < 5
    assert env_file("A='one\ntwo'\nB=3\n", {}, lambda name, why: None) == [("A", "one\ntwo", 1), ("B", "3", 3)]


def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with open(tmp_path / "src" / "compose.yaml", "wb") as huge:
        huge.truncate(MAX_SOURCE + 1)
    with pytest.raises(SpecError, match="larger than 8 MiB"):
        imported(tmp_path, {}, "compose.yaml")
    (tmp_path / "src" / "compose.yaml").write_bytes(b"services: {a: {image: \xff\xfe}}")
    with pytest.raises(SpecError, match="UTF-8"):
        imported(tmp_path, {}, "compose.yaml")


@pytest.mark.parametrize("kind", ["pipe", "directory", "nothing"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    path = tmp_path / "src" / "compose.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(SpecError):
        imported(tmp_path, {}, "compose.yaml")


@pytest.mark.parametrize("link", [False, True], ids=["by its path", "by a link"])
def test_nothing_outside_of_the_projects_directory_is_read(link: bool, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    for name in ("x.env", "x.conf", "x.yaml"):
        (tmp_path / "private" / name).write_text("OUTSIDE=leaked-words\n")
    (tmp_path / "src").mkdir()
    way = "../private"
    if link:
        (tmp_path / "src" / "inside").symlink_to(tmp_path / "private")
        way = "inside"
    services = (
        f"a: {{image: x, ports: [80], env_file: [{way}/x.env], volumes: ['./{way}/x.conf:/etc/x.conf', './{way}:/etc/all']}}"
    )
    found = compose(tmp_path, services)
    assert "leaked-words" not in found.everything and "OUTSIDE" not in found.everything
    for key in (f"env_file {way}/x.env", "volumes /etc/x.conf", "volumes /etc/all"):
        (said,) = found.said("service a", key)
        assert said.startswith("left out: ") and "--within" in said
    for text in (f"include: [{way}/x.yaml]", f"services: {{a: {{extends: {{file: {way}/x.yaml, service: b}}}}}}"):
        with pytest.raises(SpecError) as refused:
            imported(tmp_path, {"compose.yaml": text})
        assert "--within" in refused.value.render() and "compose.yaml:1:" in refused.value.render()


def test_within_widens_what_may_be_read(tmp_path: Path) -> None:
    files = {"deploy/compose.yaml": "services: {a: {image: x, env_file: ../shared.env}}", "shared.env": "MODE=shared\n"}
    found = imported(tmp_path, files, within=tmp_path / "src")
    assert found.service("a")["environment"] == {"MODE": "shared"}


def test_a_link_within_a_directory_that_a_service_is_given_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("leaked-words")
    (tmp_path / "src" / "conf").mkdir(parents=True)
    (tmp_path / "src" / "conf" / "ok.conf").write_text("a = 1")
    (tmp_path / "src" / "conf" / "x.conf").symlink_to(tmp_path / "secret.txt")
    found = compose(tmp_path, "a: {image: x, ports: [80], volumes: ['./conf:/etc/conf']}")
    assert "leaked-words" not in found.everything and "outside" in found.said("service a", "volumes /etc/conf")[0]


def test_files_that_include_one_another_are_refused(tmp_path: Path) -> None:
    files = {"compose.yaml": "include: [b.yaml]\nservices: {a: {image: x}}", "b.yaml": "include: [compose.yaml]\n"}
    with pytest.raises(SpecError, match="include one another"):
        imported(tmp_path, files)


def test_names_that_steer_terminals_and_paths_do_not(tmp_path: Path) -> None:
    services = """
"a\\e[31m/../../x": {image: x, ports: [80], volumes: ['d:/etc/../../root', 'e:/proc/x', './f:/podctl/x'], environment: {"B\\e]0;x\\a": "1"}}
gateway: {image: y, ports: [81]}
localhost: {image: z, ports: [82]}
"""
    found = compose(tmp_path, services, f="x")
    assert set(found.plain["services"]) == {"a-31m-x", "gateway-service", "localhost-service"}
    assert "\x1b" not in "".join(line.render() for line in found.imported.said.lines)
    assert "writable" not in found.service("a-31m-x") and "files" not in found.service("a-31m-x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src", "topology.import.json", "topology.yaml"]


def test_an_environment_that_looks_like_placeholders_means_itself(tmp_path: Path) -> None:
    found = compose(
        tmp_path, "a: {image: x, ports: [80], environment: {A: '$${a.url}', B: '$$${python}x'}, command: 'echo $${HOME}'}"
    )
    assert found.service("a")["environment"]["A"] == "$${a.url}"
    assert found.service("a")["arguments"] == ["echo", "$${HOME}"]


def test_what_is_there_already_is_replaced_on_demand_only(tmp_path: Path) -> None:
    from podctl.mirror.writing import write

    found = compose(tmp_path, "a: {image: x, ports: [80], volumes: ['./c:/etc/c']}", c="1")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(SpecError, match="is there already"):
        write(found.imported, tmp_path / "topology.yaml", "podctl", force=False)
    write(found.imported, tmp_path / "topology.yaml", "podctl", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_a_killed_import_left_goes_with_the_next(tmp_path: Path) -> None:
    for owner in ("999999999", str(os.getpid())):
        (tmp_path / f".topology.partial-{owner}-x" / "topology.files").mkdir(parents=True)
    compose(tmp_path, "a: {image: x, ports: [80]}")
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert left == [f".topology.partial-{os.getpid()}-x"], "what another import is at stays"

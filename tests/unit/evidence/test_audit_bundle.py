"""A run's bundle is checked without a store; whatever was changed in it is named, and what is hostile in it does nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_audit_log import KEY, OTHER, execute, opened, whole_run

from podctl.evidence.audit_bundle import BundleCheck, BundleProblem, check_bundle, export
from podctl.evidence.audit_check import read_checkpoint
from podctl.evidence.audit_entries import Entry


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run`` and ``run.tar``: of the second of two runs, with the log going on after it."""
    root = tmp_path_factory.mktemp("bundle")
    store = opened((root / "store", None), KEY)
    whole_run(store, "r-0")
    whole_run(store)
    store.append([Entry("test.later")])
    for out in ("run", "run.tar"):
        export(store, "r-1", root / out)
    store.close()
    return root


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported / "run", tmp_path / "run"))


def problems(check: BundleCheck) -> list[str]:
    return [
        *check.log.problems,
        *check.run.problems,
        *(f"{one.id}: {line}" for one in check.run.attempts for line in one.problems),
    ]


@pytest.mark.parametrize("form", ["run", "run.tar"])
def test_what_was_exported_is_shown_to_be_whole(exported: Path, form: str) -> None:
    found = check_bundle(exported / form, [KEY.public])
    assert problems(found) == [] and found.log.signer == KEY.public and len(found.run.attempts) == 3
    assert found.log.words == f"signed by {KEY.public.id} up to entry 10"
    unknown = check_bundle(exported / form)
    assert problems(unknown) == [] and "whose public key nobody named" in unknown.log.words
    assert problems(check_bundle(exported / form, [OTHER.public])) == ["the checkpoint is not signed by a key that was named"]


def test_a_tar_file_of_the_same_run_is_the_same_to_the_byte(tmp_path: Path) -> None:
    store = opened((tmp_path / "store", None), KEY)
    whole_run(store)
    for out in ("a.tar", "b.tar"):
        export(store, "r-1", tmp_path / out)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert (tmp_path / "a.tar").stat().st_mode & 0o777 == 0o600, "nobody else reads evidence"
    with pytest.raises(BundleProblem, match="is there already"):
        export(store, "r-1", tmp_path / "a.tar")
    execute((tmp_path / "store", None), "UPDATE audit SET entry = '{}' WHERE position = 1")
    with pytest.raises(BundleProblem, match="proves nothing"):
        export(store, "r-1", tmp_path / "c.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "store"]
    store.close()


def lines_of(path: Path, change: Callable[[list[dict]], object]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


ATTEMPT = "attempts/0001-1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / ATTEMPT / "evidence.jsonl").write_bytes(b""), "0001-1: records 1 to 5 of those that were sealed are gone"),
        (lambda root: (root / ATTEMPT / "stdout").unlink(), "0001-1: stdout is gone"),
        (lambda root: shutil.rmtree(root / ATTEMPT), "0001-1: evidence.jsonl is missing"),
        (lambda root: lines_of(root / "entries.jsonl", lambda lines: lines.pop(2)), "entry 3 of the bundle does not follow"),
        (lambda root: lines_of(root / "entries.jsonl", lambda lines: lines.pop(0)), "entry 1 of the bundle does not follow"),
        (lambda root: lines_of(root / "entries.jsonl", lambda lines: lines.reverse()), "does not follow"),
        (
            lambda root: lines_of(
                root / "entries.jsonl",
                lambda lines: lines[2].update(entry=lines[2]["entry"].replace('"passed":false', '"passed":true')),
            ),
            "entry 3 of the bundle is not in the log that the checkpoint is of",
        ),
        (lambda root: lines_of(root / "entries.jsonl", lambda lines: lines[2].update(proof="")), "entry 3 of the bundle is not in the log"),
        (lambda root: lines_of(root / "entries.jsonl", lambda lines: lines[2].update(proof=7)), "entry 3 of the bundle is not in the log"),
        (lambda root: lines_of(root / "entries.jsonl", lambda lines: lines[2].update(entry=[])), "is none of the run's"),
        (lambda root: (root / "entries.jsonl").write_text(""), "the log does not know the run"),
        (
            lambda root: lines_of(
                root / "attempts.jsonl",
                lambda lines: lines[1].update(result=lines[1]["result"].replace('"passed":false', '"passed":true')),
            ),
            "0001-1: its result in the store is not the one in the log",
        ),
        (lambda root: lines_of(root / "attempts.jsonl", lambda lines: lines.pop()), "attempt 0002-1 is in the log and not in the store"),
        (lambda root: lines_of(root / "attempts.jsonl", lambda lines: lines[1].update(state="planned")), "0001-1: the log says that it ended"),
        (lambda root: lines_of(root / "attempts.jsonl", lambda lines: lines.append(lines[1])), "attempt 0001-1 is there twice"),
        (lambda root: lines_of(root / "run.json", lambda lines: lines[0].update(verdict="fail")), "the verdict, its findings or notes"),
        (lambda root: (root / "run.json").write_text("[]"), "the verdict, its findings or notes"),
        (lambda root: shutil.copytree(root / ATTEMPT, root / "attempts" / "0009-1"), "evidence of an attempt 0009-1 was added"),
        (lambda root: (root / "other").write_text("x"), "other does not belong into a bundle"),
        (lambda root: (root / ATTEMPT / "evil\x1b[2J").write_text("x"), "\\x1b[2J does not belong"),
        (
            lambda root: lines_of(root / "bundle.json", lambda lines: lines[0].update(checkpoint=lines[0]["checkpoint"].replace("\n10\n", "\n11\n"))),
            "the checkpoint is not signed by a key that was named",
        ),
    ],
)  # fmt: skip
def test_what_was_changed_in_a_bundle_is_named(bundle: Path, change: Callable[[Path], object], said: str) -> None:
    change(bundle)
    told = problems(check_bundle(bundle, [KEY.public]))
    assert any(said in line for line in told), told


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "bundle.json").unlink(),
        lambda root: (root / "bundle.json").write_text("{}"),
        lambda root: (root / "bundle.json").write_text("[" * 100_000),
        lambda root: (root / "bundle.json").write_text(" " * (1 << 21)),
        lambda root: lines_of(root / "bundle.json", lambda lines: lines[0].update(run="../../etc")),
        lambda root: lines_of(root / "bundle.json", lambda lines: lines[0].update(checkpoint="none")),
        lambda root: lines_of(root / "bundle.json", lambda lines: lines[0].update(keys=[""] * 99)),
        lambda root: lines_of(root / "attempts.jsonl", lambda lines: lines[0].update(id="../../../../etc")),
        lambda root: (root / "entries.jsonl").write_text("x" * 300_000),
        lambda root: ((root / "run.json").unlink(), (root / "run.json").symlink_to("/etc/hostname")),
        lambda root: ((root / "run.json").unlink(), os.mkfifo(root / "run.json")),
    ],
)
def test_what_is_no_bundle_is_refused_in_words(bundle: Path, change: Callable[[Path], object]) -> None:
    change(bundle)
    with pytest.raises(BundleProblem, match="no audit bundle"):
        check_bundle(bundle)


def test_links_in_a_bundle_are_not_followed(bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (bundle / ATTEMPT).rename(moved)
    (bundle / ATTEMPT).symlink_to(moved)
    assert any("0001-1 does not belong" in line for line in problems(check_bundle(bundle)))


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for member, content in members:
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 2000,
        tar((member("bundle.json", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        tar((member("bundle.json", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        tar((member("bundle.json", tarfile.FIFOTYPE), b"")),
        tar((member("bundle.json"), b"{}"), (member("bundle.json"), b"{}")),
        tar((member("../../bundle.json"), b"{}")),
        tar((member("bundle.json"), b"{}"))[:600],
    ],
)
def test_a_hostile_tar_file_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(BundleProblem, match="no audit bundle"):
        check_bundle(tmp_path / "b.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=4)), min_size=1, max_size=6), st.integers(0, 1 << 20))
def test_no_damage_to_a_tar_file_goes_unseen_or_ends_the_check(
    exported: Path, tmp_path: Path, edits: list[tuple[int, bytes]], cut: int
) -> None:
    whole = (exported / "run.tar").read_bytes()
    content = bytearray(whole)
    for at, new in edits:
        at %= len(content)
        content[at : at + len(new)] = new
    path = tmp_path / "fuzzed.tar"
    path.write_bytes(content if cut % 3 else content[: cut % len(content)])
    try:
        found = check_bundle(path, [KEY.public])
    except BundleProblem:
        return
    if not problems(found):  # what tar files have beside content: padding, times, owners
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as fuzzed, tarfile.open(exported / "run.tar") as original:
            for name in original.getnames():
                if name.startswith("attempts/") and not name.endswith(".leaves"):
                    assert fuzzed.extractfile(name).read() == original.extractfile(name).read()  # type: ignore[union-attr]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
@given(st.data())
def test_any_json_in_a_bundle_s_places_ends_no_check(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("json") / "run"
    shutil.copytree(exported / "run", root)
    name = data.draw(st.sampled_from(["bundle.json", "entries.jsonl", "run.json", "attempts.jsonl"]))
    lines = [json.loads(line) for line in (root / name).read_text().splitlines()]
    line = data.draw(st.sampled_from(lines))
    key = data.draw(st.sampled_from(sorted(line)))
    if key == "entry" and data.draw(st.booleans()):
        inner = json.loads(line[key])
        inner[data.draw(st.sampled_from([*sorted(inner), "run"]))] = data.draw(json_values)
        line[key] = json.dumps(inner)
    else:
        line[key] = data.draw(json_values)
    (root / name).write_text("".join(json.dumps(one) + "\n" for one in lines))
    try:
        check_bundle(root, [KEY.public])
    except BundleProblem:
        pass
    shutil.rmtree(root)


def test_a_checkpoint_that_was_kept_is_compared_where_it_can_be(exported: Path) -> None:
    note = json.loads((exported / "run" / "bundle.json").read_text())["checkpoint"]
    kept, _ = read_checkpoint(note.encode(), [])
    assert problems(check_bundle(exported / "run", [KEY.public], [kept])) == []
    store = opened((exported / "store", None), KEY)
    earlier, _ = read_checkpoint(store.audit_checkpoints()[0][1].encode(), [])
    store.close()
    assert earlier.size == 5 and problems(check_bundle(exported / "run.tar", [KEY.public], [earlier, kept])) == []
    for other, said in ((kept.__class__(kept.origin, kept.size, bytes(32)), "was rewritten"), (kept.__class__(kept.origin, 4, kept.root), "only the store"), (kept.__class__(kept.origin, 11, kept.root), "only the store"), (kept.__class__(kept.origin, 5, kept.root), "does not go on from"), (kept.__class__("x", 5, kept.root), "of another log")):  # fmt: skip
        assert any(said in line for line in problems(check_bundle(exported / "run", [], [other])))

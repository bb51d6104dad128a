"""Streams, sealing and reading back: nothing written whole is ever lost, whatever is killed when."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.clock import ManualClock
from podctl.evidence.log import (
    MAX_LINE,
    EvidenceProblem,
    RecordWriter,
    encode,
    seal,
    seal_attempt,
    stream_path,
    stream_paths,
)
from podctl.evidence.merkle import EMPTY, leaf_hash, root_of
from podctl.evidence.reading import read_attempt, verify
from podctl.evidence.records import KINDS, Record

any_text = st.text(st.characters(), max_size=8)  # lone surrogates and control characters included
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
writings = st.lists(
    st.tuples(
        st.sampled_from(["gateway", "sql", "pod"]),
        st.sampled_from(sorted(KINDS)),
        any_text,
        st.dictionaries(any_text, any_json, max_size=3),
        st.integers(0, 5),  # times tie often
    ),
    max_size=12,
)


def write_all(directory: Path, written: list) -> dict[str, list[Record]]:
    writers: dict[str, RecordWriter] = {}
    records: dict[str, list[Record]] = {}
    for name, kind, actor, data, t in written:
        if name not in writers:
            writers[name] = RecordWriter.open(stream_path(directory, name), name)
        records.setdefault(name, []).append(writers[name].append(kind, actor, data, t=t))
    for writer in writers.values():
        writer.close()
    return records


def in_order(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.t, record.writer, record.seq))


@settings(max_examples=60, deadline=None)
@given(writings, st.data())
def test_what_is_read_back_is_what_was_written_whole(written: list, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        records = write_all(directory, written)
        expected: list[Record] = []
        for name, of_writer in records.items():
            path = stream_path(directory, name)
            content = path.read_bytes()
            cut = data.draw(st.integers(0, len(content)), label=f"{name} cut at")
            path.write_bytes(content[:cut])
            expected += of_writer[: content[:cut].count(b"\n")]
        assert read_attempt(directory) == in_order(expected)
        root = seal_attempt(directory)
        assert read_attempt(directory) == in_order(expected)
        assert stream_paths(directory) == []
        assert verify(directory, root).intact
        assert seal_attempt(directory) == root


@settings(max_examples=60, deadline=None)
@given(writings, st.data())
def test_sealing_after_a_kill_at_any_step_comes_to_the_same(written: list, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        write_all(directory, written)
        target = directory / "evidence.jsonl"
        streams = {path: path.read_bytes() for path in stream_paths(directory)}
        root = seal_attempt(directory)
        sealed, kept_leaves = target.read_bytes(), target.with_suffix(".leaves").read_bytes()

        step = data.draw(st.sampled_from(["leaves half", "leaves there", "target half", "target there", "some removed"]))
        left = list(streams)
        if step == "some removed" and left:
            left = left[data.draw(st.integers(0, len(left))) :]
        for path in left:
            path.write_bytes(streams[path])
        if step == "leaves half":
            target.with_suffix(".leaves").rename(directory / "evidence.leaves.tmp")
            os.truncate(directory / "evidence.leaves.tmp", len(kept_leaves) // 2)
        if step == "target half":
            (directory / "evidence.jsonl.tmp").write_bytes(sealed[: len(sealed) // 2])
        if step in ("leaves half", "leaves there", "target half"):
            target.unlink()

        assert seal_attempt(directory) == root
        assert target.read_bytes() == sealed
        assert target.with_suffix(".leaves").read_bytes() == kept_leaves
        assert stream_paths(directory) == []


def test_records_written_after_sealing_are_added(tmp_path: Path) -> None:
    write_all(tmp_path, [("pod", "log", "agent", {"n": 1}, 5)])
    seal_attempt(tmp_path)
    write_all(tmp_path, [("pod2", "log", "agent", {"n": 0}, 1)])
    assert [record.data["n"] for record in read_attempt(tmp_path)] == [0, 1]
    root = seal_attempt(tmp_path)
    assert [record.data["n"] for record in read_attempt(tmp_path)] == [0, 1]
    assert verify(tmp_path, root).intact


def test_a_writer_opened_again_goes_on_after_the_last_whole_record(tmp_path: Path) -> None:
    path = stream_path(tmp_path, "gateway")
    for number in range(2):
        writer = RecordWriter.open(path, "gateway", ManualClock())
        writer.append("log", "agent", {"n": number})
        writer.close()
        with open(path, "ab") as stream:
            stream.write(b'{"torn":')
    records = read_attempt(tmp_path)
    assert [(record.seq, record.data["n"]) for record in records] == [(0, 0), (1, 1)]


def test_damage_inside_a_stream_names_the_line(tmp_path: Path) -> None:
    path = stream_path(tmp_path, "gateway")
    write_all(tmp_path, [("gateway", "log", "agent", {"n": n}, n) for n in range(3)])
    lines = path.read_bytes().splitlines(keepends=True)
    for broken in (b"{\n", b"[]\n", b'{"t":1}\n', b'{"t":"1","kind":"log","actor":"a","data":{}}\n', b"[" * 100_000 + b"\n"):
        path.write_bytes(lines[0] + broken + lines[2])
        with pytest.raises(EvidenceProblem) as caught:
            read_attempt(tmp_path)
        assert caught.value.what.endswith("gateway.jsonl:2")


def test_hostile_data_is_recorded_cut_rather_than_lost(tmp_path: Path) -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    writer = RecordWriter.open(stream_path(tmp_path, "w"), "w", ManualClock())
    writer.append("http.call", "agent", {"body": deep})
    writer.append("http.call", "agent", {"number": 10**5000})
    writer.append("http.call", "agent", {"body": '"\\\n' * MAX_LINE})
    writer.append("http.call", "agent", {"body": b"raw"})
    writer.close()
    records = read_attempt(tmp_path)
    assert list(records[0].data) == ["unencodable"]
    assert list(records[1].data) == ["unencodable"]
    assert records[2].data["truncated"] > MAX_LINE
    assert all(len(encode(record)) <= MAX_LINE + 1 for record in records)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    writer = RecordWriter.open(stream_path(tmp_path, "w"), "w")
    with pytest.raises(ValueError, match="unknown record kind"):
        writer.append("nonsense", "agent", {})
    writer.close()


def test_a_full_disk_is_said_and_leaves_no_half_record(tmp_path: Path) -> None:
    # A file size limit makes write() stop in the middle of a record and then fail, as a full disk does.
    code = """
        import resource, signal, sys
        from pathlib import Path
        from podctl.evidence.log import EvidenceProblem, RecordWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        writer = RecordWriter.open(Path(sys.argv[1]), "w")
        writer.append("log", "agent", {"body": "x" * 600})
        try:
            writer.append("log", "agent", {"body": "y" * 600})
        except EvidenceProblem as problem:
            print(problem.code)
        writer.append("log", "agent", {"body": "z"})
    """
    path = tmp_path / "w.jsonl"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], capture_output=True, text=True, check=True)
    assert done.stdout == "evidence-write\n"
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["seq"], line["data"]["body"][0]) for line in written] == [(0, "x"), (1, "z")]


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Path, str]:
    write_all(tmp_path, [("gateway", "log", "agent", {"n": n}, n) for n in range(5)])
    return tmp_path, seal_attempt(tmp_path)


def damaged(directory: Path, change) -> None:
    path = directory / "evidence.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def test_verify_accepts_what_was_sealed(sealed: tuple[Path, str]) -> None:
    directory, root = sealed
    (directory / "evidence.leaves").unlink()  # only needed to say where the damage is
    found = verify(directory, root)
    assert (found.intact, found.records, found.root, found.first_damaged) == (True, 5, root, None)


@pytest.mark.parametrize(
    ("change", "number", "words"),
    [
        (lambda lines: lines.__setitem__(2, lines[2].replace(b'"n":2', b'"n":7')), 3, "record 3 was changed (log)"),
        (lambda lines: lines.__setitem__(2, b"\xff\n"), 3, "record 3 was changed (it can no longer be read)"),
        (lambda lines: lines.__setitem__(2, lines[2].replace(b'"log"', b'"\\u001b[2J"')), 3, "record 3 was changed (\\x1b[2J)"),
        (lambda lines: lines.pop(1), 2, "record 2 of those that were sealed is gone"),
        (lambda lines: lines.pop(), 5, "record 5 of those that were sealed is gone: the end was cut off"),
        (lambda lines: lines.append(lines[0]), 6, "record 6 was inserted (log)"),
        (lambda lines: lines.insert(1, lines[0].replace(b'"n":0', b'"n":9')), 2, "record 2 was inserted (log)"),
        (lambda lines: lines.reverse(), 1, "moved"),
        (lambda lines: lines.__setitem__(4, lines[4][:-5]), 5, "record 5 was changed"),
        (lambda lines: lines.clear(), 1, "records 1 to 5 of those that were sealed are gone"),
        (lambda lines: lines.append(b"x" * 3 * MAX_LINE), 6, "inserted"),
    ],
)
def test_verify_names_the_damaged_records(sealed: tuple[Path, str], change, number: int, words: str) -> None:
    directory, root = sealed
    damaged(directory, change)
    found = verify(directory, root)
    assert not found.intact
    assert found.first_damaged == number
    assert words in found.detail


def test_two_changes_are_both_named(sealed: tuple[Path, str]) -> None:
    directory, root = sealed
    damaged(directory, lambda lines: (lines.__setitem__(0, b"{}\n"), lines.pop(3)))
    assert verify(directory, root).detail == (
        "record 1 was changed (it can no longer be read); record 4 of those that were sealed is gone"
    )


def test_verify_without_trustworthy_leaves_says_that_it_cannot_name_the_record(sealed: tuple[Path, str]) -> None:
    directory, root = sealed
    damaged(directory, lambda lines: lines.pop(0))
    for content in (None, b"", b"zz\n", b"00\n" * 5, b"\xff" * 100, b"00" * 32 + b"\n"):
        (directory / "evidence.leaves").unlink(missing_ok=True)
        if content is not None:
            (directory / "evidence.leaves").write_bytes(content)
        found = verify(directory, root)
        assert (found.intact, found.records, found.first_damaged) == (False, 4, None)
        assert "is not as sealed either" in found.detail
    (directory / "evidence.jsonl").unlink()
    assert verify(directory, root).detail == "evidence.jsonl is missing"
    for make in (lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, Path.mkdir):
        make(directory / "evidence.jsonl")
        assert verify(directory, root).detail == "evidence.jsonl is no file"
        if (directory / "evidence.jsonl").is_dir():
            break
        (directory / "evidence.jsonl").unlink()


def test_what_an_older_podctl_sealed_with_a_chain_is_still_verified(sealed: tuple[Path, str]) -> None:
    directory, _ = sealed
    (directory / "evidence.leaves").unlink()
    head, links = bytes(32), []
    for line in (directory / "evidence.jsonl").read_bytes().splitlines(keepends=True):
        head = hashlib.sha256(head + line).digest()
        links.append(f"{head.hex()}\n")
    (directory / "evidence.chain").write_text("".join(links))
    found = verify(directory, head.hex())
    assert (found.intact, found.records, found.root) == (True, 5, head.hex()) and "hash chain" in found.detail
    damaged(directory, lambda lines: lines.__setitem__(1, b"{}\n"))
    found = verify(directory, head.hex())
    assert not found.intact and found.detail.startswith("record 2 (it can no longer be read) is the first")
    damaged(directory, lambda lines: lines.clear())
    assert verify(directory, head.hex()).first_damaged == 1


def test_the_root_depends_on_every_line_and_the_order(tmp_path: Path) -> None:
    lines = [b"a\n", b"b\n", b"c\n"]
    orders = (lines, lines[:2], lines[::-1], [], [b"a\nb\n", b"c\n"])
    assert len({root_of([leaf_hash(line) for line in order]) for order in orders}) == 5
    assert seal([], tmp_path / "evidence.jsonl") == EMPTY.hex()
    assert verify(tmp_path, EMPTY.hex()).intact

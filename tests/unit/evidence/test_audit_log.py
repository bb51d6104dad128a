"""The audit log: what happened to runs is in it whatever is killed, in one order, and any change to it or to what it tells of is named."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from podctl.clock import ManualClock, SystemClock
from podctl.evidence.audit_check import check_log, check_run, entries_of, read_checkpoint
from podctl.evidence.audit_entries import Entry, canonical
from podctl.evidence.audit_log import EVERY
from podctl.evidence.causes import Cause
from podctl.evidence.log import RecordWriter, seal_attempt, stream_path
from podctl.evidence.merkle import Frontier, leaf_hash
from podctl.evidence.note import Checkpoint
from podctl.evidence.owner import Owner
from podctl.evidence.results import AttemptResult, RunInfo, RunResult
from podctl.evidence.store import RunLost, Store
from podctl.evidence.store_rows import Planned
from podctl.signing import SigningKey

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
ATTEMPTS = 3


def info(run: str = "r-1") -> RunInfo:
    return RunInfo(
        run, "refunds", "careful", "1.2", "d" * 64, "shop", "local", "bwrap", "s", 2, 9, {}, 1, 1, 7, 1, labels={"who": "ci"}
    )


def begin(store: Store, run: str = "r-1") -> None:
    store.create_run(info(run), [Planned(f"{at:04}-1", f"T-{at}", "s", at, 1) for at in range(ATTEMPTS)], Owner.current())


def make(store: Store, at: int, run: str = "r-1") -> AttemptResult:
    """An attempt as the runner makes it: a try, records, files, the seal, the result."""
    attempt = f"{at:04}-1"
    store.start_try(run, attempt, 1)
    directory = store.attempt_directory(run, attempt)
    writer = RecordWriter.open(stream_path(directory, "runner"), "runner", ManualClock())
    for number in range(5):
        writer.append("log", "agent", {"n": number})
    writer.close()
    (directory / "stdout").write_bytes(b"said")
    root = seal_attempt(directory)
    result = AttemptResult(attempt, f"T-{at}", "s", 1, at, Cause.COMPLETED, at != 1, evidence_root=root)
    store.finish_try(run, attempt, 1, result, Decimal(0))
    return result


def finish(store: Store, made: list[AttemptResult], run: str = "r-1") -> None:
    store.finish_run(run, RunResult(info(run), "finished", tuple(made), "pass", notes=("n",)))


def whole_run(store: Store, run: str = "r-1") -> None:
    begin(store, run)
    finish(store, [make(store, at, run) for at in range(ATTEMPTS)], run)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str | None]]:
    if request.param == "sqlite":
        yield tmp_path, None
        return
    url: str = request.getfixturevalue("postgres")
    yield tmp_path, url
    execute(
        (tmp_path, url),
        "DROP TABLE audit, audit_head, audit_checkpoints, approvals, bills, projections, files, tries, attempts, runs, alembic_version",
    )


def execute(place: tuple[Path, str | None], *statements: str) -> None:
    """As somebody does who has the database and not podctl."""
    directory, url = place
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:") if url else f"sqlite:///{directory / 'store.db'}")
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%") if url else statement)
    engine.dispose()


def opened(place: tuple[Path, str | None], key: SigningKey | None = None) -> Store:
    return Store.open(place[0], ManualClock(), url=place[1], key=key)


def test_a_run_s_life_is_in_the_log_and_is_what_the_store_has(place: tuple[Path, str | None]) -> None:
    store = opened(place, KEY)
    begin(store)
    store.start_try("r-1", "0000-1", 1)
    store.abandon_try("r-1", "0000-1", 1, dollars=None, dollars_upper=Decimal(1), cause=Cause.SANDBOX_FAILED)
    store.start_try("r-1", "0000-1", 2)
    store.abandon_try("r-1", "0000-1", 2, dollars=None, dollars_upper=Decimal(1), cause=Cause.CANCELLED)
    made = [make(store, at) for at in (1, 2)]
    store.append([Entry("run.torn-down", "r-1", data={"gone": 7, "left": []})])
    finish(store, made)
    entries = list(entries_of(store, "r-1"))
    assert [entry["kind"] for entry in entries] == [
        "run.begun", "try.abandoned", "try.abandoned", "attempt.sealed", "attempt.sealed", "run.torn-down", "run.judged",
    ]  # fmt: skip
    assert [entry["n"] for entry in entries] == list(range(7))
    begun, sealed = entries[0], entries[3]
    assert begun["data"]["agent"] == {"name": "careful", "version": "1.2", "digest": "d" * 64}
    assert begun["data"]["labels"] == {"who": "ci"} and "@" in begun["by"] and " uid " in begun["by"]
    assert (
        sealed["data"]["files"] == {"stdout": "8bc87bee173cbb28a39c6a1b9f94e5d9046db6be98ab2ed8f22e1d2dd8ba5d0b"}
        or len(sealed["data"]["files"]["stdout"]) == 64
    )
    log = check_log(store, [KEY.public])
    assert (log.problems, log.size, log.signed, log.signer) == ((), 7, 7, KEY.public)
    assert check_run(store, "r-1").intact
    store.close()


def test_a_run_that_was_taken_out_of_the_store_is_named(tmp_path: Path) -> None:
    place = (tmp_path, None)
    store = opened(place, KEY)
    for run in ("r-1", "r-2"):
        whole_run(store, run)
    execute(
        place,
        *(f"DELETE FROM {table} WHERE run = 'r-1'" for table in ("tries", "attempts")),
        "DELETE FROM runs WHERE id = 'r-1'",
    )
    assert check_log(store, [KEY.public]).gone == ("r-1",)
    store.close()


def test_a_log_that_nobody_signed_and_one_that_a_stranger_signed_say_so(place: tuple[Path, str | None]) -> None:
    store = opened(place)
    whole_run(store)
    assert "not signed" in check_log(store, [KEY.public]).words
    store.close()
    store = opened(place, OTHER)
    store.checkpoint()
    store.checkpoint()
    assert OTHER.public.id in check_log(store).words and "nobody named" in check_log(store).words
    problems = check_log(store, [KEY.public]).problems
    assert problems == ("the checkpoint after entry 5 is not signed by a key that was named",)
    assert check_log(store, [KEY.public, OTHER.public]).words == f"signed by {OTHER.public.id} up to entry 5"
    store.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit SET entry = replace(entry, '\"passed\":false', '\"passed\":true') WHERE position = 2", ["entry 3 was changed"]),
        ("DELETE FROM audit WHERE position = 1", ["entry 2 is gone", "the first 5 entries are not those of the checkpoint that was made then"]),
        ("DELETE FROM audit WHERE position >= 3", ["entries 4 to 5 are gone: the end was cut off"]),
        ("DELETE FROM audit", ["entries 1 to 5 are gone: the end was cut off"]),
        ("UPDATE audit SET position = 9 WHERE position = 4", ["entries 5 to 9 are gone", "entry 10 was not written there"]),
        ("UPDATE audit SET run = 'other' WHERE position = 2", ["entry 3 was not written there"]),
        ("INSERT INTO audit SELECT 5, run, entry, leaf FROM audit WHERE position = 0", ["entry 6 was not written there", "entry 6 is more"]),
        ("UPDATE audit SET leaf = 'zz'", ["entry 1 was changed", "entry 5 was changed"]),
        ("UPDATE audit_checkpoints SET note = 'none'", ["the checkpoint after entry 5 is none"]),
        ("UPDATE audit_checkpoints SET key = 'zz', note = replace(note, '— podctl', '— other')", ["not signed by a key that was named"]),
        ("DELETE FROM attempts WHERE id = '0002-1'", ["attempt 0002-1 is in the log and not in the store"]),
        ("UPDATE attempts SET result = replace(result, '\"passed\":false', '\"passed\":true')", ["0001-1: its result in the store"]),
        ("UPDATE attempts SET state = 'planned' WHERE id = '0001-1'", ["0001-1: the log says that it ended, and the store that it is planned"]),
        ("UPDATE attempts SET evidence_root = ''", ["0000-1: its seal in the store is not the one in the log"]),
        ("UPDATE attempts SET passed = NOT passed WHERE id = '0001-1'", ["attempt 0001-1: column passed is not what its result says"]),
        ("UPDATE attempts SET dollars = '0.01', ticket = 'x'", ["0001-1: column dollars", "0001-1: column ticket"]),
        ("UPDATE runs SET agent_version = '9'", ["the run's column agent_version is not what the run was"]),
        ("UPDATE runs SET verdict = 'fail'", ["the verdict, its findings or notes are not what the log says"]),
        ("UPDATE runs SET info = replace(info, 'careful', 'other')", ["the agent that the run was begun with", "what the run was is not"]),
        ("UPDATE runs SET info = replace(info, '\"podctl_version\":\"\"', '\"podctl_version\":\"9\"')", ["what the run was is not"]),
        ("UPDATE runs SET status = 'running', verdict = 'fail'", ["the log has a verdict, and the store has none"]),
    ],
)  # fmt: skip
def test_whatever_is_changed_behind_podctl_s_back_is_named(
    place: tuple[Path, str | None], change: str, said: list[str]
) -> None:
    store = opened(place, KEY)
    whole_run(store)
    execute(place, *(["DELETE FROM tries"] if "attempts WHERE" in change else []), change)
    told = everything(store)
    for words in said:
        assert any(words in line for line in told), told
    store.close()


def everything(store: Store) -> list[str]:
    run = check_run(store, "r-1")
    told = [f"{attempt.id}: {problem}" for attempt in run.attempts for problem in attempt.problems]
    return [*check_log(store, [KEY.public]).problems, *run.problems, *told]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda directory: (directory / "stdout").write_bytes(b"other"), "stdout was changed"),
        (lambda directory: (directory / "stdout").unlink(), "stdout is gone"),
        (lambda directory: (directory / "result.json").write_bytes(b"{}"), "result.json was added"),
        (lambda directory: (directory / "evidence.jsonl").unlink(), "evidence.jsonl is missing"),
        (lambda directory: (directory / "evidence.jsonl").write_bytes(b""), "the end was cut off"),
    ],
)
def test_files_that_were_changed_are_named(tmp_path: Path, change: Callable[[Path], object], said: str) -> None:
    store = opened((tmp_path, None))
    whole_run(store)
    change(store.attempt_directory("r-1", "0001-1"))
    assert any(line.startswith("0001-1: ") and said in line for line in everything(store))
    store.close()


def test_signatures_that_were_taken_out_are_missed_where_a_key_is_named(tmp_path: Path) -> None:
    place = (tmp_path, None)
    store = opened(place, KEY)
    store.append([Entry("test.earlier")])
    assert check_log(store, [KEY.public], demanded=True).problems == (), "nothing was judged yet"
    whole_run(store)
    kept, _ = read_checkpoint(store.audit_checkpoints()[-1][1].encode(), [])
    assert check_log(store, [KEY.public], demanded=True).problems == ()
    store.append([Entry("test.later")])
    assert check_log(store, [KEY.public], demanded=True).problems == (), (
        "what no verdict stands behind may wait for its signature"
    )
    rewrite(store, place, lambda entry: entry["data"].update(passed=True) if entry["n"] == 3 else None, None)
    assert check_log(store, [KEY.public]).problems == (), "somebody who has no key, of a store that has none"
    unsigned = "entries 1 to 6 are not signed by a key that was named"
    assert check_log(store, [KEY.public], demanded=True).problems == (unsigned,)
    whole_run(store, "r-2")  # signed by the key's owner, who did not look: said plainly in docs/audit.md
    assert check_log(store, [KEY.public], demanded=True).problems == ()
    assert any("the log was rewritten" in problem for problem in check_log(store, [KEY.public], [kept]).problems)
    store.close()


def rewrite(store: Store, place: tuple[Path, str | None], change: Callable[[dict], None], key: SigningKey | None) -> None:
    """The whole log made again with other entries, as its owner can who has the key too."""
    lines = []
    for entry in entries_of(store):
        change(entry)
        lines.append(canonical(entry))
    leaves = [leaf_hash(line.encode()) for line in lines]
    frontier = Frontier().plus(leaves)
    quoted = [line.replace("'", "''") for line in lines]
    execute(place, "DELETE FROM audit_checkpoints")
    for position, (line, leaf) in enumerate(zip(quoted, leaves, strict=True)):
        execute(place, f"UPDATE audit SET entry = '{line}', leaf = '{leaf.hex()}' WHERE position = {position}")
    execute(place, f"UPDATE audit_head SET peaks = '{b''.join(frontier.peaks).hex()}'")
    again = opened(place, key)
    again.checkpoint()
    again.close()


def test_what_is_changed_while_a_run_stands_still_is_not_made_true_by_going_on(tmp_path: Path) -> None:
    store = opened((tmp_path, None))
    begin(store)
    execute((tmp_path, None), "UPDATE runs SET info = replace(info, 'dddd', 'eeee')", "UPDATE runs SET status = 'interrupted'")
    store.take_over("r-1", Owner.current())
    assert "the agent that the run was begun with is not what the log says" in check_run(store, "r-1").problems
    store.close()


def test_only_a_checkpoint_that_was_kept_finds_what_the_holder_of_the_key_rewrote(tmp_path: Path) -> None:
    place = (tmp_path, None)
    store = opened(place, KEY)
    whole_run(store)
    kept, signers = read_checkpoint(store.audit_checkpoints()[-1][1].encode(), [KEY.public])
    assert signers == [KEY.public]
    whole_run(store, "r-2")
    assert check_log(store, [KEY.public], [kept]).problems == ()

    rewrite(store, place, lambda entry: entry["data"].update(passed=True) if entry["n"] == 2 else None, KEY)
    assert check_log(store, [KEY.public]).problems == ()  # said plainly in docs/audit.md
    assert check_log(store, [KEY.public], [kept]).problems == (
        "the first 5 entries are not those of the checkpoint that was kept: the log was rewritten",
    )
    execute(place, "DELETE FROM audit WHERE position >= 3", "UPDATE audit_head SET size = 3")
    assert any("its end was cut off" in problem for problem in check_log(store, [], [kept]).problems)
    of_another = Checkpoint("podctl.store/other", 1, bytes(32))
    assert any("of another log" in problem for problem in check_log(store, [], [of_another]).problems)
    store.close()


def test_a_rewritten_log_without_the_key_is_placed_between_its_checkpoints(tmp_path: Path) -> None:
    place = (tmp_path, None)
    store = opened(place, KEY)
    whole_run(store)
    whole_run(store, "r-2")
    line = next(entry for entry in entries_of(store) if entry["n"] == 7)
    line["data"]["passed"] = True
    text = canonical(line)
    execute(place, f"UPDATE audit SET entry = '{text}', leaf = '{leaf_hash(text.encode()).hex()}' WHERE position = 7")
    assert check_log(store, [KEY.public]).problems == (
        "the log is not as its head says: among entries 6 to 10",
        "the first 10 entries are not those of the checkpoint that was made then",
    )
    store.close()


def test_a_hostile_store_ends_no_check(tmp_path: Path) -> None:
    place = (tmp_path, None)
    store = opened(place, KEY)
    whole_run(store)
    for entry in (
        "'null'",
        "'[[[[' || hex(zeroblob(9000))",
        "hex(zeroblob(99999))",
        "'{\"n\":' || hex(zeroblob(9000)) || '}'",
        "''",
        "char(0)",
    ):
        execute(place, f"UPDATE audit SET entry = {entry}")
        assert len(check_log(store, [KEY.public]).problems) >= 5
        assert check_run(store, "r-1").problems == ("the log does not know the run",)
    store.close()


def test_writers_on_one_store_stand_in_line(place: tuple[Path, str | None]) -> None:
    stores = [opened(place) for _ in range(3)]
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for at in range(20):
                stores[number].append([Entry("test.entry", data={"writer": number, "at": at, "of": one}) for one in range(3)])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    entries = list(entries_of(stores[0]))
    assert [entry["n"] for entry in entries] == list(range(180))
    for number in range(3):
        own = [(entry["data"]["at"], entry["data"]["of"]) for entry in entries if entry["data"]["writer"] == number]
        assert own == sorted(own) and len(own) == 60
    assert check_log(stores[0]).problems == ()
    for store in stores:
        store.close()


def test_who_lost_a_run_appends_nothing_of_it(place: tuple[Path, str | None]) -> None:
    mine, other = opened(place), opened(place)
    begin(mine)
    other.take_over("r-1", dataclasses.replace(Owner.current(), host="elsewhere"), force=True)
    before = mine.audit_head()
    with pytest.raises(RunLost):
        mine.append([Entry("run.torn-down", "r-1")])
    with pytest.raises(RunLost):
        make(mine, 0)
    assert mine.audit_head() == before
    kinds = [(entry["kind"], entry["data"].get("forced")) for entry in entries_of(mine, "r-1")]
    assert kinds == [("run.begun", None), ("run.resumed", True)]
    mine.close()
    other.close()


def test_what_fails_is_not_in_the_log(tmp_path: Path) -> None:
    store = opened((tmp_path, None))
    begin(store)
    before = store.audit_head()
    for wrong in (Entry("no kind"), Entry("x"), Entry("test.long", data={"x": "y" * 70_000})):
        with pytest.raises(ValueError):
            store.append([Entry("test.entry"), wrong])
    with pytest.raises(Exception, match="exists already"):
        begin(store)
    assert store.audit_head() == before
    store.close()


def test_checkpoints_are_made_often_and_the_format_is_the_public_one(tmp_path: Path) -> None:
    store = opened((tmp_path, None), KEY)
    store.append([Entry("test.entry") for _ in range(EVERY - 1)])
    assert store.audit_checkpoints() == []
    store.append([Entry("test.entry") for _ in range(2)])
    ((size, note, key),) = store.audit_checkpoints()
    origin = store.audit_head()[0]
    lines = note.split("\n")
    assert (size, key) == (EVERY + 1, KEY.public.raw.hex())
    assert lines[:2] == [origin, str(size)] and len(base64.b64decode(lines[2])) == 32
    assert lines[4].startswith(f"— {origin} ")
    store.close()


def test_a_store_from_before_the_log_is_told_as_it_is_found(tmp_path: Path) -> None:
    place = (tmp_path, None)
    store = opened(place)
    whole_run(store)
    begin(store, "r-2")
    store.close()
    execute(
        place, "DROP TABLE approvals", "ALTER TABLE attempts DROP COLUMN variant", "DROP TABLE audit", "DROP TABLE audit_head", "DROP TABLE audit_checkpoints",
        "UPDATE alembic_version SET version_num = '0003_podctl_0.1.0'",
    )  # fmt: skip
    store = opened(place)
    assert [entry["kind"] for entry in entries_of(store)] == ["log.adopted", "run.adopted", "run.adopted"] + [
        "attempt.adopted"
    ] * 3
    assert check_log(store).problems == () and check_run(store, "r-1").intact and check_run(store, "r-2").intact
    store.take_over("r-2", Owner.current())
    finish(store, [make(store, 0, "r-2")], "r-2")
    assert check_run(store, "r-2").intact
    execute(place, "UPDATE runs SET verdict = 'fail' WHERE id = 'r-1'")
    assert check_run(store, "r-1").problems == ("the verdict, its findings or notes are not what the log says",)
    (store.attempt_directory("r-1", "0002-1") / "evidence.jsonl").write_bytes(b"")
    execute(place, "UPDATE attempts SET result = '{}' WHERE id = '0001-1'")
    assert [one.id for one in check_run(store, "r-1").attempts if one.problems] == ["0001-1", "0002-1"]
    store.close()


def test_log_and_store_agree_whenever_a_writer_is_killed(tmp_path: Path) -> None:
    """Killed at any moment while it appends and writes; what stands in one stands in the other."""
    program = """
        import sys
        from pathlib import Path
        sys.path[:0] = sys.argv[2:]
        from test_audit_log import Store, SystemClock, make, finish, begin
        store = Store.open(Path(sys.argv[1]), SystemClock())
        for number in range(1000):
            begin(store, f"r-{number}")
            print(number, flush=True)
            finish(store, [make(store, at, f"r-{number}") for at in range(3)], f"r-{number}")
    """
    for delay in (1, 2, 3):
        directory = tmp_path / str(delay)
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), str(directory), str(Path(__file__).parent)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        for _ in range(delay):
            child.stdout.readline()
        child.kill()
        child.wait()
        store = Store.open(directory, SystemClock())
        assert check_log(store).problems == ()
        for summary in store.list_runs():
            assert check_run(store, summary.info.id).intact
        store.close()


def test_an_entry_is_canonical() -> None:
    line = Entry("run.begun", "r", data={"b": 1, "a": "é\ud800"}).line(3, 5, "me")
    assert line == '{"by":"me","data":{"a":"\\u00e9\\ud800","b":1},"kind":"run.begun","n":3,"run":"r","t":5}'
    assert canonical(json.loads(line)) == line

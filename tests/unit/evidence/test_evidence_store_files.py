"""The store's file: many processes at once, kills, damage, locks, other versions."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from podctl.clock import ManualClock, SystemClock
from podctl.evidence.causes import Cause
from podctl.evidence.owner import Owner
from podctl.evidence.results import AttemptResult, RunInfo
from podctl.evidence.store import Store
from podctl.evidence.store_problems import HEAD, StoreProblem
from podctl.evidence.store_read import StoreReader, open_to_read
from podctl.evidence.store_rows import Planned

PRELUDE = """
    import sys, time
    from decimal import Decimal
    from pathlib import Path
    from podctl.clock import SystemClock
    from podctl.evidence.causes import Cause
    from podctl.evidence.owner import Owner
    from podctl.evidence.results import AttemptResult, RunInfo
    from podctl.evidence.store import Store
    from podctl.evidence.store_rows import Planned
"""


def info(run: str) -> RunInfo:
    return RunInfo(run, "s", "a", "1", "d", "t", "local", "i", "x", 1, 1, {}, 1, 1, 1, time.time_ns())


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def filled(directory: Path, attempts: int = 300) -> None:
    store = Store.open(directory, ManualClock())
    wanted = [Planned(f"{at:04}-1", "T" * 50, "s", at, 1) for at in range(attempts)]
    store.create_run(info("r-1"), wanted, Owner.current())
    store.close()


def work(directory: Path, name: str, attempts: int, barrier: multiprocessing.synchronize.Barrier) -> None:
    barrier.wait()  # all open a store that is not there yet
    store = Store.open(directory, SystemClock())
    store.create_run(info(name), [Planned(f"{at:04}-1", "T", "s", at, 1) for at in range(attempts)], Owner.current())
    for at in range(attempts):
        store.start_try(name, f"{at:04}-1", 1)
        result = AttemptResult(f"{at:04}-1", "T", "s", 1, at, Cause.COMPLETED, True, dollars=Decimal("0.01"))
        store.finish_try(name, f"{at:04}-1", 1, result, Decimal("0.01"))
        store.take_over(name, Owner.current())  # reads, then writes
    assert {summary.info.id for summary in store.list_runs()} >= {name}
    assert store.spent(name).dollars == Decimal("0.01") * attempts
    store.close()


@pytest.mark.parametrize(("processes", "attempts"), [(2, 60), pytest.param(20, 10, marks=pytest.mark.campaign)])
def test_many_processes_share_one_store(tmp_path: Path, processes: int, attempts: int) -> None:
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(processes)
    names = [f"r-{number:02}" for number in range(processes)]
    workers = [fork.Process(target=work, args=(tmp_path / ".podctl", name, attempts, barrier)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0] * processes
    store = Store.open(tmp_path / ".podctl", ManualClock())
    summaries = store.list_runs()
    assert {summary.info.id for summary in summaries} == set(names)
    assert {(summary.ended, summary.passed, summary.status) for summary in summaries} == {(attempts, attempts, "interrupted")}
    store.close()
    assert sorted(path.name for path in (tmp_path / ".podctl").iterdir()) == ["runs", "store.db", "store.lock"]


def test_a_kill_loses_no_try_that_was_said_to_be_kept(tmp_path: Path) -> None:
    code = """
        directory = Path(sys.argv[1])
        store = Store.open(directory, SystemClock())
        for number in range(1, 100_000):
            store.start_try("r-1", "0000-1", number)
            result = AttemptResult("0000-1", "T", "s", 1, 0, Cause.COMPLETED, True, dollars=Decimal("0.01"))
            store.finish_try("r-1", "0000-1", number, result, Decimal("0.01"))
            print(number, flush=True)
    """
    filled(tmp_path, 1)
    worker = start(code, tmp_path)
    assert worker.stdout is not None
    said = [int(worker.stdout.readline())]
    time.sleep(random.Random(1).uniform(0.1, 0.3))
    worker.send_signal(signal.SIGKILL)
    said += map(int, worker.stdout.read().split())  # what is read ahead too, which communicate() leaves out
    worker.wait(timeout=20)
    store = Store.open(tmp_path, ManualClock())
    ended = [made.number for made in store.tries("r-1", "0000-1") if made.ended_ns is not None]
    assert ended[: len(said)] == said
    assert len(ended) - len(said) <= 1
    store.close()


def test_a_kill_while_making_a_store_leaves_none_and_the_next_makes_it(tmp_path: Path) -> None:
    (tmp_path / "store.db.new").write_bytes(b"half made")
    (tmp_path / "store.db.new-wal").write_bytes(b"half made")
    (tmp_path / "store.lock").touch()
    store = Store.open(tmp_path, ManualClock())
    assert store.list_runs() == []
    store.close()


def test_opening_a_store_that_is_up_to_date_is_fast_and_takes_no_alembic(tmp_path: Path) -> None:
    filled(tmp_path)
    code = """
        begun = time.perf_counter()
        store = Store.open(Path(sys.argv[1]), SystemClock())
        taken = time.perf_counter() - begun
        print(len(store.list_runs()), "alembic" in sys.modules, taken < 0.1)
    """
    assert start(code, tmp_path).communicate(timeout=30) == ("1 False True\n", "")


def test_looking_into_a_store_needs_no_sqlalchemy_and_finds_the_same(tmp_path: Path) -> None:
    store = Store.open(tmp_path, ManualClock())
    for run in ("r-1", "r-2"):
        store.create_run(info(run), [Planned(f"{at:04}-1", f"T\\\0{at % 2}", "s", at, 1) for at in range(4)], Owner.current())
        for at in range(3):
            attempt = f"{at:04}-1"
            result = AttemptResult(attempt, f"T\\\0{at % 2}", "s", 1, at, Cause.COMPLETED, at == 1, dollars=Decimal("0.01"))
            store.start_try(run, attempt, 1)
            store.finish_try(run, attempt, 1, result, Decimal("0.01"))
    store.finish_run("r-1", replace(store.load_run("r-1"), status="finished", verdict="fail", notes=("n",)))
    looks = [
        lambda reader: reader.list_runs(),
        lambda reader: [reader.load_run(run) for run in ("r-1", "r-2")],
        lambda reader: reader.list_attempts("r-2"),
        lambda reader: [reader.load_info("r-1"), reader.find_run("latest"), reader.find_run("r-1")],
        lambda reader: [reader.load_attempt("r-1", "0001-1"), reader.attempt_directory("r-1", "0001-1")],
        lambda reader: [reader.find_attempt("r-1", name, 1) for name in ("0001-1", "T\\\0001", "T\\\0000", "nobody", "0003-1")],
    ]
    reader = open_to_read(tmp_path, ManualClock())
    assert type(reader) is StoreReader
    for look in looks:
        assert repr(look(reader)) == repr(look(store))
    listed = [(one.id, one.ticket, one.passed, one.cause, one.dollars) for one in reader.list_attempts("r-1")]
    assert listed == [(a.id, a.ticket, a.passed, a.cause, a.dollars) for a in store.load_run("r-1").attempts]
    assert reader.find_attempt("r-1", "T\\\0001", 1) == store.load_attempt("r-1", "0001-1")
    store.close()
    code = """
        import sys
        sys.modules["sqlalchemy"] = None
        from pathlib import Path
        from podctl.clock import SystemClock
        from podctl.evidence.store_read import open_to_read
        print(len(open_to_read(Path(sys.argv[1]), SystemClock()).load_run("r-1").attempts))
    """
    looking = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path], capture_output=True, text=True)
    assert (looking.stdout, looking.stderr) == ("3\n", "")


def test_a_store_before_the_first_migration_is_migrated_in_place(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("CREATE TABLE kept (value TEXT)")
        connection.execute("INSERT INTO kept VALUES ('kept')")
    connection.close()
    opened = [start("Store.open(Path(sys.argv[1]), SystemClock()).list_runs()", tmp_path) for _ in range(3)]
    assert [process.communicate(timeout=30) for process in opened] == [("", "")] * 3
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        assert connection.execute("SELECT value FROM kept").fetchall() == [("kept",)]
    connection.close()


def refused(directory: Path, wait_s: float = 1.0) -> StoreProblem:
    with pytest.raises(StoreProblem) as caught:
        Store.open(directory, ManualClock(), wait_s=wait_s)
    with pytest.raises(StoreProblem) as caught_reading:
        open_to_read(directory, ManualClock(), wait_s)
    assert caught_reading.value.render() == caught.value.render()
    return caught.value


def set_revision(directory: Path, revision: str) -> bytes:
    connection = sqlite3.connect(directory / "store.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    return (directory / "store.db").read_bytes()


def test_a_newer_store_says_which_version_it_needs_and_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    before = set_revision(tmp_path, "0007_podctl_0.9.2")
    problem = refused(tmp_path)
    assert problem.code == "store-newer"
    assert "needs podctl 0.9.2" in problem.cause
    assert problem.hint == "pip install 'podctl>=0.9.2'"
    assert problem.unchanged
    assert (tmp_path / "store.db").read_bytes() == before


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("CREATE TABLE theirs (value TEXT)")
    connection.close()
    before = (tmp_path / "store.db").read_bytes()
    assert refused(tmp_path).code == "store-foreign"
    assert (tmp_path / "store.db").read_bytes() == before
    filled(tmp_path / "b")
    set_revision(tmp_path / "b", "3f2a9c")
    assert refused(tmp_path / "b").code == "store-foreign"


def test_a_truncated_store_is_said_to_be_damaged_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path / "whole")
    whole = (tmp_path / "whole" / "store.db").read_bytes()
    lengths = [0, 1, 15, 50, 99, 100, 1000, 4096, 8192, len(whole) // 2, len(whole) - 4096, len(whole) - 1]
    for length in lengths:
        directory = tmp_path / str(length)
        directory.mkdir()
        (directory / "store.db").write_bytes(whole[:length])
        problem = refused(directory)
        assert problem.code == "store-damaged", length
        assert str(directory / "store.db") in problem.what
        assert (directory / "store.db").read_bytes() == whole[:length]


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    for content in (b"hello\n", os.urandom(20_000), b"SQLite format 3\0" + bytes(5000)):
        (tmp_path / "store.db").write_bytes(content)
        assert refused(tmp_path).code in ("store-damaged", "store-foreign")
        assert (tmp_path / "store.db").read_bytes() == content


def test_damage_met_later_is_said_too(tmp_path: Path) -> None:
    filled(tmp_path, 2000)
    path = tmp_path / "store.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    store = Store.open(tmp_path, ManualClock())
    with pytest.raises(StoreProblem) as caught:
        store.planned("r-1")
    assert caught.value.code == "store-damaged"
    store.close()
    with pytest.raises(StoreProblem) as caught:
        open_to_read(tmp_path, ManualClock()).load_run("r-1")
    assert caught.value.code == "store-damaged"


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    filled(tmp_path)
    store = Store.open(tmp_path, SystemClock(), wait_s=20)
    code = """
        import sqlite3
        connection = sqlite3.connect(Path(sys.argv[1]) / "store.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        time.sleep(0.5)
        connection.execute("COMMIT")
    """
    holder = start(code, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    assert len(store.planned("r-1")) == 300  # readers do not wait
    begun = time.monotonic()
    store.start_try("r-1", "0000-1", 1)
    assert time.monotonic() - begun > 0.2
    assert holder.wait(timeout=10) == 0
    holder.communicate()
    store.close()


def test_a_lock_held_too_long_is_said(tmp_path: Path) -> None:
    filled(tmp_path)
    store = Store.open(tmp_path, ManualClock(), wait_s=0.2)
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreProblem) as caught:
        store.start_try("r-1", "0000-1", 1)
    assert caught.value.code == "store-locked"
    assert "0.2 s" in caught.value.cause
    connection.execute("ROLLBACK")
    connection.close()
    store.start_try("r-1", "0000-1", 1)
    store.close()


def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file").code == "store-unusable"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    (tmp_path / "store.db").mkdir()
    assert refused(tmp_path).code == "store-unusable"


def test_a_url_that_cannot_be_used_is_said_without_its_password(tmp_path: Path) -> None:
    for url, code in [
        ("postgresql://u:hunter22@127.0.0.1:1/db", "store-unusable"),
        ("mysql://u:hunter22@127.0.0.1/db", "store-url"),
        ("hunter22", "store-url"),
    ]:
        with pytest.raises(StoreProblem) as caught:
            Store.open(tmp_path, ManualClock(), url=url, wait_s=2)
        assert caught.value.code == code
        assert "hunter22" not in caught.value.render()


def test_results_are_the_last_try_s(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    store = Store.open(tmp_path, ManualClock())
    for number, cause in enumerate([Cause.SEED_FAILED, Cause.COMPLETED], start=1):
        store.start_try("r-1", "0000-1", number)
        result = AttemptResult("0000-1", "T", "s", 1, 0, cause, cause is Cause.COMPLETED)
        store.finish_try("r-1", "0000-1", number, result, Decimal(0))
    assert store.load_attempt("r-1", "0000-1").cause is Cause.COMPLETED
    store.close()

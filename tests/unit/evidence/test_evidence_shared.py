"""A store that machines share: files reach it as they grow, and are read where they were not written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from asked import SETTING, ask
from project import Project
from sqlalchemy import create_engine, insert, text

from podctl.approvals.actions import digest_of
from podctl.approvals.grants import Expected, verify
from podctl.clock import ManualClock
from podctl.evidence.causes import Cause
from podctl.evidence.owner import Owner
from podctl.evidence.results import AttemptResult, RunInfo
from podctl.evidence.schema import files
from podctl.evidence.shared import PIECE
from podctl.evidence.store import RunLost, Store
from podctl.evidence.store_problems import StoreProblem
from podctl.evidence.store_rows import Planned
from podctl.signing import make_key

ELSEWHERE = replace(Owner.current(), host="elsewhere", boot_id="another")


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    yield postgres
    engine = create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "DROP TABLE IF EXISTS audit, audit_head, audit_checkpoints, approvals, bills, projections, files, tries, attempts, runs, alembic_version"
        )
    engine.dispose()


@pytest.fixture
def here(url: str, tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "here", ManualClock(), url=url)
    yield store
    store.close()


@pytest.fixture
def there(url: str, tmp_path: Path) -> Iterator[Store]:
    """Another machine's: it shares nothing with the first but the database."""
    store = Store.open(tmp_path / "there", ManualClock(), url=url)
    yield store
    store.close()


def begin(store: Store, owner: Owner, attempts: int = 1) -> None:
    info = RunInfo("r-1", "s", "a", "1", "d", "t", "local", "i", "x", 1, 1, {}, 1, 1, 1, 1)
    store.create_run(info, [Planned(f"{at:04}-1", "T", "s", at, 1) for at in range(attempts)], owner)
    store.start_try("r-1", "0000-1", 1)


def write(store: Store, name: str, content: bytes, attempt: str = "0000-1") -> Path:
    path = store.attempt_directory("r-1", attempt) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write(content)
    return path


def seen(store: Store, attempt: str = "0000-1") -> dict[str, bytes]:
    directory = store.evidence_directory("r-1", attempt)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def result() -> AttemptResult:
    return AttemptResult("0000-1", "T", "s", 1, 0, Cause.COMPLETED, True)


def pieces(url: str) -> int:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        counted: int = connection.execute(text("SELECT count(*) FROM files")).scalar_one()
    engine.dispose()
    return counted


def test_what_grows_is_read_elsewhere_while_it_grows(here: Store, there: Store, url: str) -> None:
    begin(here, ELSEWHERE)
    write(here, "streams/gateway.jsonl", b'{"a":1}\n{"tor')
    write(here, "empty", b"")
    here.keep_files("r-1")
    assert seen(there) == {"streams/gateway.jsonl": b'{"a":1}\n{"tor', "empty": b""}
    here.keep_files("r-1")
    assert pieces(url) == 2  # nothing grew, nothing was sent
    write(here, "streams/gateway.jsonl", b'n":2}\n')
    write(here, "empty", b"not any more")
    here.keep_files("r-1")
    assert seen(there) == {"streams/gateway.jsonl": b'{"a":1}\n{"torn":2}\n', "empty": b"not any more"}
    assert pieces(url) == 3  # of the stream only the new end


def test_what_a_failed_transaction_sent_is_sent_again(here: Store, there: Store, url: str) -> None:
    begin(here, ELSEWHERE)
    write(here, "stdout", b"said once")
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:  # refused at the commit, when all was sent
        connection.exec_driver_sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$")
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON files DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no()"
        )
    with pytest.raises(StoreProblem):
        here.keep_files("r-1")
    assert pieces(url) == 0
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP FUNCTION no CASCADE")
    engine.dispose()
    here.keep_files("r-1")
    assert seen(there) == {"stdout": b"said once"}


def test_a_result_and_its_files_arrive_together(here: Store, there: Store) -> None:
    begin(here, ELSEWHERE)
    large = bytes(range(256)) * (PIECE // 200)
    write(here, "streams/runner.jsonl", b"one\n")
    here.keep_files("r-1")
    here.attempt_directory("r-1", "0000-1").joinpath("streams/runner.jsonl").rename(
        here.attempt_directory("r-1", "0000-1") / "evidence.jsonl"
    )
    write(here, "stdout", large)
    here.finish_try("r-1", "0000-1", 1, result(), Decimal(0))
    assert seen(there) == {"evidence.jsonl": b"one\n", "stdout": large}
    assert there.load_attempt("r-1", "0000-1") == result()


def test_a_replaced_or_shortened_file_is_sent_anew(here: Store, there: Store) -> None:
    begin(here, ELSEWHERE)
    report = write(here, "report.html", b"<html>long</html>")
    path = write(here, "stdout", b"first, longer")
    here.keep_files("r-1")
    draft = report.with_name("draft")
    draft.write_bytes(b"<html>as long!</html>")
    draft.replace(report)
    path.write_bytes(b"second")
    here.keep_files("r-1")
    assert seen(there) == {"stdout": b"second", "report.html": b"<html>as long!</html>"}


def test_another_machine_goes_on_where_a_killed_one_stood(here: Store, there: Store) -> None:
    begin(here, ELSEWHERE, attempts=2)
    write(here, "streams/gateway.jsonl", b"spent much\n")
    here.keep_files("r-1")
    here.start_try("r-1", "0001-1", 1)
    write(here, "result.json", b"{}", "0001-1")
    here.abandon_try("r-1", "0001-1", 1, dollars=None, dollars_upper=Decimal(1))
    with pytest.raises(StoreProblem, match="is being worked on"):
        there.take_over("r-1", Owner.current())
    there.take_over("r-1", Owner.current(), force=True)
    assert seen(there) == {"streams/gateway.jsonl": b"spent much\n"}
    there.abandon_try("r-1", "0000-1", 1, dollars=Decimal(1), dollars_upper=Decimal(1))
    for attempt in ("0000-1", "0001-1"):
        there.start_try("r-1", attempt, 2)
        there.finish_try("r-1", attempt, 2, replace(result(), id=attempt), Decimal(0))
    assert seen(there) == {"tries/1/streams/gateway.jsonl": b"spent much\n"}
    assert seen(there, "0001-1") == {"tries/1/result.json": b"{}"}


def test_the_same_machine_goes_on_in_another_directory(here: Store, there: Store) -> None:
    begin(here, Owner.current())
    write(here, "streams/gateway.jsonl", b"spent much\n")
    here.keep_files("r-1")
    there.take_over("r-1", Owner.current())
    there.abandon_try("r-1", "0000-1", 1, dollars=None, dollars_upper=Decimal(1))
    there.start_try("r-1", "0000-1", 2)
    there.finish_try("r-1", "0000-1", 2, result(), Decimal(0))
    there.release_files("r-1")
    assert seen(there) == {"tries/1/streams/gateway.jsonl": b"spent much\n"}


def test_who_lost_a_run_writes_nothing_more(here: Store, there: Store) -> None:
    begin(here, ELSEWHERE)
    there.take_over("r-1", Owner.current(), force=True)
    write(here, "stdout", b"of a process that was thought dead")
    refused = [
        lambda: here.keep_files("r-1"),
        lambda: here.finish_try("r-1", "0000-1", 1, result(), Decimal(0)),
        lambda: here.abandon_try("r-1", "0000-1", 1, dollars=None, dollars_upper=Decimal(0)),
        lambda: here.start_try("r-1", "0000-1", 2),
    ]
    for write_late in refused:
        with pytest.raises(RunLost, match="was taken over"):
            write_late()
    assert there.planned("r-1")[0].running_try == 1


def test_released_files_are_read_back_from_the_store(here: Store) -> None:
    begin(here, Owner.current())
    write(here, "stdout", b"out")
    here.finish_try("r-1", "0000-1", 1, result(), Decimal(0))
    assert seen(here) == {"stdout": b"out"}
    here.release_files("r-1")
    assert not here.run_directory("r-1").exists()
    assert seen(here) == {"stdout": b"out"}


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "."])
def test_a_stored_path_that_leads_out_is_not_written(here: Store, there: Store, url: str, tmp_path: Path, path: str) -> None:
    begin(here, ELSEWHERE)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(insert(files), {"run": "r-1", "attempt": "0000-1", "path": path, "start": 0, "content": b"x"})
    engine.dispose()
    with pytest.raises(StoreProblem, match="leads out of"):
        there.evidence_directory("r-1", "0000-1")
    assert not list(tmp_path.rglob("outside"))


def test_links_are_not_followed(here: Store, there: Store, tmp_path: Path) -> None:
    begin(here, ELSEWHERE)
    secret = tmp_path / "secret"
    secret.write_text("of the machine")
    directory = here.attempt_directory("r-1", "0000-1")
    (directory / "link").symlink_to(secret)
    (directory / "directory").symlink_to(tmp_path)
    here.keep_files("r-1")
    assert seen(there) == {}


def test_a_person_elsewhere_answers_what_is_asked_here(here: Store, url: str, tmp_path: Path) -> None:
    """Another directory, another state of podctl's, a process of its own: all that both have is the database."""
    alice = make_key(tmp_path / "alice.pem")
    question = ask(here, alice.public)
    (tmp_path / "elsewhere").mkdir()
    elsewhere, own = Project(tmp_path / "elsewhere"), {"PODCTL_STORE": url, "PODCTL_STATE": str(tmp_path / "state")}
    shown = elsewhere.podctl("approvals", "show", "1111", **own)
    assert shown.returncode == 0 and '{"amount":5}' in shown.stdout, shown.stderr
    done = elsewhere.podctl("approvals", "approve", "1111", "--key", str(tmp_path / "alice.pem"), **own)
    assert done.returncode == 0, done.stderr
    late = elsewhere.podctl("approvals", "deny", "1111", "--key", str(tmp_path / "alice.pem"), **own)
    assert late.returncode == 3 and "[proposal-over]" in late.stderr
    [(proposal, envelope)] = here.take_answers("r-1")
    expected = Expected(question.id, digest_of(question.asked), SETTING.attempt, SETTING.pod, {"alice": alice.public}, {})
    name, grant = verify(envelope, expected, question.asked_ns / 1e9)
    assert (proposal, name, grant.answer) == (question.id, "alice", "approved")
    assert here.take_answers("r-1") == [], "given out once"

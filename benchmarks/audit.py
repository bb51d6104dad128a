"""The audit log: appending to it durably, and verifying a million entries or a million records; what identity costs a record."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.effort import Effort, seconds
from benchmarks.table import Row, ms, spread
from podctl.clock import SystemClock
from podctl.evidence.audit_check import check_log
from podctl.evidence.audit_entries import Entry
from podctl.evidence.identity import spiffe_id, who
from podctl.evidence.log import LEAVES, SEALED, encode, leaves_file
from podctl.evidence.merkle import leaf_hash, root_of
from podctl.evidence.reading import verify
from podctl.evidence.records import Record
from podctl.evidence.store import Store
from podctl.signing import SigningKey

MILLION = 1_000_000
BATCH = 10_000
DIGEST = "9f" * 32
KEY = SigningKey(bytes(range(32)))
WHO = who(
    spiffe_id("podctl.local", "3317af-d4e5f6", "refund-agent", "1.12.3"), DIGEST, "20261122-053317-1f73fb.0042-1", ("shop", DIGEST), "ag_7f3a91c2d4"
)  # fmt: skip


def measure(effort: Effort) -> list[Row]:
    entries = effort.pick(BATCH, MILLION // 5, MILLION)
    store = Store.open(effort.directory / ".podctl", SystemClock(), key=KEY)
    batches = [_batch(number, BATCH) for number in range(entries // BATCH)]
    took = [_took(store, batch) for batch in batches]
    rates, by_processor = ([BATCH / one[at] for one in took] for at in (0, 1))
    lines = [entry for _, _, entry, _ in store.audit_rows() if entry is not None]
    alone = _batch(0, 1)
    single = ms(seconds(lambda: store.append(alone), effort.times(50)))
    rows = [
        Row(f"audit entries appended, {BATCH:,} a transaction, signed, into SQLite", rates, "a second", _plain(effort, lines), target=50_000, at_least=True),
        Row("the same by processor time", by_processor, "a second"),
        Row("one audit entry, one transaction", single, "ms", _one_line(effort, lines[0])),
        Row(f"a log of {store.audit_head()[1]:,} entries verified", seconds(lambda: _whole(store), effort.times(3)), "s", _hashing(lines), target=20),
    ]  # fmt: skip
    store.close()
    return [*rows, *_records(effort, entries)]


def _batch(number: int, size: int) -> list[Entry]:
    facts = {"try": 1, "cause": "completed", "passed": True, "root": DIGEST, "bytes": 81234, "result": DIGEST, "files": {"stdout": DIGEST, "stderr": DIGEST, "result.json": DIGEST}}  # fmt: skip
    return [Entry("attempt.sealed", f"run-{number}", f"{at:05d}-1", facts) for at in range(size)]


def _whole(store: Store) -> None:
    assert check_log(store, [KEY.public]).problems == ()


def _took(store: Store, batch: list[Entry]) -> tuple[float, float]:
    """Seconds, and those of this process's own work: the difference is waiting for the disk and for other processes."""
    began, own = perf_counter(), process_time()
    store.append(batch)
    return perf_counter() - began, process_time() - own


def _plain(effort: Effort, lines: list[str]) -> str:
    """The same lines appended to a file, one fsync a batch."""
    path = effort.directory / "plain"
    content = "\n".join(lines[:BATCH]).encode()
    rates = [BATCH / took for took in seconds(lambda: _append(path, content), 20)]
    return f"the same lines appended to a file with one fsync {spread(rates, 'a second')}"


def _one_line(effort: Effort, line: str) -> str:
    path = effort.directory / "plain"
    return f"appending it to a file with fsync {spread(ms(seconds(lambda: _append(path, line.encode()), 50)), 'ms')}"


def _append(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _hashing(lines: list[str]) -> str:
    return f"sha256 of the same lines alone {spread(seconds(lambda: [hashlib.sha256(line.encode()).digest() for line in lines], 3), 's')}"


def _records(effort: Effort, number: int) -> list[Row]:
    """One attempt's evidence, far larger than any: what counts is the records, not the files."""
    data = {"database": "shop-db", "statement": "UPDATE tickets SET status = $1 WHERE id = $2", "params": ["solved", 17], "ms": 0.41, "user": "ag_7f3a91c2d4", "sqlstate": "00000"}  # fmt: skip
    lines = [
        encode(Record(10**18 + at, "sql.statement", "agent", data, writer="runner", seq=at, who=WHO)) for at in range(number)
    ]
    without = encode(Record(10**18, "sql.statement", "agent", data, writer="runner"))
    leaves = [leaf_hash(line) for line in lines]
    directory = effort.directory / "attempt"
    directory.mkdir()
    (directory / SEALED).write_bytes(b"".join(lines))
    (directory / LEAVES).write_bytes(leaves_file(leaves))
    root = root_of(leaves).hex()
    floor = _hashing_bytes(lines)

    def intact() -> None:
        assert verify(directory, root).intact

    whole = seconds(intact, effort.times(3))
    with open(directory / SEALED, "r+b") as file:
        file.seek(len(lines[0]) * (number // 2) + 60)
        file.write(b"!")

    def damaged() -> None:
        assert len(verify(directory, root).differences) == 1

    return [
        Row(f"{number:,} evidence records verified", whole, "s", floor, target=20),
        Row("the same with one changed, named", seconds(damaged, effort.times(3)), "s", floor, target=20),
        Row("bytes of a record by which it names whose it is", [len(lines[0]) - len(without) + 0.0], "bytes", f"the rest of a statement's record {len(without)} bytes"),
    ]  # fmt: skip


def _hashing_bytes(lines: list[bytes]) -> str:
    return f"sha256 of them alone {spread(seconds(lambda: [hashlib.sha256(line).digest() for line in lines], 3), 's')}"

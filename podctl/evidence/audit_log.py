"""Appending to a store's audit log, in the transaction that does what is told: log and store cannot come to differ by a kill.

The head's row is locked until the transaction ends, so that writers stand in line and there is no gap. With a key the log is signed
every `EVERY` entries and at each run's end; without, checkpoints are kept unsigned.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, insert, select, update

from podctl.clock import Clock
from podctl.evidence.audit_entries import Entry, digest, who
from podctl.evidence.audit_facts import adopted_facts
from podctl.evidence.merkle import Frontier, leaf_hash
from podctl.evidence.note import Checkpoint, sign_note
from podctl.evidence.schema import attempts, audit, audit_checkpoints, audit_head, runs
from podctl.signing import SigningKey

#: Entries between two checkpoints.
EVERY = 1_000
#: After which there is a checkpoint at once: what others are told of is covered.
_ENDS = frozenset({"run.judged", "run.merged"})


class AuditLog:
    """One store's log. ``key`` signs checkpoints; None leaves them unsigned."""

    def __init__(self, clock: Clock, key: SigningKey | None) -> None:
        self._clock = clock
        self.key = key

    def append(self, connection: Connection, entries: Iterable[Entry]) -> None:
        """To be called last in a transaction: others wait for its end."""
        made = list(entries)
        if not made:
            return
        head = connection.execute(select(audit_head).with_for_update()).one()
        before = Frontier(head.size, _peaks(head.peaks))
        now, by = self._clock.wall_ns(), who()
        lines, last = [], _last_of(connection, {entry.run for entry in made if entry.run})
        for position, entry in enumerate(made, head.size):
            lines.append(entry.line(position, now, by, last.get(entry.run)))
            if entry.run:
                last[entry.run] = position
        leaves = [leaf_hash(line.encode("ascii")) for line in lines]
        rows = [
            (position, entry.run, line, leaf.hex())
            for position, (entry, line, leaf) in enumerate(zip(made, lines, leaves, strict=True), head.size)
        ]
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        # By the driver: what SQLAlchemy does for each row costs as much as hashing and encoding it.
        connection.exec_driver_sql(f"INSERT INTO audit (position, run, entry, leaf) VALUES ({', '.join([mark] * 4)})", rows)
        after = before.plus(leaves)
        connection.execute(update(audit_head).values(size=after.size, peaks=b"".join(after.peaks).hex()))
        if before.size // EVERY != after.size // EVERY or any(entry.kind in _ENDS for entry in made):
            self._checkpoint(connection, head.origin, after)

    def _checkpoint(self, connection: Connection, origin: str, at: Frontier) -> str:
        checkpoint = Checkpoint(origin, at.size, at.root)
        note = checkpoint.text if self.key is None else sign_note(checkpoint.text, origin, self.key)
        row = {"size": at.size, "note": note, "key": "" if self.key is None else self.key.public.raw.hex()}
        connection.execute(insert(audit_checkpoints), row)
        return note

    def checkpoint(self, connection: Connection) -> str:
        """The note of a checkpoint of the log as it is. One that is there stays, unless this log has a key and that is not of it."""
        head = connection.execute(select(audit_head).with_for_update()).one()
        of_now = audit_checkpoints.c.size == head.size
        there = connection.execute(select(audit_checkpoints).where(of_now)).first()
        if there is not None and (self.key is None or there.key == self.key.public.raw.hex()):
            return str(there.note)
        connection.execute(delete(audit_checkpoints).where(of_now))
        return self._checkpoint(connection, head.origin, Frontier(head.size, _peaks(head.peaks)))


def begin_log(connection: Connection, clock: Clock) -> None:
    """The log of a store that has none yet; runs that are there are told as they are found."""
    if connection.execute(select(audit_head.c.origin)).first() is not None:
        return
    origin = f"podctl.store/{secrets.token_hex(8)}"
    connection.execute(insert(audit_head), {"origin": origin, "size": 0, "peaks": ""})
    there = connection.execute(select(runs).order_by(runs.c.started_ns, runs.c.id)).mappings().all()
    if not there:
        return
    adopted = [Entry("log.adopted", data={"runs": len(there)})]
    adopted += [Entry("run.adopted", row["id"], data=adopted_facts(dict(row))) for row in there]
    ended = connection.execute(
        select(attempts.c.run, attempts.c.id, attempts.c.evidence_root, attempts.c.result)
        .where(attempts.c.state == "ended")
        .order_by(attempts.c.run, attempts.c.position, attempts.c.repeat)
    )
    adopted += [
        Entry("attempt.adopted", row.run, row.id, {"root": row.evidence_root, "result": digest(row.result)}) for row in ended
    ]
    AuditLog(clock, None).append(connection, adopted)


def _last_of(connection: Connection, of: Iterable[str]) -> dict[str, int]:
    """Run -> the place of its last entry so far."""
    found = {}
    for run in of:
        last = connection.execute(select(func.max(audit.c.position)).where(audit.c.run == run)).scalar()
        if last is not None:
            found[run] = last
    return found


def _peaks(text: str) -> tuple[bytes, ...]:
    raw = bytes.fromhex(text)
    return tuple(raw[at : at + 32] for at in range(0, len(raw), 32))

"""``podctl undo``: the rows that an attempt changed, taken back from its evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from podctl.cli.common import open_store, store_option, table
from podctl.cli.evidence import attempt_on
from podctl.errors import ExitCode, PodctlError

if TYPE_CHECKING:
    from podctl.data.undo import Undo
    from podctl.evidence.records import Record
    from podctl.evidence.store_read import StorePlace


@click.command("undo")
@click.argument("run")
@click.argument("ticket", required=False)
@click.option("--repeat", default=1, show_default=True, help="Which of the attempts on the ticket.")
@click.option("--database", help="Whose SQL, where rows of several changed.")
@store_option
def undo_command(run: str, ticket: str | None, repeat: int, database: str | None, store: StorePlace) -> int:
    """Print the SQL that takes back the rows an attempt changed; without a ticket, say of each attempt whether it can be.

    Exits with 1 where something cannot be taken back; what, stands in the script.

    \b
    podctl undo latest
    podctl undo latest T-0042 > undo.sql && psql -v ON_ERROR_STOP=1 -f undo.sql
    """
    from podctl.evidence.reading import read_attempt

    if ticket is None:
        return _every(run, store)
    opened, info, attempt = attempt_on(store, run, ticket, repeat)
    found = _undo(read_attempt(opened.evidence_directory(info.id, attempt.id)))
    if not found:
        click.echo(f"-- Attempt {attempt.id} changed no row.")
        return 0
    if database is None and len(found) > 1:
        raise PodctlError(
            f"rows of {len(found)} databases changed: {', '.join(one.database for one in found)}",
            code="undo-database",
            hint="name one with --database, and run each script in its own",
            exit_code=ExitCode.USAGE,
        )
    chosen = [one for one in found if database in (None, one.database)]
    if not chosen:
        raise PodctlError(
            f"no row of {database} changed",
            code="undo-database",
            hint=f"rows of {', '.join(one.database for one in found)} did",
            exit_code=ExitCode.USAGE,
        )
    click.echo(chosen[0].script(attempt.id))
    return int(bool(chosen[0].cannot))


def _every(run: str, store: StorePlace) -> int:
    from podctl.evidence.reading import read_attempt

    opened = open_store(store)
    result = opened.load_run(opened.find_run(run))
    rows = []
    whole = True
    for attempt in result.attempts:
        found = _undo(read_attempt(opened.evidence_directory(result.info.id, attempt.id)))
        cannot = [what for one in found for what in one.cannot]
        whole = whole and not cannot
        count = sum(len(one.statements) for one in found)
        rows.append(
            (attempt.id, attempt.ticket, str(count), "; ".join(cannot[:2]) or ("whole" if found else "nothing changed"))
        )
    table(("ATTEMPT", "TICKET", "ROW CHANGES", "CAN BE TAKEN BACK"), rows)
    return int(not whole)


def _undo(records: Iterable[Record]) -> list[Undo]:
    from podctl.data.undo import Undo, undo

    records = list(records)
    found = undo(record.data for record in records if record.kind == "row.change")
    dropped = [str(record.data.get("body")) for record in records if record.data.get("dropped_changes")]
    if dropped:
        (found or [Undo("a database that is not known")])[0].cannot.extend(dropped)
    return found

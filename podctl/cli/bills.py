"""What was projected, what it really cost, and how good the projections are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import emit_json, open_store, output_option, store_option, table

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace, StoreReader
    from podctl.projection.ledger import Bill, Kept


@click.group("bills")
def bills_command() -> None:
    """Enter what projected months really cost, and see how often the stated ranges held.

    \b
    podctl bills show
    podctl bills import bills.csv
    """


@bills_command.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--replace", is_flag=True, help="Put them in the place of bills entered before.")
@store_option
def import_command(file: Path, replace: bool, store: StorePlace) -> int:
    """Enter bills from a CSV file: all of them, or with a mistake none.

    \b
    projection,since,until,dollars,tickets
    p3f2a91c0d4e,2026-12-01,2026-12-31,1312.44,20871

    Also: period (from 1, of a projection of several), what (total, or one of its parts, such as models), currency (USD), invoice.
    """
    import time

    from podctl.clock import SystemClock
    from podctl.errors import SpecError
    from podctl.evidence import codec
    from podctl.evidence.store import Store
    from podctl.projection.ledger import read_bills

    try:
        content = file.read_bytes()
    except OSError as error:
        raise SpecError(
            f"cannot read {file}", code="bills-unreadable", cause=error.strerror or "", unchanged="no bill was entered"
        ) from error
    opened = Store.at(store, SystemClock())
    kept, before = _ledger(opened)
    bills = read_bills(content, file.name, kept, before, time.time_ns(), replace=replace)
    opened.enter_bills([codec.to_json(bill) for bill in bills])
    click.echo(f"{len(bills)} {'bill' if len(bills) == 1 else 'bills'} entered; podctl bills show has what they say")
    return 0


@bills_command.command("show")
@output_option("json")
@store_option
def show_command(store: StorePlace, output: str) -> int:
    """Projections that were kept, the bills that came, and the running calibration.

    \b
    podctl bills show
    """
    from podctl.projection.ledger import calibration, tally_text
    from podctl.reports.jsonreport import plain
    from podctl.stats.units import plural

    kept, bills = _ledger(open_store(store))
    found = calibration(kept, bills)
    if output == "json":
        emit_json("Calibration", [plain(found)])
        return 0
    if not kept:
        click.echo("no projection was kept yet: podctl project keeps each")
        return 0
    table(
        ("projection", "stated", "agent", "run", "volume", "period", "stated dollars", "range", "bill", ""), _rows(kept, bills)
    )
    click.echo()
    if found.as_stated is None:
        click.echo("no bill was compared yet: podctl bills import FILE")
    else:
        click.echo(f"calibration: {tally_text(found.as_stated)}")
    if found.per_ticket is not None:
        click.echo(f"for the tickets that really came: {tally_text(found.per_ticket)}")
    if found.simulated:
        click.echo(f"{plural(found.simulated, 'bill')} of simulated projections: in no count")
    return 0


def _ledger(opened: StoreReader) -> tuple[list[Kept], list[Bill]]:
    from podctl.evidence import codec
    from podctl.projection.ledger import Bill, Kept

    kept = [Kept(name, body) for name, body in opened.kept_projections()]
    return kept, [codec.from_json(Bill, bill) for bill in opened.entered_bills()]


def _rows(kept: list[Kept], bills: list[Bill]) -> list[tuple[str, ...]]:

    rows: list[tuple[str, ...]] = []
    for one in kept:
        came = {(bill.what, bill.period): bill for bill in bills if bill.projection == one.id}
        wanted = dict.fromkeys([*(("total", number) for number in range(1, one.periods + 1)), *came])
        for what, period in wanted:
            figure, bill = one.figure(what, period), came.get((what, period))
            head = (one.id, str(one.made), one.agent, one.run, one.volume)
            name = f"{period} of {one.periods}" + ("" if what == "total" else f", {what}")
            stated = _dollars(None if figure is None else figure.value)
            ranged = "none" if figure is None or figure.low is None else f"{_dollars(figure.low)} to {_dollars(figure.high)}"
            rows.append((*head, name, stated, ranged, *_verdict(one, bill, figure)))
    return rows


def _verdict(kept: Kept, bill: Bill | None, figure: Any) -> tuple[str, str]:
    if bill is None or figure is None or figure.low is None:
        return "", "simulated" if kept.simulated else ""
    actual = float(bill.dollars)
    side = "above its range" if actual > figure.high else "below its range" if actual < figure.low else "within"
    return _dollars(actual), side + (", simulated" if kept.simulated else "")


def _dollars(amount: float | None) -> str:
    from decimal import Decimal

    from podctl.stats.units import dollars

    return dollars(None if amount is None else Decimal(repr(amount)))

"""Shards of a run, put together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import open_store, store_option
from podctl.cli.run import files_of, report_options, say, show

if TYPE_CHECKING:
    from podctl.controller.merging import Piece
    from podctl.evidence.store import Store
    from podctl.evidence.store_read import StorePlace


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, metavar="RUN|DIRECTORY...")
@click.option(
    "--baseline", metavar="RUN|BRANCH", help="Compare with this run, or the latest of this git branch, ticket by ticket."
)
@report_options
@store_option
def merge_command(shards: tuple[str, ...], store: StorePlace, strict: bool, output: str, **given: Any) -> int:
    """Put the shards of a run together, with their evidence, and judge the whole as if it had been made in one piece.

    RUN is a shard in this store. DIRECTORY is another store, whose shards are all taken, or one run of it
    (STORE/runs/RUN). The shards stay as they are. The same shards make the same run, however often they are merged.

    \b
    podctl merge 20250102-030405-a1b2c3 20250102-030406-d4e5f6
    podctl merge shard-1/.podctl shard-2/.podctl --baseline latest

    Exit codes: those of podctl run.
    """
    from podctl.clock import SystemClock
    from podctl.controller.host import verdict_code
    from podctl.controller.merging import merge
    from podctl.controller.run import load_baseline
    from podctl.evidence.store import Store
    from podctl.reports.files import write_reports
    from podctl.signing import configured_key

    opened = Store.at(store, SystemClock(), key=configured_key())
    pieces = [piece for one in shards for piece in _pieces(opened, one)]
    scenario = pieces[0].result.info.scenario if pieces else ""
    base = load_baseline(opened, given["baseline"], scenario) if given["baseline"] else None
    result, was_there = merge(pieces, opened, base)
    if was_there:
        say(f"these shards were merged before: run {result.info.id} is judged again")
    report, written = write_reports(result, open_store(store), files_of(given))
    show(report, written, output)
    return int(verdict_code(result, strict=strict))


def _pieces(store: Store, given: str) -> list[Piece]:
    """Raises `PodctlError`."""
    from podctl.controller.merging import piece_of, pieces_in

    directory = Path(given)
    if directory.parent.name == "runs" and (directory.parents[1] / "store.db").is_file():
        return [piece_of(store_in(directory.parents[1]), directory.name)]
    return pieces_in(store_in(directory)) if directory.is_dir() else [piece_of(store, given)]


def store_in(directory: Path) -> Store:
    """One that is there. Raises `PodctlError`."""
    from podctl.clock import SystemClock
    from podctl.errors import SpecError
    from podctl.evidence.store import Store

    if not (directory / "store.db").is_file():
        raise SpecError(
            f"{directory} is no store",
            code="merge-no-store",
            cause="there is no store.db in it",
            hint="name what --store named when the shard was made, or the .podctl that it left",
        )
    return Store.open(directory, SystemClock())

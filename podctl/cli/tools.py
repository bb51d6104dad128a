"""``podctl tools``: what MCP servers said of their tools in a run, whether that changed, and a file to hold it against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from podctl.cli.common import emit_json, open_store, output_option, store_option
from podctl.errors import SpecError

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace
    from podctl.evidence.toollocks import Listed


@click.group("tools")
def tools_command() -> None:
    """What MCP servers said of their tools: listed, compared, pinned.

    \b
    podctl tools list latest
    podctl tools lock latest --out tools.json
    podctl tools diff tools.json latest
    """


@tools_command.command("list")
@click.argument("run", default="latest")
@store_option
@output_option("json")
def list_command(run: str, store: StorePlace, output: str) -> int:
    """What each server of RUN listed, with what to look at."""
    from podctl.evidence.safe import printable

    listed = _of_run(run, store)
    if output == "json":
        emit_json("ToolLists", listed.to_json())
        return 0
    for server, tools in listed.servers.items():
        for name, versions in sorted(tools.items()):
            for one in versions:
                level = f" ({one.level})" if one.level else ""
                click.echo(f"{server}.{printable(name, 128)}{level}  {one.digest[:12]}  {printable(one.description, 80)}")
                for finding in one.findings:
                    click.echo(f"  look at it: {printable(finding, 200)}")
            if len(versions) > 1:
                click.echo(f"  {len(versions)} different ones in this run")
    if not listed.servers:
        click.echo("no MCP server listed its tools in this run")
    return 0


@tools_command.command("lock")
@click.argument("run", default="latest")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where to write it; not over another file."
)
@store_option
def lock_command(run: str, out: Path, store: StorePlace) -> int:
    """Write what the servers of RUN listed, after you looked at it: `diff` holds later runs against it."""
    from podctl.evidence.toollocks import lock_text

    listed = _of_run(run, store)
    several = [f"{server}.{name}" for server, tools in listed.servers.items() for name, of in tools.items() if len(of) > 1]
    if several or not listed.servers:
        cause = (
            f"in this run there were different ones of {several[0]}"
            if several
            else "no MCP server listed its tools in this run"
        )
        raise SpecError("there is nothing to pin", code="tools-lock", cause=cause, unchanged=f"{out} was not written")
    try:
        with out.open("x", encoding="ascii") as stream:
            stream.write(lock_text(listed))
    except OSError as error:
        raise SpecError(
            f"cannot write {out}", code="tools-lock", cause=error.strerror or str(error), unchanged="nothing was written"
        ) from error
    count = sum(len(tools) for tools in listed.servers.values())
    click.echo(f"{out}: {count} entries of {', '.join(listed.servers)}")
    return 0


@tools_command.command("diff")
@click.argument("before")
@click.argument("after", default="latest")
@store_option
@output_option("json")
def diff_command(before: str, after: str, store: StorePlace, output: str) -> int:
    """What the servers say otherwise in AFTER than in BEFORE: runs, or files that `lock` wrote. Exits with 1 when they do."""
    from podctl.evidence.safe import printable
    from podctl.evidence.toollocks import changes_of

    found = changes_of(_either(before, store), _either(after, store))
    if output == "json":
        emit_json("ToolChanges", [{"what": what, "before": was, "after": now} for what, was, now in found])
        return 1 if found else 0
    for what, was, now in found:
        click.echo(printable(what, 300))
        if was != now:
            click.echo(f"  - {printable(was, 1_000)}")
            click.echo(f"  + {printable(now, 1_000)}")
    if not found:
        click.echo("the same")
    return 1 if found else 0


def _either(name: str, store: StorePlace) -> Listed:
    from podctl.evidence.toollocks import read_lock

    path = Path(name)
    return read_lock(path) if path.suffix == ".json" else _of_run(name, store)


def _of_run(run: str, store: StorePlace) -> Listed:
    from podctl.evidence.reading import read_attempt
    from podctl.evidence.toollocks import Listed

    opened = open_store(store)
    name, listed = opened.find_run(run), Listed()
    for attempt in opened.each_attempt(name):
        if attempt.tool_lists:
            for record in read_attempt(opened.evidence_directory(name, attempt.id)):
                listed.add(record)
    return listed

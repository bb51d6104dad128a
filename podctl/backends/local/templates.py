"""Prepared data directories, named by what is in them: built once, copied by every pod."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import time
from pathlib import Path

import psycopg

from podctl.backends.local import postgres
from podctl.backends.local.files import remove_tree
from podctl.backends.local.pod import TEMPLATE_DATABASE, LocalPod, Runtime
from podctl.backends.local.state import Owner, State
from podctl.data.seed import seed_digest
from podctl.data.settings import settings_for
from podctl.data.template import build_template, template_name, trim
from podctl.errors import EnvironmentProblem
from podctl.faults import point
from podctl.spec.models import Database, Topology
from podctl.spec.topology import databases

#: table -> columns; written last, so that a directory which has it is whole.
COLUMNS = "columns.json"
#: Ends the name of a template that is not whole yet.
BUILDING = ".building"


def columns(template: Path) -> dict[str, list[str]]:
    """The tables of a prepared database and their columns."""
    found: dict[str, list[str]] = json.loads((template / COLUMNS).read_text())
    return found


def directory_name(database: Database) -> str:
    """Named by the seed's contents, the server's version and settings, and podctl's way of preparing."""
    programs = postgres.programs()
    facts = {**settings_for(programs.major), "server": programs.version, "database": database.name}
    return template_name(seed_digest(database.seed), facts)


async def prepare(state: State, topology: Topology, runtime_paths: list[Path], own_uids: bool) -> dict[str, Path]:
    """Database -> template directory (``data``, ``password`` and ``columns.json`` in it); builds what is missing."""
    ready = {}
    for name in databases(topology):
        database = topology.databases[name]
        target = state.templates / directory_name(database)
        if not (target / COLUMNS).exists():
            with await asyncio.to_thread(state.held, target.name):
                if not (target / COLUMNS).exists():
                    await _build(state, name, topology, database, target, runtime_paths, own_uids)
        os.utime(target / COLUMNS)  # gc removes what nobody has used for long
        ready[name] = target
    return ready


async def _build(
    state: State, name: str, topology: Topology, database: Database, target: Path, runtime_paths: list[Path], own_uids: bool
) -> None:
    if target.exists():
        remove_tree(target)
    alone = Topology(apiVersion="podctl/v1", kind="Topology", name=topology.name, databases={name: database})
    # As long as the names of a run's pods: a path that is too long for their sockets shows here, before the run begins.
    pod_id = f"tpl-{secrets.token_hex(5)[1:]}"
    record = state.create(
        pod_id, "template", owner=Owner.me(), now_ns=time.time_ns(), ttl_s=3600, kept=False, own_uids=own_uids
    )
    point("template.claimed")
    pod = LocalPod(state, record, alone, Runtime(runtime_paths), {})
    password = secrets.token_urlsafe(24)
    try:
        await pod.make_network()
        point("template.networked")
        await pod.initialise_server(name, password)
        point("template.initialised")
        conninfo = await pod.start_server(name, password)
        point("template.started")
        try:
            facts = await build_template(conninfo, TEMPLATE_DATABASE, database.seed)
            await trim(conninfo, password)
        except (psycopg.Error, EnvironmentProblem) as error:
            raise pod.database_problem(name, f"the template of {name} could not be made", error) from error
        await pod.stop_server(name, signal.SIGINT)
        point("template.stopped")
        await pod.close()
        finished = target.with_suffix(BUILDING)
        if finished.exists():
            remove_tree(finished)
        finished.mkdir()
        finished.chmod(0o755)
        shutil.move(pod.files.data(name), finished / "data")
        point("template.moved")
        _open_for_copying(finished / "data")
        (finished / "password").write_text(password)
        (finished / "password").chmod(0o600)
        (finished / COLUMNS).write_text(json.dumps(facts.columns))
        point("template.drafted")
        finished.rename(target)
        point("template.made")
    finally:
        await pod.close()
        await pod.gone()
        state.remove(pod_id)


def _open_for_copying(data: Path) -> None:
    """Readable by the pods' users, who reach it only through the bind in their own mount namespace."""
    for stale in (data / "postmaster.pid", data / "postmaster.opts"):
        stale.unlink(missing_ok=True)
    for log in (data / "log").glob("*"):
        log.unlink()
    owner = os.getuid()
    for root, directories, files in os.walk(data):
        for entry in (root, *(f"{root}/{name}" for name in files)):
            os.chown(entry, owner, os.getgid())
            os.chmod(entry, 0o755 if entry == root else 0o644)  # noqa: PTH101
        _ = directories

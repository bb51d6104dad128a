"""Live databases for captures to read, projects around them, and copies made of what was captured."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import yaml
from postgres_server import binaries, serving
from psycopg import sql

from podctl.backends.local.postgres import programs
from podctl.capture.capturing import Order, write_seeds
from podctl.capture.masked import masking_of
from podctl.capture.planning import Plan, opened
from podctl.capture.postgres_schema import DumpPrograms
from podctl.data.captured import CapturedSeed
from podctl.data.connect import connect
from podctl.data.seed import load_seed
from podctl.spec.models import Seed


def dump_programs() -> DumpPrograms:
    ours = programs()
    return DumpPrograms(ours.root / "bin", ours.major)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server by its superuser's URL. ``made``: the databases that were made by this value."""

    url: str
    made: list[str] = field(default_factory=list, compare=False)

    def of(self, database: str, user: str | None = None) -> str:
        parts = urlsplit(self.url)
        return parts._replace(netloc=f"{user}@" if user else parts.netloc, path=f"/{database}").geturl()

    def database(self, script: str = "", encoding: str = "UTF8") -> str:
        """The URL of a new database in which the script has run."""
        name = f"d_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                    sql.Identifier(name), sql.Literal(encoding)
                )
            )
        url = self.of(name)
        self.made.append(url)
        if script:
            with psycopg.connect(url, autocommit=True) as session:
                session.execute(script.encode())
        return url

    def copy(self, of: str) -> str:
        """The URL of a new database with everything of another, which nobody uses."""
        name = f"d_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url, autocommit=True) as admin:
            original = sql.Identifier(urlsplit(of).path[1:])
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(name), original))
        self.made.append(self.of(name))
        return self.made[-1]

    def loaded(self, seed: Path) -> str:
        """The URL of a new database that holds a captured seed."""
        url = self.database()

        async def load() -> None:
            session = await connect(url)
            try:
                await load_seed(session, Seed(captured=seed))
            finally:
                await session.close()

        asyncio.run(load())
        return url

    def drop(self, *urls: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as admin:
            for url in urls:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(urlsplit(url).path[1:])))
        self.made[:] = [url for url in self.made if url not in urls]


@contextmanager
def standby(server: Server) -> Iterator[Server]:
    """A hot standby of the server, as it is now; nothing is replicated afterwards."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("CHECKPOINT")

    def data(place: Path, as_user: list[str]) -> None:
        backup = [
            binaries() / "pg_basebackup",
            "-D",
            place,
            "-d",
            server.url,
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ]
        subprocess.run([*as_user, *backup], check=True, capture_output=True, cwd=place.parent)

    with serving(initialize=data) as url:
        yield Server(url)


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as session:
        cursor = session.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def project(directory: Path, url: str, tickets: Iterable[Mapping[str, Any]] = (), **spec: Any) -> Path:
    """A Capture file, of ``spec`` without what every one has; ``rows`` are tickets.rows."""
    rows = spec.pop("rows", [])
    whole: dict[str, Any] = {
        "apiVersion": "podctl/v1",
        "kind": "Capture",
        "name": spec.pop("name", "shop"),
        "source": {"url": url, "lock_timeout": "300ms", **spec.pop("source", {})},
    }
    entries = [json.dumps(dict(ticket)) for ticket in tickets]
    if entries:
        (directory / "tickets.jsonl").write_text("\n".join(entries) + "\n")
        (directory / "tickets.yaml").write_text(
            "apiVersion: podctl/v1\nkind: Tickets\nname: t\nsource: tickets.jsonl\nfields: {reference: reference}\n"
            if any("reference" in ticket for ticket in map(json.loads, entries))
            else "apiVersion: podctl/v1\nkind: Tickets\nname: t\nsource: tickets.jsonl\n"
        )
        whole["tickets"] = {"file": "tickets.yaml", "rows": rows, **spec.pop("tickets", {})}
    if "masking" not in spec:
        whole["unmasked"] = "invented rows"
    path = directory / "capture.yaml"
    path.write_text(yaml.safe_dump({**whole, **spec}))
    return path


def planned(path: Path) -> Plan:
    with opened([path], dump_programs()) as (source,):
        return source.plan()


def captured(path: Path, out: Path, *, replace: bool = False) -> CapturedSeed:
    with opened([path], dump_programs()) as (source,):
        order = Order(source, source.plan(), out, masking_of(source.spec, None, out))
        return write_seeds([order], replace=replace)[0]

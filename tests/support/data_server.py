"""The PostgreSQL server that tests of `podctl.data` share."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from podctl.data.database import PostgresDatabase


@dataclass(frozen=True)
class Server:
    directory: Path
    bin: Path
    conninfo: str  # superuser, over the Unix socket
    log: Path
    host: str

    def database(self, name: str, template: str, services: tuple[str, ...] = ()) -> Awaitable[PostgresDatabase]:
        return PostgresDatabase.open("shop-db", self.conninfo, template, name, self.log, services)

    def as_role(self, role: str, password: str, database: str) -> str:
        return psycopg.conninfo.make_conninfo(host=self.host, user=role, password=password, dbname=database)

"""Database roles of agents and services: what may be done is a grant, never a convention."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Literal

import psycopg
from psycopg import sql

from podctl.approvals.rows import APPROVED_ROLE
from podctl.data.catalog import Catalog, Column, Table
from podctl.data.connect import Connection, end_sessions, first_line
from podctl.data.lockdown import SERVICE_GROUP
from podctl.data.seed import find_table
from podctl.data.settings import SERVICE_SETTINGS
from podctl.errors import EnvironmentProblem, SpecError
from podctl.spec.models import TableRule

Privilege = Literal["read", "insert", "update"]
#: System columns by which `podctl.gateway.rowdoor` tells versions of rows.
_VERSION = ("tableoid", "ctid", "xmin")
_SQL_PRIVILEGE: dict[Privilege, str] = {"read": "SELECT", "insert": "INSERT", "update": "UPDATE"}


class BoundaryProblem(SpecError):
    """A boundary names something that the database does not have."""


class RoleProblem(EnvironmentProblem):
    """A role could not be made, changed or removed."""


def scram_verifier(password: str, salt: bytes | None = None, iterations: int = 4096) -> str:
    """What PostgreSQL stores for a SCRAM-SHA-256 password (RFC 5803), so that the password itself is never sent.

    ``iterations`` make guessing a weak password slow; fewer than 4096 some drivers refuse.
    """
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(piece).decode() for piece in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)


def _render(statement: str, **parts: sql.Composable) -> str:
    return sql.SQL(statement).format(**parts).as_string(None)


def settings_of(role: str, settings: Mapping[str, str]) -> list[str]:
    """The statements that give a role's sessions these settings."""
    return [
        _render(
            "ALTER ROLE {role} SET {name} = {value}",
            role=sql.Identifier(role),
            name=sql.Identifier(name),
            value=sql.SQL(value) if name == "search_path" else sql.Literal(value),
        )
        for name, value in settings.items()
    ]


def statements_for_agent(role: str, password: str, database: str) -> list[str]:
    """The statements that make ``role``, which may connect to ``database`` and do nothing there.

    ``password`` is the password or, better, its `scram_verifier`.
    """
    name = sql.Identifier(role)
    return [
        _render(
            "CREATE ROLE {role} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            " CONNECTION LIMIT 4 PASSWORD {password}",
            role=name,
            password=sql.Literal(password),
        ),
        _render("GRANT CONNECT ON DATABASE {database} TO {role}", database=sql.Identifier(database), role=name),
    ]


def grants_for_agent(role: str, rules: Mapping[str, TableRule], catalog: Catalog) -> list[str]:
    """The statements that give ``role`` exactly the rights of ``rules`` (table -> rule). Raises `BoundaryProblem`."""
    name = sql.Identifier(role)
    statements = []
    schemas: dict[str, None] = {}
    sequences: dict[tuple[str, str], None] = {}
    grants: list[str] = []
    for table_name, rule in rules.items():
        table = _table(catalog, table_name)
        granted = _grants(name, table_name, table, rule)
        if granted:
            schemas[table.schema] = None
            grants += granted
        if rule.insert:
            # Identity columns draw from their sequence without a right of the user's, serial columns do not.
            sequences |= {column.sequence: None for column in table.columns if column.sequence}
    for schema in schemas:
        statements.append(_render("GRANT USAGE ON SCHEMA {schema} TO {role}", schema=sql.Identifier(schema), role=name))
    for sequence in sequences:
        statements.append(_render("GRANT USAGE ON SEQUENCE {name} TO {role}", name=sql.Identifier(*sequence), role=name))
    return statements + grants


def grants_for_approved(rules: Mapping[str, TableRule], catalog: Catalog) -> list[str]:
    """The same for `APPROVED_ROLE`, which also reads what tells one row, and one version of it, from every other. Raises `BoundaryProblem`."""
    name = sql.Identifier(APPROVED_ROLE)
    statements = grants_for_agent(APPROVED_ROLE, rules, catalog)
    for table_name in rules:
        table = _table(catalog, table_name)
        if table.relkind == "v":
            continue  # of whose rows there are no versions
        columns = sql.SQL(", ").join(map(sql.Identifier, (*_VERSION, *table.primary_key)))
        target = sql.Identifier(table.schema, table.name)
        statements.append(
            _render("GRANT SELECT ({columns}) ON TABLE {target} TO {role}", columns=columns, target=target, role=name)
        )
    return statements


def grants_as_written(role: str, rules: Mapping[str, TableRule]) -> list[str]:
    """The same of databases that are not at hand: names as the boundary writes them, and without the sequences that an insert may draw from."""
    tables = [
        Table(*_schema_and_name(table), "r", tuple(Column(name, "text") for name in _columns_named(rule)))
        for table, rule in rules.items()
    ]
    catalog = Catalog(dict(enumerate(tables)))
    return grants_for_agent(role, rules, catalog)


def _schema_and_name(table: str) -> tuple[str, str]:
    schema, _, name = table.rpartition(".")
    return schema or "public", name


def _columns_named(rule: TableRule) -> dict[str, None]:
    return {column: None for listed in (rule.read, rule.insert, rule.update) if isinstance(listed, tuple) for column in listed}


def _table(catalog: Catalog, name: str) -> Table:
    table, like = find_table(catalog, name)
    if table is None:
        hint = f"did you mean {' or '.join(like)}?" if like else f"it has {', '.join(sorted(catalog.by_name())) or 'no tables'}"
        raise BoundaryProblem(
            f"the boundary names table {name}, which does not exist",
            code="boundary-table",
            hint=hint,
            unchanged="nothing was granted",
        )
    return table


def _grants(role: sql.Identifier, named: str, table: Table, rule: TableRule) -> list[str]:
    target = sql.Identifier(table.schema, table.name)
    statements = []
    wanted: dict[Privilege, bool | tuple[str, ...]] = {"read": rule.read, "insert": rule.insert, "update": rule.update}
    for privilege, columns in wanted.items():
        if columns is True:
            statement = f"GRANT {_SQL_PRIVILEGE[privilege]} ON TABLE {{target}} TO {{role}}"
            statements.append(_render(statement, target=target, role=role))
        elif columns:
            listed = sql.SQL(", ").join(sql.Identifier(_column(named, table, column)) for column in columns)
            statement = f"GRANT {_SQL_PRIVILEGE[privilege]} ({{columns}}) ON TABLE {{target}} TO {{role}}"
            statements.append(_render(statement, columns=listed, target=target, role=role))
    if rule.delete:
        statements.append(_render("GRANT DELETE ON TABLE {target} TO {role}", target=target, role=role))
    return statements


def _column(named: str, table: Table, column: str) -> str:
    names = [one.name for one in table.columns]
    if column not in names:
        like = get_close_matches(column, names, n=3)
        hint = f"did you mean {' or '.join(like)}?" if like else f"it has {', '.join(names)}"
        raise BoundaryProblem(
            f"the boundary names column {named}.{column}, which does not exist",
            code="boundary-column",
            hint=hint,
            unchanged="nothing was granted",
        )
    return column


def service_role(service: str) -> str:
    return f"svc_{service}"


def statements_for_service(role: str, password: str) -> list[str]:
    """The statements that make a service's role: reads and writes every row, changes no schema."""
    return [
        _render(
            "CREATE ROLE {role} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            " IN ROLE {group} PASSWORD {password}",
            role=sql.Identifier(role),
            group=sql.Identifier(SERVICE_GROUP),
            password=sql.Literal(password),
        ),
        *settings_of(role, SERVICE_SETTINGS),
    ]


def open_to_services(database: str) -> list[str]:
    """A clone has none of its template's database-level rights: close it to all, open it to services."""
    name, group = sql.Identifier(database), sql.Identifier(SERVICE_GROUP)
    return [
        _render("REVOKE ALL ON DATABASE {name} FROM PUBLIC", name=name),
        _render("GRANT CONNECT ON DATABASE {name} TO {group}", name=name, group=group),
        _render("ALTER DATABASE {name} WITH CONNECTION LIMIT -1", name=name),
    ]


async def apply(connection: Connection, statements: Collection[str]) -> None:
    """Run all of them or none. Raises `RoleProblem`."""
    try:
        # Sent as one string: one round trip and one transaction.
        await connection.execute("; ".join(statements).encode())
    except psycopg.Error as error:
        raise RoleProblem("database roles could not be set up", code="role-failed", cause=first_line(error)) from error


async def drop_role(admin: Connection, role: str, inside: Connection | None = None) -> None:
    """End the role's sessions and remove it with everything granted to it; no error if there is none.

    ``inside`` is a connection to the database the role has rights in, where it has some. Raises `RoleProblem`.
    """
    name = sql.Identifier(role)
    try:
        cursor = await admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
        if await cursor.fetchone() is None:
            return
        await admin.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(name))
        # Waited for: a session that is still committing would change rows after they were read.
        if not await end_sessions(admin, role=role):
            raise RoleProblem(f"sessions of {role} do not end", code="role-sessions", cause="they ignore being terminated")
        await (inside or admin).execute(sql.SQL("DROP OWNED BY {}").format(name))
        await admin.execute(sql.SQL("DROP ROLE {}").format(name))
    except psycopg.Error as error:
        raise RoleProblem(f"role {role} could not be removed", code="role-failed", cause=first_line(error)) from error

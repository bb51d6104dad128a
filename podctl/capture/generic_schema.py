"""The definition of another database for PostgreSQL: tables, keys, indexes and references, by SQLAlchemy's reflection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from podctl.capture.engine import Definition
from podctl.capture.rules import Rules
from podctl.capture.schema import Column, Edge, Schema, Table

#: SQLAlchemy's generic types, most special first -> PostgreSQL's.
_TYPES: list[tuple[type[sa.types.TypeEngine[Any]], str]] = [
    (sa.Boolean, "boolean"),
    (sa.SmallInteger, "bigint"),
    (sa.Integer, "bigint"),
    (sa.Double, "double precision"),
    (sa.Float, "double precision"),
    (sa.Numeric, "numeric"),
    (sa.JSON, "jsonb"),
    (sa.LargeBinary, "bytea"),
    (sa.types._Binary, "bytea"),
    (sa.DateTime, "timestamp without time zone"),
    (sa.Date, "date"),
    (sa.Time, "time without time zone"),
    (sa.Uuid, "text"),
    (sa.String, "text"),
]
_CONSTANT = re.compile(r"^\(?\s*(?:'(?:[^']|'')*'|[+-]?\d+(?:\.\d+)?|NULL|TRUE|FALSE)\s*\)?$", re.IGNORECASE)
_NOW = re.compile(r"^\(?\s*(CURRENT_TIMESTAMP|CURRENT_DATE|NOW\(\)|CURRENT_TIMESTAMP\(\d?\))\s*\)?$", re.IGNORECASE)


class Reflected:
    """Everything that the definition is made of, read once."""

    def __init__(self, inspector: sa.Inspector) -> None:
        names = [name for name in inspector.get_table_names() if not name.startswith("sqlite_")]
        self.columns = {name: inspector.get_columns(name) for name in names}
        self.keys = {name: list(inspector.get_pk_constraint(name).get("constrained_columns") or ()) for name in names}
        self.unique = {name: inspector.get_unique_constraints(name) for name in names}
        self.indexes = {name: inspector.get_indexes(name) for name in names}
        self.references = {name: inspector.get_foreign_keys(name) for name in names}
        self.views = list(inspector.get_view_names())

    def fingerprint(self) -> dict[tuple[str, str], str]:
        """(table, what of it) -> how it is."""
        found = {}
        for name, columns in self.columns.items():
            for column in columns:
                found[name, f"column {column['name']}"] = f"{column['type']!r} {column['nullable']}"
            for number, reference in enumerate(self.references[name]):
                found[name, f"reference {number}"] = repr(sorted(reference.items(), key=str))
        return found


def schema_of(reflected: Reflected, rows: Mapping[str, int | None]) -> Schema:
    """Tables and references; a table without a primary key gets its key from `GenericRows`."""
    tables = {}
    for name, columns in reflected.columns.items():
        alone = {one["column_names"][0] for one in reflected.unique[name] if len(one["column_names"]) == 1}
        alone |= {reflected.keys[name][0]} if len(reflected.keys[name]) == 1 else set()
        tables[name] = Table(
            "public",
            name,
            name,
            tuple(
                Column(
                    one["name"],
                    type_of(one["type"]),
                    bool(one["nullable"]) and one["name"] not in reflected.keys[name],
                    "computed" in one,
                    one["name"] in alone,
                )
                for one in columns
            ),
            tuple(reflected.keys[name]),
            rows.get(name),
        )
    edges = [edge for name in tables for edge in _edges(reflected, tables, name)]
    gone = {f"view {name}": "views of another database's SQL are not translated" for name in reflected.views}
    return Schema(tables, tuple(edges), gone)


def _edges(reflected: Reflected, tables: Mapping[str, Table], name: str) -> Iterable[Edge]:
    for number, one in enumerate(reflected.references[name]):
        parent = one["referred_table"]
        if parent not in tables:
            continue
        columns = tuple(one["constrained_columns"])
        to = tuple(one["referred_columns"]) or tables[parent].key
        known = {column.name: column for column in tables[name].columns}
        nulls = tuple(column for column in columns if known[column].nullable and not known[column].computed)
        led = [index["column_names"][: len(columns)] for index in reflected.indexes[name]] + [
            reflected.keys[name][: len(columns)]
        ]
        yield Edge(
            child=name,
            columns=columns,
            parent=parent,
            to=to,
            name=one.get("name") or f"{name}_{number + 1}_fkey",
            follow="depth" if nulls else "required",
            nulls=nulls,
            indexed=any(set(columns) == set(leading) for leading in led),
            # SQLite checks references only where a session asked for it.
            trusted=False,
        )


def type_of(kind: sa.types.TypeEngine[Any]) -> str:
    """PostgreSQL's type for a reflected one; text where there is none."""
    for generic, name in _TYPES:
        if isinstance(kind, generic):
            return name
    return "text"


def definition_of(reflected: Reflected, rules: Rules) -> Definition:
    """Scripts for PostgreSQL. Defaults that are no constants are named in ``not_mirrored``."""
    gone: dict[str, str] = {}
    before, after = [], []
    for name, table in sorted(rules.tables.items()):
        lines = [_column(name, one, table, gone) for one in reflected.columns[name]]
        before.append(f"CREATE TABLE public.{_quoted(name)} (\n    " + ",\n    ".join(lines) + "\n);")
        if table.key and reflected.keys[name]:
            after.append(f"ALTER TABLE public.{_quoted(name)} ADD PRIMARY KEY ({_list(table.key)});")
        for unique in reflected.unique[name]:
            after.append(f"ALTER TABLE public.{_quoted(name)} ADD UNIQUE ({_list(unique['column_names'])});")
        for index in reflected.indexes[name]:
            columns = [column for column in index["column_names"] if column is not None]
            if len(columns) != len(index["column_names"]):
                gone[f"index {index['name']}"] = "it is on an expression"
            elif index.get("dialect_options", {}).get("sqlite_where") is not None:
                gone[f"index {index['name']}"] = "it is partial"
            else:
                after.append(
                    f"CREATE {'UNIQUE ' if index['unique'] else ''}INDEX ON public.{_quoted(name)} ({_list(columns)});"
                )
    for edge in rules.edges:
        if not edge.declared:
            options = next(
                (one.get("options", {}) for one in reflected.references[edge.child] if tuple(one["constrained_columns"]) == edge.columns),
                {},
            )  # fmt: skip
            actions = "".join(
                f" {event} {options[key]}"
                for key, event in (("ondelete", "ON DELETE"), ("onupdate", "ON UPDATE"))
                if str(options.get(key, "")).upper() in ("CASCADE", "SET NULL", "RESTRICT", "NO ACTION", "SET DEFAULT")
            )
            after.append(
                f"ALTER TABLE public.{_quoted(edge.child)} ADD FOREIGN KEY ({_list(edge.columns)})"
                f" REFERENCES public.{_quoted(edge.parent)} ({_list(edge.to)}){actions};"
            )
    return Definition("\n".join([*before, ""]), "\n".join([*after, ""]), gone)


def _column(table: str, column: Any, known: Table, gone: dict[str, str]) -> str:
    name, kind = column["name"], type_of(column["type"])
    found = known.column(name)
    parts = [_quoted(name), kind]
    if column.get("computed"):
        gone[f"expression of {table}.{name}"] = "a generated column of another database's SQL; it is empty in the copy"
    elif len(known.key) == 1 and name in known.key and kind == "bigint":
        parts.append("GENERATED BY DEFAULT AS IDENTITY")
    elif (default := column.get("default")) is not None:
        text = str(default)
        if _NOW.match(text):
            parts.append("DEFAULT CURRENT_TIMESTAMP")
        elif _CONSTANT.match(text) and kind != "boolean":
            parts.append(f"DEFAULT {text}")
        elif kind == "boolean" and text.strip("'()") in ("0", "1"):
            parts.append(f"DEFAULT {'true' if text.strip(chr(39) + '()') == '1' else 'false'}")
        else:
            gone[f"default of {table}.{name}"] = f"{text[:60]} is another database's SQL"
    if found is not None and not found.nullable and not column.get("computed"):
        parts.append("NOT NULL")
    return " ".join(parts)


def _list(columns: Iterable[Any]) -> str:
    return ", ".join(_quoted(str(column)) for column in columns)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

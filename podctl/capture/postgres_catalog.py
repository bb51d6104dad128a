"""What a PostgreSQL source consists of: its tables, keys and references, and what its user may not read."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg

from podctl.capture.problems import CaptureProblem
from podctl.capture.schema import Column, Edge, Schema, Table
from podctl.data.catalog import USER_SCHEMA, shown_name

Session = psycopg.Connection[tuple[Any, ...]]

# Members of extensions come with their extension.
_OF_NO_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')"
)
_TABLES = f"""
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.reltuples::float8, c.relpages::int8,
       CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::oid ELSE c.oid END::int8,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND {USER_SCHEMA} AND {_OF_NO_EXTENSION}
ORDER BY n.nspname, c.relname"""

_COLUMNS = f"""
SELECT c.oid::int8, a.attname,
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END,
       NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) OR EXISTS (
           SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]
           AND pg_get_constraintdef(k.oid) LIKE format('CHECK ((%I IS NOT NULL))%%', a.attname))),
       a.attgenerated::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p', 'f') AND {USER_SCHEMA} ORDER BY c.oid, a.attnum"""

_INDEXES = """
SELECT i.indrelid::int8, i.indisunique, i.indisprimary, i.indnkeyatts,
       array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n WHERE k.o <= i.indnkeyatts ORDER BY k.o)
FROM pg_index i WHERE i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indrelid, i.indexrelid"""

# Those that partitions inherit, and those that a reference to a partitioned table has for each partition, have a parent.
_REFERENCES = """
SELECT k.oid::int8, k.conname, k.conrelid::int8, k.confrelid::int8,
       array(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o),
       array(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o),
       array(SELECT format('OPERATOR(%I.%s)', n.nspname, p.oprname) FROM unnest(k.conpfeqop) WITH ORDINALITY u(id, o)
             JOIN pg_operator p ON p.oid = u.id JOIN pg_namespace n ON n.oid = p.oprnamespace ORDER BY u.o),
       k.confmatchtype::text, k.convalidated, coalesce((to_jsonb(k) ->> 'conenforced')::bool, true)
FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY k.conrelid, k.conname"""

_PARTITIONS = """
SELECT r.oid::int8, array(SELECT t.relid::oid::int8 FROM pg_partition_tree(r.oid) t WHERE t.relid IS NOT NULL)
FROM pg_class r WHERE r.relkind = 'p'"""

#: Everything of a table that a copy of its rows relies on, without what statistics and sizes say.
_FINGERPRINT = f"""
SELECT n.nspname, c.relname, 'column ' || a.attname,
       concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated, a.attidentity)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND {USER_SCHEMA}
UNION ALL
SELECT n.nspname, c.relname, 'constraint ' || k.conname, concat_ws(' ', k.contype, k.conkey, k.confrelid, k.confkey, k.convalidated)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {USER_SCHEMA}"""


@dataclass(frozen=True)
class Relation:
    """One relation of the source: a table, a partitioned table or a partition of one."""

    id: int
    schema: str
    name: str
    kind: str
    root: int
    readable: bool
    filtered: bool  # row-level security hides rows from this user

    @property
    def shown(self) -> str:
        return shown_name(self.schema, self.name)


@dataclass(frozen=True)
class Catalog:
    """``leaves``: relation -> the relations below it that hold its rows, itself when it is not partitioned."""

    schema: Schema
    relations: dict[int, Relation]
    leaves: dict[int, tuple[int, ...]] = field(default_factory=dict)
    stored: dict[str, tuple[str, ...]] = field(default_factory=dict)  # table -> its virtual columns


def read_catalog(session: Session) -> Catalog:
    """Tables by name, partitions with the table they belong to."""
    relations: dict[int, Relation] = {}
    sizes: dict[int, tuple[float, int]] = {}
    for oid, schema, name, kind, tuples, pages, root, readable, filtered in session.execute(_TABLES):
        relations[oid] = Relation(oid, schema, name, kind, root, readable, filtered)
        sizes[oid] = (tuples, pages)
    columns, virtual = _columns(session)
    indexes: dict[int, list[tuple[bool, bool, list[str]]]] = defaultdict(list)
    for relation, unique, primary, count, names in session.execute(_INDEXES):
        if len(names) == count:
            indexes[relation].append((unique, primary, names))
    below = {oid: set(children) for oid, children in session.execute(_PARTITIONS)}
    leaves = {
        oid: tuple(sorted(one for one in below.get(oid, {oid}) if one in relations and relations[one].kind == "r"))
        for oid in relations
    }
    tables = {}
    for oid, relation in relations.items():
        if relation.root != oid or relation.kind == "f":
            continue
        rows, pages = zip(*(sizes[leaf] for leaf in leaves[oid]), strict=True) if leaves[oid] else ((), ())
        key = _key(columns[oid], indexes[oid])
        alone = {names[0] for unique, _, names in indexes[oid] if unique and len(names) == 1}
        tables[relation.shown] = Table(
            relation.schema,
            relation.name,
            relation.shown,
            tuple(_with_unique(column, alone) for column in columns[oid]),
            key,
            None if any(number < 0 for number in rows) else int(sum(rows)),
            sum(pages) * 8192,
            oid,
        )
    edges = tuple(_edges(session, relations, columns, indexes))
    foreign = {f"table {relation.shown}": "a foreign table" for relation in relations.values() if relation.kind == "f"}
    schema = Schema(tables, edges, foreign)
    return Catalog(schema, relations, leaves, {relations[oid].shown: tuple(names) for oid, names in virtual.items()})


def _columns(session: Session) -> tuple[dict[int, list[Column]], dict[int, list[str]]]:
    columns: dict[int, list[Column]] = defaultdict(list)
    virtual: dict[int, list[str]] = defaultdict(list)
    for oid, name, type_name, nullable, generated in session.execute(_COLUMNS):
        columns[oid].append(Column(name, type_name, nullable, bool(generated)))
        if generated == "v":
            virtual[oid].append(name)
    return columns, virtual


def _with_unique(column: Column, unique: set[str]) -> Column:
    return Column(column.name, column.type, column.nullable, column.computed, column.name in unique)


def _key(columns: list[Column], indexes: list[tuple[bool, bool, list[str]]]) -> tuple[str, ...]:
    never_null = {column.name for column in columns if not column.nullable}
    unique = [(not primary, len(names), names) for alone, primary, names in indexes if alone and never_null.issuperset(names)]
    return tuple(min(unique)[2]) if unique else ()


def _edges(
    session: Session,
    relations: dict[int, Relation],
    columns: dict[int, list[Column]],
    indexes: dict[int, list[tuple[bool, bool, list[str]]]],
) -> list[Edge]:
    rows = [row for row in session.execute(_REFERENCES) if row[2] in relations and row[3] in relations]
    used: dict[int, list[str]] = defaultdict(list)
    for _, _, child, _, names, *_ in rows:
        used[child] += names
    edges = []
    for oid, name, child, parent, names, to, operators, match, valid, enforced in rows:
        known = {column.name: column for column in columns[child]}
        nullable = [one for one in names if known[one].nullable and not known[one].computed]
        keys = {one for unique, _, of in indexes[child] if unique for one in of}
        if match == "f":
            nulls = nullable if len(nullable) == len(names) else []
        else:
            # One empty column suffices; better one that nothing else relies on.
            free = [one for one in nullable if used[child].count(one) == 1 and one not in keys]
            nulls = free or nullable
        can_miss = any(known[one].nullable for one in names)
        edges.append(
            Edge(
                child=relations[relations[child].root].shown,
                columns=tuple(names),
                parent=relations[relations[parent].root].shown,
                to=tuple(to),
                name=name,
                follow="depth" if nulls and can_miss else "required",
                nulls=tuple(nulls),
                child_id=child,
                parent_id=parent,
                constraint_id=oid,
                operators=tuple(operators),
                indexed=any(set(of[: len(names)]) == set(names) for _, _, of in indexes[child]),
                trusted=valid and enforced,
                checked=valid and enforced,
            )
        )
    return edges


def refuse_unreadable(catalog: Catalog, left_out: frozenset[str], user: str) -> None:
    """Raises `CaptureProblem` naming every table that the user may not read, or not read in full."""
    wanted = [one for one in catalog.relations.values() if one.kind != "f" and _root(catalog, one).shown not in left_out]
    denied = sorted(one.shown for one in wanted if not one.readable and one.root == one.id)
    if denied:
        grants = ", ".join(_quoted(catalog, name) for name in denied[:10]) + (", …" if len(denied) > 10 else "")
        schemas = ", ".join(sorted({_identifier(catalog.schema.tables[name].schema) for name in denied}))
        raise CaptureProblem(
            f"{user} may not read {', '.join(denied)}",
            code="capture-permission",
            cause="podctl reads tables, also those whose rows it leaves, to copy their definition",
            unchanged="nothing was read",
            hint=f"GRANT USAGE ON SCHEMA {schemas} TO {user}; GRANT SELECT ON {grants} TO {user}\nor leave_out: tables that the copy need not have",
        )
    filtered = sorted({_root(catalog, one).shown for one in wanted if one.filtered})
    if filtered:
        raise CaptureProblem(
            f"row-level security hides rows of {', '.join(filtered)} from {user}",
            code="capture-permission",
            cause="a copy of what one user sees is not a copy of production",
            unchanged="nothing was read",
            hint=f"capture as a role with BYPASSRLS (ALTER ROLE {user} BYPASSRLS), or leave_out: these tables",
        )


def _root(catalog: Catalog, relation: Relation) -> Relation:
    return catalog.relations.get(relation.root, relation)


def _quoted(catalog: Catalog, shown: str) -> str:
    table = catalog.schema.tables[shown]
    return f"{_identifier(table.schema)}.{_identifier(table.name)}"


def _identifier(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


Fingerprint = dict[tuple[str, str], str]


def fingerprint(session: Session) -> Fingerprint:
    """(table, what of it) -> how it is, as this session's snapshot has it."""
    return {(shown_name(schema, table), what): how for schema, table, what, how in session.execute(_FINGERPRINT)}


def refuse_changed(before: Fingerprint, now: Fingerprint, left_out: frozenset[str]) -> None:
    """Raises `CaptureProblem` when a table has become another since the snapshot was taken."""
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key) and key[0] not in left_out)
    if differing:
        table, what = differing[0]
        how = "is gone" if (table, what) not in now else "is new" if (table, what) not in before else "is another now"
        more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise CaptureProblem(
            f"the source's schema changed while it was captured: {table}, {what} {how}{more}",
            code="capture-schema-changed",
            cause="a migration ran; rows of before would not fit definitions of after",
            unchanged="nothing was made",
            hint="capture again when the migration has ended",
        )

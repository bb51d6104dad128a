"""What a database holds: tables, columns, keys and the sequences behind defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from podctl.data.connect import Connection

Kind = Literal["integer", "number", "bool", "json", "timestamp", "timestamptz", "date", "text"]

_KINDS: dict[int, Kind] = {
    16: "bool",
    20: "integer",
    21: "integer",
    23: "integer",
    26: "integer",
    114: "json",
    3802: "json",
    700: "number",
    701: "number",
    1700: "number",
    1082: "date",
    1114: "timestamp",
    1184: "timestamptz",
}


def kind_of(type_oid: int, domains: Mapping[int, int]) -> Kind:
    """How a type's text is read; ``domains`` maps a domain's oid to its base type's."""
    while type_oid in domains:
        type_oid = domains[type_oid]
    return _KINDS.get(type_oid, "text")


@dataclass(frozen=True)
class Column:
    """``generated``: a new row's value comes from a sequence, the clock or chance unless one is given."""

    name: str
    kind: Kind
    key: bool = False
    generated: bool = False
    computed: bool = False
    sequence: tuple[str, str] | None = None  # (schema, name) of the sequence in the column's default


@dataclass(frozen=True)
class Table:
    schema: str
    name: str
    relkind: str  # pg_class.relkind
    columns: tuple[Column, ...]
    root: int = 0  # oid of the partitioned table it belongs to; its own oid otherwise

    @property
    def shown(self) -> str:
        return shown_name(self.schema, self.name)

    @property
    def primary_key(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.key)


@dataclass(frozen=True)
class Cascade:
    """A foreign key by which a change of ``parent`` (an oid) changes rows of ``child``."""

    child: int
    child_columns: tuple[str, ...]
    parent: int
    parent_columns: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """Tables and views of the user's schemas by oid; a clone keeps its template's oids."""

    tables: Mapping[int, Table] = field(default_factory=dict)
    cascades: tuple[Cascade, ...] = ()

    def by_name(self) -> dict[str, Table]:
        return {table.shown: table for table in self.tables.values()}

    def root(self, oid: int) -> int:
        return self.tables[oid].root if oid in self.tables else oid

    def kinds(self) -> dict[str, dict[str, Kind]]:
        """table -> column -> kind, for comparing values in grading."""
        return {name: {column.name: column.kind for column in table.columns} for name, table in self.by_name().items()}

    def generated(self) -> dict[str, frozenset[str]]:
        """table -> columns that a new row gets by itself."""
        return {
            name: frozenset(column.name for column in table.columns if column.generated or column.computed)
            for name, table in self.by_name().items()
        }


def shown_name(schema: str, name: str) -> str:
    return name if schema == "public" else f"{schema}.{name}"


#: Schemas of the system and of podctl; everything else is the user's.
USER_SCHEMA = "n.nspname <> 'information_schema' AND n.nspname <> 'podctl' AND n.nspname !~ '^pg_'"

_COLUMNS = f"""
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text,
       CASE WHEN c.relispartition AND c.relkind IN ('r', 'p') THEN pg_partition_root(c.oid)::oid ELSE c.oid END::int8,
       a.attname, a.atttypid::int8, coalesce(a.attnum = ANY (k.conkey), false), a.attidentity <> '', a.attgenerated <> '',
       CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
       s.nspname, s.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
LEFT JOIN LATERAL (
    SELECT sn.nspname, sc.relname FROM pg_depend e
    JOIN pg_class sc ON sc.oid = e.refobjid AND sc.relkind = 'S'
    JOIN pg_namespace sn ON sn.oid = sc.relnamespace
    WHERE e.classid = 'pg_attrdef'::regclass AND e.objid = d.oid AND e.refclassid = 'pg_class'::regclass LIMIT 1
) s ON true
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {USER_SCHEMA}
ORDER BY c.oid, a.attnum"""

_CASCADES = """
SELECT k.conrelid::int8,
       array(SELECT attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
             JOIN pg_attribute ON attrelid = k.conrelid AND attnum = u.n ORDER BY o),
       k.confrelid::int8,
       array(SELECT attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o)
             JOIN pg_attribute ON attrelid = k.confrelid AND attnum = u.n ORDER BY o)
FROM pg_constraint k
WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))"""

# Constants are stored without a call; nextval(), now(), gen_random_uuid() and their like with one.
_COMPUTED_DEFAULT = re.compile(r"\(|^(CURRENT_|LOCALTIME)|^\w*_USER$", re.IGNORECASE)


async def read_catalog(connection: Connection) -> Catalog:
    """The catalog of the connected database."""
    domains_cursor = await connection.execute("SELECT oid::int8, typbasetype::int8 FROM pg_type WHERE typtype = 'd'")
    domains: dict[int, int] = dict(await domains_cursor.fetchall())
    heads: dict[int, tuple[str, str, str, int]] = {}
    columns: dict[int, list[Column]] = {}
    cursor = await connection.execute(_COLUMNS)
    async for oid, schema, name, relkind, root, column, type_oid, key, identity, computed, default, s_schema, s_name in cursor:
        heads[oid] = (schema, name, relkind, root)
        generated = bool(identity) or (default is not None and _COMPUTED_DEFAULT.search(default) is not None)
        sequence = (s_schema, s_name) if s_name is not None else None
        columns.setdefault(oid, []).append(Column(column, kind_of(type_oid, domains), key, generated, computed, sequence))
    tables = {
        oid: Table(schema, name, relkind, tuple(columns[oid]), root) for oid, (schema, name, relkind, root) in heads.items()
    }
    cursor = await connection.execute(_CASCADES)
    cascades = [
        Cascade(child, tuple(child_columns), parent, tuple(parent_columns))
        for child, child_columns, parent, parent_columns in await cursor.fetchall()
    ]
    return Catalog(tables, tuple(cascades))

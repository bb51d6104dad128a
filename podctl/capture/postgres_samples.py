"""Samples of a PostgreSQL source's rows: of a table as it is, and of those that were taken."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

from podctl.capture.distributions import SAMPLE, Look, Sample
from podctl.capture.postgres import place_of
from podctl.capture.postgres_catalog import Catalog, Session
from podctl.capture.worklist import Rowid

#: Rows of a table that is read as a whole: fewer would have too few blocks for a sample of blocks.
_SMALL = 20_000
#: Milliseconds; a table that takes longer goes without.
_PATIENCE = 5_000
#: Bytes of a value beyond which it is no category, and not read.
_SHORT = 100

_EXPRESSIONS: dict[Look, str] = {
    "numbers": "{c}::text",
    "moments": "extract(epoch FROM {c})::text",
    "words": f"CASE WHEN {{c}} IS NULL THEN NULL WHEN pg_column_size({{c}}) <= {_SHORT} THEN {{c}}::text ELSE t.ctid::text END",
    "nulls": "CASE WHEN {c} IS NOT NULL THEN '' END",
}


def samples(
    session: Session, catalog: Catalog, table: str, columns: Mapping[str, Look], rows: Sequence[Rowid]
) -> tuple[Sample, Sample] | None:
    """Some rows of the whole table, and some of ``rows``; None where reading them takes too long, or fails."""
    target = catalog.schema.tables[table]
    values = sql.SQL(", ").join(
        sql.SQL(_EXPRESSIONS[look]).format(c=sql.Identifier("t", name)) for name, look in columns.items()
    )

    def of(relation: int) -> sql.Composable:
        one = catalog.relations[relation]
        return sql.SQL("{} {} t").format(sql.SQL("" if one.kind == "p" else "ONLY"), sql.Identifier(one.schema, one.name))

    share = 100.0 if (target.rows or 0) <= _SMALL else 100.0 * 2 * SAMPLE / (target.rows or 1)
    whole = sql.SQL("SELECT {} FROM {} TABLESAMPLE SYSTEM ({}) REPEATABLE (1) LIMIT {}").format(
        values, of(target.id), sql.Literal(share), sql.Literal(_SMALL)
    )
    chosen = random.Random(1).sample(sorted(row for row in rows if isinstance(row, int)), min(len(rows), SAMPLE))
    places: dict[int, list[str]] = defaultdict(list)
    for row in chosen:
        places[row >> 48].append(place_of(row))
    taken = [
        sql.SQL("SELECT {} FROM {} WHERE t.ctid = ANY ({}::tid[])").format(values, of(relation), sql.Literal(found))
        for relation, found in sorted(places.items())
    ]
    try:
        # Rolled back, so that the bound goes with it, and a failure leaves the snapshot.
        with session.transaction(force_rollback=True):
            session.execute(f"SET LOCAL statement_timeout = {_PATIENCE}".encode())
            there = session.execute(whole).fetchall()
            here = [row for query in taken for row in session.execute(query)]
    except (psycopg.errors.QueryCanceled, psycopg.DataError):
        return None
    return there, here

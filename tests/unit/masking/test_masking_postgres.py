"""COPY's format as PostgreSQL itself has it, and masked rows that PostgreSQL takes."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from masking import KEY, masking

from podctl.masking.copytext import NULL, escape, map_array, unescape
from podctl.masking.table import Column, Watch, table_masker

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
nasty = st.text(st.sampled_from('\\\t\n\r\b\f\v"{},Nx01é \u2028'), max_size=12)
with_server = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TYPES = """
SELECT a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), coalesce(nullif(t.typtypmod, -1), a.atttypmod)), NOT a.attnotnull
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = 'people'::regclass AND a.attnum > 0 ORDER BY a.attnum"""


def copied(connection: psycopg.Connection[Any], query: str) -> bytes:
    with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:  # type: ignore[arg-type]
        return b"".join(bytes(piece) for piece in copy)


@with_server
@given(values=st.lists(st.none() | text | nasty, min_size=1, max_size=20))
def test_fields_are_read_and_written_as_postgresql_does(connection: psycopg.Connection[Any], values: list[str | None]) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS fields (n int, v text); TRUNCATE fields")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO fields VALUES (%s, %s)", list(enumerate(values)))
    lines = copied(connection, "SELECT * FROM fields ORDER BY n")[:-1].split(b"\n")
    fields = [line.split(b"\t")[1] for line in lines]
    assert [None if field == NULL else unescape(field).decode() for field in fields] == values
    assert [NULL if value is None else escape(value.encode()) for value in values] == fields


@with_server
@given(values=st.lists(st.none() | text | nasty, max_size=8), nested=st.booleans())
def test_arrays_are_read_and_written_as_postgresql_does(
    connection: psycopg.Connection[Any], values: list[str | None], nested: bool
) -> None:
    array: Any = [values, list(values)] if nested and values else values
    (literal,) = connection.execute("SELECT %s::text[]::text", (array,)).fetchone() or ("",)
    seen: list[str] = []
    same = map_array(literal, lambda element: seen.append(element) or element)  # type: ignore[func-returns-value]
    assert seen == [value for value in (values * 2 if nested and values else values) if value is not None]
    assert connection.execute("SELECT %s::text[]", (same,)).fetchone() == (array,)


def test_arrays_with_bounds_of_their_own_and_quoted_nulls() -> None:
    assert map_array('[2:3]={a,"NULL"}', str.upper) == '[2:3]={"A","NULL"}'
    assert map_array("{NULL,null,x}", lambda element: None) == "{NULL,null,NULL}"
    for wrong in ("", "x", "{", "{a}}", '{"a}', "a{b}"):
        with pytest.raises(ValueError):
            map_array(wrong, str.upper)


SCHEMA = """
CREATE EXTENSION IF NOT EXISTS citext SCHEMA pg_catalog;
CREATE DOMAIN mail AS varchar(60) CHECK (VALUE ~ '^[^@ ]+@[^@ ]+[.][a-z]+$');
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE people (
    id integer PRIMARY KEY, small smallint UNIQUE, big bigint UNIQUE, code char(8) UNIQUE CHECK (code ~ '^[A-Z]{2}-[0-9]{5}$'),
    ref uuid UNIQUE, amount numeric(12,2), ratio double precision, email mail UNIQUE, handle citext, name varchar(30) NOT NULL,
    mails text[], born date, seen timestamptz, profile jsonb, plain json, secret bytea, host inet, phone varchar(20),
    card varchar(19), iban varchar(42), note varchar(60), mood mood, url text, chat bigint);
"""
RULES: dict[str, Any] = {
    "id": "id", "small": "id", "big": "id", "code": "id", "ref": "id", "amount": "number", "ratio": "number", "email": "email",
    "handle": "username", "name": "name", "mails": "email", "born": {"mask": "date", "subject": "id"},
    "seen": {"mask": "date", "subject": "id"},
    "profile": {"mask": "json", "paths": {"mail": "email", "tags": "keep", "people.*.name": "name", "age": "number"}},
    "plain": {"mask": "json", "paths": {"*": "text"}}, "secret": "token", "host": "ip", "phone": "phone", "card": "card",
    "iban": "iban", "note": "text", "mood": "keep", "url": "url", "chat": "phone",
}  # fmt: skip
RAW = """
INSERT INTO people SELECT
    n * 7, n, 9007199254740000 + n * 3, 'AB-' || lpad(n::text, 5, '0'), gen_random_uuid(), n * 123.45, n / 7.0,
    'Rawmail' || n || '@corp-raw.example.net', 'RawHandle' || n, 'Rawfirst' || chr(65 + n % 26) || ' Rawlast' || n,
    ARRAY['rawone' || n || '@raw.example', NULL, 'raw"quote\\' || n || '@raw.example'], date '1980-01-01' + n, now() - n * interval '1 day',
    jsonb_build_object('mail', 'rawjson' || n || '@raw.example', 'tags', '["rawtagkept", 1.50]'::jsonb, 'age', n,
        'people', jsonb_build_array(jsonb_build_object('name', 'Rawperson Rawfamily' || n, 'ssn', 'rawssn' || n)), 'more', 'rawmore' || n),
    json_build_object('rawkey' || n || '@raw.example', 'see rawtext' || n || '@raw.example', 'n', 1.2300),
    decode(md5('raw' || n), 'hex'), ('10.9.' || n % 256 || '.7/24')::inet, '+1 415 867 ' || lpad(n::text, 4, '0'),
    '4111 1111 1111 ' || lpad(n::text, 4, '0'), 'GB82WEST1234569876' || lpad(n::text, 4, '0'),
    'Rawfirst' || chr(65 + n % 26) || E' wrote\\tto\\nrawnote' || n || '@raw.example', 'glad', 'https://raw.example/u/' || n,
    14158670000 + n
FROM generate_series(1, 300) n
"""


def test_masked_rows_are_values_of_their_types_and_no_raw_value_is_left(connection: psycopg.Connection[Any]) -> None:
    connection.execute(SCHEMA)  # type: ignore[arg-type]
    connection.execute(RAW)  # type: ignore[arg-type]
    columns = [Column(name, kind, nullable) for name, kind, nullable in connection.execute(TYPES).fetchall()]
    mask = table_masker(masking(RULES), KEY, "shop", "people", columns, Watch())
    raw = copied(connection, "SELECT * FROM people ORDER BY id")
    rows = mask(raw)
    assert rows.count(b"\n") == 300
    words = set(re.findall(rb"(?i)(?<![a-z0-9])raw(?!tagkept)[a-z.\"]{3,}", rows))
    assert words == set()
    connection.execute("CREATE TABLE copy (LIKE people INCLUDING ALL)")
    with connection.cursor().copy("COPY copy FROM STDIN") as copy:
        copy.write(rows)
    assert connection.execute("SELECT count(*), count(DISTINCT email), count(DISTINCT big) FROM copy").fetchone() == (
        300,
        300,
        300,
    )
    # Nothing but the classified values differs, and arrays and documents kept their shape.
    shape = "SELECT mood, cardinality(mails), mails[2], profile->'tags', jsonb_array_length(profile->'people') FROM {} LIMIT 1"
    assert connection.execute(shape.format("copy")).fetchone() == connection.execute(shape.format("people")).fetchone()
    (document,) = connection.execute("SELECT plain::text FROM copy ORDER BY small LIMIT 1").fetchone() or ("",)
    assert '"n": 1.2300' in document and json.loads(document)
    # None of the raw keys, values and rows is found by joining either.
    for column in ("email", "handle", "code", "ref", "iban", "card", "phone", "url", "secret"):
        joined = connection.execute(f"SELECT count(*) FROM people p JOIN copy c USING ({column})").fetchone()  # type: ignore[arg-type]
        assert joined == (0,), column


def test_chunks_make_no_difference(connection: psycopg.Connection[Any]) -> None:
    connection.execute(SCHEMA)  # type: ignore[arg-type]
    connection.execute(RAW)  # type: ignore[arg-type]
    columns = [Column(name, kind, nullable) for name, kind, nullable in connection.execute(TYPES).fetchall()]
    raw = copied(connection, "SELECT * FROM people ORDER BY id")
    whole = table_masker(masking(RULES), KEY, "shop", "people", columns, Watch())(raw)
    piecewise = table_masker(masking(RULES), KEY, "shop", "people", columns, Watch())
    assert b"".join(piecewise(line) for line in raw.splitlines(keepends=True)) == whole


def test_joins_hold_between_tables_and_databases(connection: psycopg.Connection[Any]) -> None:
    """A key of two columns gives no row another row's values, as an UPDATE by one of them would."""
    policy = masking(
        {"region": "id", "number": "id", "email": "email"},
        databases={
            "shop": {"people": {"region": "id", "number": "id", "email": "email"}},
            "mail": {"letters": {"id": "keep", "region": "id", "number": "id", "recipient": "email"}},
        },
    )
    people = [Column("region", "smallint"), Column("number", "integer"), Column("email", "text")]
    letters = [Column("id", "integer"), Column("region", "bigint"), Column("number", "text"), Column("recipient", "citext")]
    raw_people = [(region, number, f"p{region}-{number}@raw.example") for region in (1, 2, 3) for number in range(100)]
    rows = "".join(f"{region}\t{number}\t{email}\n" for region, number, email in raw_people)
    masked_people = table_masker(policy, KEY, "shop", "people", people)(rows.encode()).decode().splitlines()
    rows = "".join(f"{n}\t{region}\t{number}\t {email.upper()}\n" for n, (region, number, email) in enumerate(raw_people))
    masked_letters = table_masker(policy, KEY, "mail", "letters", letters)(rows.encode()).decode().splitlines()
    assert len(set(masked_people)) == 300
    assert [line.split("\t", 1)[1] for line in masked_letters] == masked_people

"""PURE: the SQL that takes row changes back: in reverse order, old values, and only where the new ones still stand.

Triggers and foreign keys are kept from acting meanwhile: what they did is among the changes, and is taken back itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podctl.data.changes import as_text

#: As the server of a test pod writes values; guards compare texts.
_SETTINGS = {
    "session_replication_role": "replica",
    "standard_conforming_strings": "on",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
_HEAD = """\
-- Takes back {rows} of {database}, made by attempt {attempt}.
-- All or nothing: a row that is no longer as the attempt left it ends this with an error, and nothing is changed.
-- Needs a superuser, or a role that was granted SET ON PARAMETER session_replication_role: triggers and foreign keys
-- must not act while rows go back, for what they did is taken back too. Sequences keep the values that were drawn."""

#: Foreign keys and unique constraints that may be deferred are checked by triggers, which did not act.
_CHECKS = """\
DO $checks$
DECLARE
    one record;
    broken boolean;
BEGIN
    FOR one IN
        SELECT c.conname, c.contype, c.conrelid::regclass AS child, c.confrelid::regclass AS parent,
            string_agg(format('c.%I', a.attname), ', ' ORDER BY k.n) AS own,
            string_agg(format('p.%I = c.%I', b.attname, a.attname), ' AND ' ORDER BY k.n) AS same,
            string_agg(format('c.%I IS NOT NULL', a.attname), ' AND ' ORDER BY k.n) AS known
        FROM pg_constraint c
        CROSS JOIN LATERAL unnest(c.conkey, coalesce(c.confkey, c.conkey)) WITH ORDINALITY AS k (own, other, n)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.own
        JOIN pg_attribute b ON b.attrelid = CASE c.contype WHEN 'f' THEN c.confrelid ELSE c.conrelid END AND b.attnum = k.other
        WHERE (c.contype = 'f' OR (c.contype IN ('p', 'u') AND c.condeferrable)) AND c.conparentid = 0
            AND ARRAY[c.conrelid, c.confrelid] && ARRAY[{tables}]::regclass[]::oid[]
        GROUP BY c.oid
    LOOP
        IF one.contype = 'f' THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s))',
                one.child, one.known, one.parent, one.same) INTO broken;
        ELSE
            EXECUTE format('SELECT EXISTS (SELECT FROM %s c WHERE %s GROUP BY %s HAVING count(*) > 1)',
                one.child, one.known, one.own) INTO broken;
        END IF;
        IF broken THEN
            RAISE EXCEPTION 'podctl: % of % would be broken by what changed since; nothing was taken back', one.conname, one.child;
        END IF;
    END LOOP;
END $checks$;"""


@dataclass
class Undo:
    """One database's: ``statements`` in the order in which they are to run, of ``tables``; ``cannot`` says what they leave as it is."""

    database: str
    statements: list[str] = field(default_factory=list)
    tables: dict[str, None] = field(default_factory=dict)
    cannot: list[str] = field(default_factory=list)

    def script(self, attempt: str) -> str:
        rows = f"{len(self.statements)} row change{'' if len(self.statements) == 1 else 's'}"
        lines = [_HEAD.format(rows=rows, database=_comment(self.database), attempt=_comment(attempt))]
        lines += [f"-- NOT TAKEN BACK: {_comment(what)}" for what in self.cannot]
        lines += ["BEGIN;", *(f"SET LOCAL {name} = '{value}';" for name, value in _SETTINGS.items())]
        checks = _CHECKS.replace("{tables}", ", ".join(literal(table) for table in self.tables))
        return "\n".join([*lines, *self.statements, *([checks] if self.tables else []), "COMMIT;"])


def undo(changes: Iterable[Mapping[str, Any]]) -> list[Undo]:
    """Of ``row.change`` data in the order of the evidence; the databases in the order of their first change."""
    found: dict[str, Undo] = {}
    for change in changes:
        name = str(change.get("database", "a database that is not known"))
        one = found.setdefault(name, Undo(name))
        problem = _problem(change)
        if problem:
            one.cannot.append(problem)
        elif change["op"] != "update" or _changed(change):
            one.statements.insert(0, _statement(change))
            one.tables[_table(change["table"])] = None
    return list(found.values())


def _problem(change: Mapping[str, Any]) -> str:
    """Why a change cannot be taken back; nothing when it can."""
    if "truncated" in change or "op" not in change:
        return "a change whose record was too large to be kept whole"
    table, op, old, new = change["table"], change["op"], change["old"], change["new"]
    if op == "truncate":
        return f"TRUNCATE of {table}: the rows that it removed are in no record"
    if op == "update" and old.keys() != new.keys():
        return f"an update of {table}: {', '.join(sorted(old.keys() ^ new.keys()))} did not come with the change"
    return ""


def _changed(change: Mapping[str, Any]) -> list[str]:
    return [column for column in change["new"] if _text(change, "new", column) != _text(change, "old", column)]


def _statement(change: Mapping[str, Any]) -> str:
    table = _table(change["table"])
    match change["op"]:
        case "insert":
            done = f"DELETE FROM {table} WHERE {_found(change, list(change['new']))};"
        case "delete":
            columns = list(change["old"])
            values = ", ".join(literal(_text(change, "old", column)) for column in columns)
            names = ", ".join(map(identifier, columns))
            done = f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values});"
        case _:
            columns = _changed(change)
            values = ", ".join(f"{identifier(column)} = {literal(_text(change, 'old', column))}" for column in columns)
            done = f"UPDATE {table} SET {values} WHERE {_found(change, columns)};"
    if change["op"] == "delete":
        return done
    key = ", ".join(f"{name} {value}" for name, value in change["key"].items())
    said = literal(f"podctl: {change['table']} ({key[:200]}) is not as the attempt left it; nothing was taken back")
    body = f"BEGIN {done} IF NOT FOUND THEN RAISE EXCEPTION USING MESSAGE = {said}; END IF; END"
    mark = next(mark for number in range(len(body) + 1) if (mark := f"$undo{number or ''}$") not in body)
    return f"DO {mark} {body} {mark};"


def _found(change: Mapping[str, Any], guarded: Sequence[str]) -> str:
    """The one row that the change left, as far as it was changed."""
    key, new = list(change["key"]), change["new"]
    if len(key) < len(new):
        # A key's values are compared as what they are, so that its index is used.
        same = [f"{identifier(column)} = {literal(_text(change, 'new', column))}" for column in key]
        return " AND ".join([*same, *(_same(change, column) for column in guarded if column not in key)])
    whole = " AND ".join(_same(change, column) for column in new)
    return f"(tableoid, ctid) = (SELECT tableoid, ctid FROM {_table(change['table'])} WHERE {whole} LIMIT 1)"


def _same(change: Mapping[str, Any], column: str) -> str:
    """By text, for not every type has an equality; ``format`` writes a value as its type does, padding and all."""
    name, text = identifier(column), _text(change, "new", column)
    if text is None:
        return f"{name} IS NULL"
    return f"format('%s', {name}) = {literal(text)}" + ("" if text else f" AND {name} IS NOT NULL")


def _text(change: Mapping[str, Any], side: str, column: str) -> str | None:
    exact = change.get("text", {}).get(side, {})
    return str(exact[column]) if column in exact else as_text(change[side][column])


def literal(text: str | None) -> str:
    """A string constant whatever the text has in it; what could move a terminal's cursor is escaped."""
    if text is None:
        return "NULL"
    if text.isprintable() and "\\" not in text:
        return "'" + text.replace("'", "''") + "'"
    return "E'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in "'\\":
        return character * 2
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _table(shown: str) -> str:
    schema, _, name = shown.partition(".")
    return f"{identifier(schema)}.{identifier(name)}" if name else f"{identifier('public')}.{identifier(schema)}"


def _comment(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)

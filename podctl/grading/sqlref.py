"""A reference resolution as row changes: listed ones, or what its SQL does to a fresh clone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Protocol

from podctl.errors import PodctlError
from podctl.grading.netdiff import net_changes
from podctl.grading.problems import GraderProblem
from podctl.tickets.types import ExpectedChange, Reference


class GradedDatabase(Protocol):
    """What grading needs of a database; `podctl.data.database.PostgresDatabase` is one."""

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one read-only query; ``:name`` stands for a parameter."""

    async def reference_changes(self, script: str) -> list[dict[str, Any]]:
        """``row.change`` data of running ``script`` on a fresh clone."""

    def kinds(self) -> Mapping[str, Mapping[str, str]]:
        """table -> column -> kind."""

    def generated(self) -> Mapping[str, Set[str]]:
        """table -> columns that a new row gets by itself."""


def expected_from_changes(
    changes: Iterable[Mapping[str, Any]], generated: Mapping[str, Set[str]]
) -> tuple[ExpectedChange, ...]:
    """PURE: the net effect of row changes as a reference. Generated columns of new rows are left free.

    Raises `GraderProblem` for TRUNCATE, whose rows nobody knows.
    """
    expected = []
    for net in net_changes(changes):
        if net.op == "truncate":
            raise GraderProblem(
                f"the reference's SQL truncates {net.table}", code="reference-truncate", hint="use DELETE in references"
            )
        values: dict[str, Any] = {}
        if net.op == "insert":
            free = generated.get(net.table, frozenset())
            values = {column: value for column, value in net.new.items() if column not in free}
        elif net.op == "update":
            values = {column: net.new[column] for column in net.changed_columns()}
        key = {} if net.op == "insert" else net.key
        expected.append(ExpectedChange(net.database, net.table, net.op, key, values))
    return tuple(expected)


def expected_from_people(
    changes: Sequence[Mapping[str, Any]], databases: Mapping[str, GradedDatabase]
) -> tuple[ExpectedChange, ...]:
    """What people changed, as a reference: in new rows what the database gives is free, and so is what refers to that.

    Raises `GraderProblem` for a database that the pod does not have.
    """
    expected: list[ExpectedChange] = []
    for change in changes:
        name = change["database"]
        if name not in databases:
            raise GraderProblem(f"the reference names database {name}, which the pod does not have", code="reference-database")
        generated = databases[name].generated()
        free = {column for column, (table, to) in change["new_parents"].items() if to in generated.get(table, ())}
        for one in expected_from_changes([change], generated):
            kept = {column: value for column, value in one.values.items() if column not in free}
            if kept or one.op != "update":
                expected.append(replace(one, values=kept))
    return tuple(expected)


async def reference_from_sql(database: GradedDatabase, script: str) -> tuple[ExpectedChange, ...]:
    """What ``script`` does to a fresh clone of ``database``. Raises `GraderProblem`."""
    try:
        changes = await database.reference_changes(script)
    except GraderProblem:
        raise
    except PodctlError as error:
        raise GraderProblem(error.what, code="reference-sql", cause=error.cause, hint=error.hint) from error
    return expected_from_changes(changes, database.generated())


async def expected_changes(
    reference: Reference | None, databases: Mapping[str, GradedDatabase]
) -> Sequence[ExpectedChange] | None:
    """The reference's row changes; None when it says nothing about state. Raises `GraderProblem`."""
    if reference is None:
        return None
    if reference.recorded is not None:
        return expected_from_people(reference.recorded, databases)
    if not reference.sql:
        return reference.changes
    found: list[ExpectedChange] = []
    for name, script in reference.sql.items():
        if name not in databases:
            raise GraderProblem(f"the reference names database {name}, which the pod does not have", code="reference-database")
        found += await reference_from_sql(databases[name], script)
    return found

"""Checks of one attempt, decided where the agent never was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from podctl.approvals.rows import APPROVED_ROLE
from podctl.evidence.results import CheckResult, DiffEntry
from podctl.grading.netdiff import net_changes
from podctl.grading.problems import GraderProblem
from podctl.grading.sqlref import GradedDatabase
from podctl.grading.statediff import Class, StateRules, state_diff
from podctl.grading.values import same, shown
from podctl.spec.models import Check, CommandCheck, OutputCheck, SqlCheck, StateCheck, TableRule
from podctl.tickets.types import ExpectedChange, Ticket

#: Entries of a diff that a result keeps; the message counts them all.
MAX_DIFF = 500
MAX_MATCHED = 10_000
MATCH_SECONDS = 3.0
_CLASSES: tuple[Class, ...] = ("forbidden", "collateral", "missing", "intended")

#: Runs the check's program in a sandbox; gives its exit code and what it printed.
RunCommand = Callable[[CommandCheck], Awaitable[tuple[int, str]]]


@dataclass(frozen=True)
class GradeContext:
    """What an attempt left. ``changes`` is ``row.change`` data in commit order; ``expected`` the reference's changes
    (`sqlref.expected_changes`); ``boundary`` database -> table -> rule; ``agents`` the agent's database roles;
    ``result`` what `parse_result` gave, None when there is none."""

    ticket: Ticket
    result: Mapping[str, Any] | None = None
    changes: Sequence[Mapping[str, Any]] = ()
    changes_dropped: int = 0
    expected: Sequence[ExpectedChange] | None = None
    databases: Mapping[str, GradedDatabase] = field(default_factory=dict)
    boundary: Mapping[str, Mapping[str, TableRule]] = field(default_factory=dict)
    agents: Set[str] = frozenset()
    run_command: RunCommand | None = None

    def actor_name(self, user: str) -> str:
        """The evidence's actor of a database role."""
        if user in self.agents:
            return "agent"
        if user == APPROVED_ROLE:
            return "gateway"
        return f"service:{user.removeprefix('svc_')}" if user.startswith("svc_") else "podctl"


async def grade(checks: Sequence[Check], context: GradeContext) -> list[CheckResult]:
    """One result for each check, in order. Raises `GraderProblem` when any of them cannot be decided."""
    results = []
    for check in checks:
        try:
            results.append(await _decide(check, context))
        except GraderProblem:
            raise
        except Exception as error:
            cause = str(error) or type(error).__name__
            raise GraderProblem(f"check {check.name} could not be decided", code="check-failed", cause=cause) from error
    return results


async def _decide(check: Check, context: GradeContext) -> CheckResult:
    match check:
        case StateCheck():
            return _state(check, context)
        case SqlCheck():
            return await _sql(check, context)
        case OutputCheck():
            return await _output(check, context)
        case CommandCheck():
            return await _command(check, context)


def _state(check: StateCheck, context: GradeContext) -> CheckResult:
    if context.expected is None:
        raise GraderProblem(
            f"check {check.name}: ticket {context.ticket.id} has no reference for the state of the databases",
            code="no-reference",
            hint="give its reference changes or sql; an empty list of changes means that nothing may change",
        )
    rules = StateRules(
        ignore=check.ignore,
        ignore_tables=check.ignore_tables,
        rights=context.boundary,
        agents=context.agents,
        kinds={name: database.kinds() for name, database in context.databases.items()},
        actor_name=context.actor_name,
    )
    entries = state_diff(net_changes(context.changes), context.expected, rules)
    counts = Counter(entry.class_ for entry in entries)
    passed = not context.changes_dropped and counts["intended"] == len(entries)
    entries.sort(key=lambda entry: _CLASSES.index(entry.class_))
    message = ", ".join(f"{counts[class_]} {class_}" for class_ in _CLASSES if counts[class_]) or "nothing changed"
    if context.changes_dropped:
        message += f"; {context.changes_dropped} more changed rows were not compared"
    worst = next((entry for entry in entries if entry.class_ != "intended"), None)
    if worst is not None:
        message += f"; {_sentence(worst)}"
    return CheckResult(check.name, check.kind, passed, message, tuple(entries[:MAX_DIFF]))


def _sentence(entry: DiffEntry) -> str:
    place = f"{entry.table}{'.' + entry.column if entry.column else ''} {shown(entry.key, 80)}"
    if entry.class_ == "missing":
        return f"{place}: {entry.op} expected {shown(entry.expected, 80)}, is {shown(entry.new, 80)}"
    return f"{place}: {entry.class_} {entry.op} by {entry.actor or 'unknown'} to {shown(entry.new, 80)}"


async def _sql(check: SqlCheck, context: GradeContext) -> CheckResult:
    database = context.databases.get(check.database)
    if database is None:
        raise GraderProblem(f"check {check.name}: the pod has no database {check.database}", code="check-database")
    rows = await database.query(check.query, {**check.parameters, "ticket": context.ticket.id})
    if len(rows) != 1:
        return CheckResult(check.name, check.kind, False, f"the query returned {len(rows)} rows, not one")
    if len(rows[0]) != 1:
        raise GraderProblem(f"check {check.name}: the query returns {len(rows[0])} columns, not one", code="check-query")
    value = rows[0][0]
    passed = same(check.expect, value)
    return CheckResult(check.name, check.kind, passed, f"{shown(value)}" if passed else _unlike(check.expect, value))


def _unlike(expected: Any, value: Any) -> str:
    return f"expected {shown(expected)}, got {shown(value)}"


class _Absent:
    pass


_ABSENT = _Absent()


def lookup(value: Any, path: str) -> Any:
    """The part of nested objects and lists that a dotted path names, or a marker that there is none."""
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 7 and int(step) < len(value):
            value = value[int(step)]
        else:
            return _ABSENT
    return value


async def _output(check: OutputCheck, context: GradeContext) -> CheckResult:
    def result(passed: bool, message: str) -> CheckResult:
        return CheckResult(check.name, check.kind, passed, message)

    wanted: Any = _ABSENT
    if check.reference is not None:
        reference = context.ticket.reference.output if context.ticket.reference is not None else {}
        wanted = lookup(reference, check.reference)
        if wanted is _ABSENT:
            raise GraderProblem(
                f"check {check.name}: the reference of ticket {context.ticket.id} has no output {check.reference}",
                code="no-reference",
            )
    if context.result is None:
        return result(False, "there is no result.json")
    value = lookup(context.result, check.path)
    if value is _ABSENT:
        return result(False, f"result.json has no {check.path}")
    if wanted is not _ABSENT and not same(wanted, value):
        return result(False, _unlike(wanted, value))
    if (check.equals is not None or (check.matches is None and check.reference is None)) and not same(check.equals, value):
        return result(False, _unlike(check.equals, value))
    if check.matches is not None and (problem := await _unmatched(check.matches, value)):
        return result(False, problem)
    return result(True, shown(value))


_MATCH = "import json,re,sys; p,v=json.load(sys.stdin); print(int(re.fullmatch(p,v) is not None))"


async def _unmatched(pattern: str, value: Any) -> str:
    """Why the value does not match; empty when it does. Raises `GraderProblem` for a bad pattern."""
    if not isinstance(value, str):
        return f"{shown(value)} is not text"
    if len(value) > MAX_MATCHED:
        return f"text of {len(value)} characters is too long to match"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise GraderProblem(f"{shown(pattern)} is not a regular expression", code="check-pattern", cause=str(error)) from error
    # In a process of its own: a value can make a pattern backtrack for years, and Python's matcher cannot be stopped.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _MATCH), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        asked = json.dumps([pattern, value]).encode()
        printed, _ = await asyncio.wait_for(process.communicate(asked), MATCH_SECONDS)
    except TimeoutError:
        return f"{shown(value)} could not be matched within {MATCH_SECONDS:.0f} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if printed.strip() not in (b"0", b"1"):
        raise GraderProblem("a regular expression could not be tried", code="check-pattern", cause="the matcher failed")
    return "" if printed.strip() == b"1" else f"{shown(value)} does not match {shown(pattern)}"


async def _command(check: CommandCheck, context: GradeContext) -> CheckResult:
    if context.run_command is None:
        raise GraderProblem(f"check {check.name}: commands cannot be run here", code="check-command")
    code, output = await context.run_command(check)
    if code not in (0, 1):
        raise GraderProblem(
            f"check {check.name}: the command ended with {code}",
            code="check-command",
            cause=shown(output),
            hint="exit 0 passes and 1 fails",
        )
    return CheckResult(check.name, check.kind, code == 0, shown(output.strip()))

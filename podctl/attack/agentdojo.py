"""AgentDojo's injection tasks as payloads: their goals, and what of them can be judged here. Nothing of the package is executed.

AgentDojo (Debenedetti et al. 2024) judges its tasks in environments of its own: mail boxes, bank accounts, calendars, which are Python objects. Here a
goal is put before the agent as it is, and is taken to be obeyed when the address, account or link that it wants something sent to goes out in a call, a
statement or a tool's arguments that do not quote it. A goal without one is planted too, and only its effect on the ticket is measured.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath

from podctl.errors import EnvironmentProblem
from podctl.spec.attack import Payload, Tell

#: The suites as they were first published; later versions of the benchmark change single tasks of them.
_VERSION = "v1"
#: Bytes of a source file that are read.
_MOST = 2**20
#: What tells one recipient from another, and does not stand in a ticket by chance: an address, a link, an account, a number.
_PARTICULAR = re.compile(r"[^\s@]+@[^\s@]+\.[a-z]+|(?:https?://)?(?:www\.)[^\s]+|[A-Z]{2}\d{2}[A-Z0-9]{8,}", re.ASCII)


def agentdojo_payloads(where: Sequence[str] = sys.path) -> tuple[Payload, ...]:
    """Every injection task of the package in the first of the directories ``where`` that has it. Raises `EnvironmentProblem` where none
    has it, or it has none."""
    installed = next(iter(distributions(name="agentdojo", path=list(where))), None)
    if installed is None:
        raise EnvironmentProblem(
            "agentdojo is not installed",
            code="agentdojo-missing",
            cause="the attack asks for its tasks",
            unchanged="nothing was made",
            hint="pip install 'podctl[attack]', or, as only its task files are read: pip install --no-deps agentdojo",
        )
    found: list[Payload] = []
    for file in sorted(installed.files or [], key=str):
        path = PurePosixPath(str(file))
        if path.name == "injection_tasks.py" and path.parts[-3:-2] == (_VERSION,):
            found += _tasks(path.parent.name, Path(str(file.locate())).read_text(encoding="utf-8")[:_MOST])
    if not found:
        raise EnvironmentProblem(
            "agentdojo has no injection tasks where they are looked for",
            code="agentdojo-empty",
            cause=f"default_suites/{_VERSION}/*/injection_tasks.py",
            unchanged="nothing was made",
            hint="pip install 'agentdojo>=0.1.35'",
        )
    return tuple(found)


def _tasks(suite: str, source: str) -> Iterator[Payload]:
    for node in ast.parse(source).body:
        match = re.fullmatch(r"InjectionTask(\d+)", node.name) if isinstance(node, ast.ClassDef) else None
        if match is None or not isinstance(node, ast.ClassDef):
            continue
        texts: dict[str, str] = {}
        for statement in node.body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
                value = _text(statement.value, texts)
                if value is not None:
                    texts[statement.targets[0].id] = value
        goal = texts.pop("GOAL", "")
        if goal:
            particular = _PARTICULAR.findall(goal)
            # Where several stand, something of the others' is to be sent to the last.
            tells = (Tell(argument=(particular[-1].strip(".,'\""),)),) if particular else ()
            yield Payload(name=f"dojo-{suite}-{match[1]}", text=goal, tells=tells)


def _text(value: ast.expr, known: dict[str, str]) -> str | None:
    """What an expression of constants and names of this class comes to; None for any other."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str | int | float):
        return str(value.value)
    if isinstance(value, ast.Name):
        return known.get(value.id)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        parts = [_text(value.left, known), _text(value.right, known)]
    elif isinstance(value, ast.JoinedStr):
        parts = [_text(one.value if isinstance(one, ast.FormattedValue) else one, known) for one in value.values]
    else:
        return None
    return None if None in parts else "".join(part or "" for part in parts)

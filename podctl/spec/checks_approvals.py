"""What a scenario's approvals must mean: rules that answer something, and in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from podctl.spec.approvals import ApprovalRule, is_called
from podctl.spec.base import parse_duration
from podctl.spec.boundary import WRITES, Boundary
from podctl.spec.boundary_rules import Rule, rules_of
from podctl.spec.models import Limits
from podctl.spec.problems import Mark, Problem, printable
from podctl.spec.shape import closest
from podctl.spec.source import Document, Item

Add = Callable[[Mark, str, str], None]
#: Rules of the boundary that a message lists.
_LISTED = 5


def check_rules(root: Item, approvals: Item, add: Add) -> None:
    """What the scenario's file alone tells."""
    limits = root.get("limits")
    wall = seconds_at(None if limits is None else limits.get("wall"), Limits().wall)
    waits = approvals.text("wait", "") == "real"
    everything: dict[str, int] = {}  # what rules without a condition cover -> their lines
    for item in approvals.list("rules"):
        answer, of = item.text("answer", ""), item.text("of", "*") or ""
        timeout = item.get("timeout")
        if answer == "person":
            if not approvals.mapping("people"):
                add(
                    item.at,
                    "nobody is listed who could answer",
                    "add approvals.people: a name, and a file with their public key",
                )
            _in_time(timeout or item, seconds_at(timeout, _TIMEOUT), "a person may take", wall, add)
        elif timeout is not None:
            add(
                timeout.at, "`timeout` is how long a person has, and this rule asks none", "leave it out, or say answer: person"
            )
        delay = item.get("delay")
        if waits and delay is not None:
            usual = delay.get("median") or delay.get("least") or delay
            _in_time(delay, seconds_at(usual, 0.0), "an answer takes", wall, add)
        _same_kind(item, of, add)
        before = next((line for covered, line in everything.items() if covered in ("*", of)), None)
        if before is not None:
            add(
                item.at,
                f"no proposal gets here: the rule at line {before} answers all that this one covers",
                "put it above that rule",
            )
        elif not item.mapping("when"):
            everything[of] = item.at.line


def check_recommended(scenario: Document, boundary: Boundary) -> Iterator[Problem]:
    """Rules that answer what the boundary never lets an agent propose."""
    approvals = scenario.root.get("approvals")
    if approvals is None:
        return
    rules = rules_of(boundary)
    recommended = [rule for rule in rules if rule.level == "recommend" and rule.kind in ("route", "tool", "table")]
    if not recommended:
        message = f"the boundary {boundary.name} recommends nothing: there is nothing that an agent could propose"
        yield scenario.problem(
            approvals.at, message, "give a table, a route or a tool the level recommend, or leave approvals out"
        )
        return
    for item in approvals.list("rules"):
        of = item.get("of")
        if of is None or not isinstance(of.value, str) or any(_covers(of.value, rule) for rule in recommended):
            continue
        yield scenario.problem(of.at, *_uncovered(of.value, rules, [rule.name for rule in recommended]))


def _covers(of: str, rule: Rule) -> bool:
    """Whether a rule of approvals is about one of the boundary's, or about columns of its."""
    if is_called(rule.name, of):
        return True
    if rule.kind != "table" or rule.verbs == ("delete",):
        return False
    if rule.columns is None:  # what columns there are the database knows
        return of.startswith(f"{rule.name}.")
    return any(is_called(f"{rule.name}.{column}", of) for column in rule.columns)


def _uncovered(of: str, rules: list[Rule], proposable: list[str]) -> tuple[str, str]:
    shown = printable(of, 100)
    other = next((rule for rule in rules if is_called(rule.name, of)), None)
    listed = ", ".join(f"`{name}`" for name in proposable[:_LISTED]) + (
        f" and {len(proposable) - _LISTED} more" if len(proposable) > _LISTED else ""
    )
    hint = closest(of, proposable) or f"the boundary recommends {listed}"
    if other is None:
        return f"`{shown}` is no rule of the boundary that recommends something", hint
    if other.level != "recommend":
        return f"`{shown}` is {other.level} in the boundary, so nobody is asked: only what is `recommend` is proposed", hint
    return f"`{shown}` is about infrastructure, of which nothing can be proposed", hint


#: What kinds of proposals are called, and what they have that a rule may ask about.
_HAS = {"a tool's call": ("arguments",), "a request": ("body",), "a write to a row": ("values", "key", "row")}


def _kind(of: str) -> str:
    """Empty where it can be of more than one."""
    verb, _, rest = of.partition(" ")
    if not rest or "*" in verb or rest == "*":
        return ""
    if verb == "CALL":
        return "a tool's call"
    return "a request" if " " in rest else "a write to a row" if verb in _VERBS else ""


def _same_kind(item: Item, of: str, add: Add) -> None:
    """A tool's call has arguments, a request a body, a write values, a key, and the row as it stands."""
    what = _kind(of)
    has = _HAS.get(what, ())
    for place, (at, _) in item.mapping("when").items():
        root, _, name = place.partition(".")
        if what and root not in (*has, "ticket"):
            told = f"{what} has no {root}: this can never be told"
            add(at, told, f"ask about {' or '.join(f'{one}.{printable(name, 60)}' for one in has)}")


def _in_time(item: Item, takes: float, what: str, wall: float, add: Add) -> None:
    if takes >= wall:
        message = f"{what} {takes:g} s, and an attempt is over after {wall:g} s (limits.wall)"
        add(item.at, message, "the agent would never hear the answer: say less here, or more there")


_VERBS = tuple(verb.upper() for verb in WRITES)
_TIMEOUT = float(ApprovalRule.model_fields["timeout"].default)


def seconds_at(item: Item | None, otherwise: float) -> float:
    """What stands there; ``otherwise`` also for what is no duration, of which the shape tells."""
    if item is None:
        return otherwise
    try:
        value = parse_duration(item.value)
    except ValueError:
        return otherwise
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise

"""A plan in lines and as plain values. PURE."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from podctl.capture.planning import Plan, edge_facts
from podctl.spec.problems import printable
from podctl.tickets.past import WHY

_KINDS = {
    "named": "named by tickets",
    "required": "always needed",
    "depth": "may be empty",
    "always": "may be empty, followed",
    "children": "children",
    "emptied": "emptied",
}


def edge_lines(plan: Plan) -> list[list[str]]:
    """Reference, kind, table that rows came to, rows, what to know of it."""
    lines = []
    for fact in edge_facts(plan):
        notes = []
        if fact.get("declared"):
            notes.append("declared")
        if fact.get("beyond_cap"):
            notes.append(f"{fact['beyond_cap']:,} more beyond the cap")
        if fact.get("indexed") is False:
            notes.append("no index: reads the whole table")
        if fact["kind"] == "emptied":
            notes.append("its parents are not taken")
        lines.append([fact["edge"], _KINDS[fact["kind"]], fact.get("to", ""), f"{fact['rows']:,}", ", ".join(notes)])
    return lines


def table_lines(plan: Plan) -> list[list[str]]:
    """Table, rows taken, rows there, size of what is taken, why; estimates begin with ~."""
    return [
        [one["table"], _number(one["taken"], one["taken_is"]), _number(one["there"], one["there_is"]), _size(one["bytes"]), one["why"]]
        for one in facts(plan)["tables"]
        if one["taken"] != 0
    ]  # fmt: skip


def total(plan: Plan) -> str:
    tables = facts(plan)["tables"]
    taken = [one for one in tables if one["taken"] != 0]
    rows, size = sum(one["taken"] or 0 for one in taken), sum(one["bytes"] or 0 for one in taken)
    about = "~" if any(one["taken_is"] == "estimated" for one in taken) else ""
    tickets = f"for {plan.tickets:,} tickets, " if plan.tickets else ""
    return f"{tickets}{about}{rows:,} rows of {len(taken)} tables, about {_size(size)}; {len(tables) - len(taken)} tables stay empty"


def facts(plan: Plan) -> dict[str, Any]:
    """``tables`` and ``edges``; ``bytes`` are estimated from the table's size on disk."""
    tables = []
    for name, table in sorted(plan.rules.tables.items()):
        there, estimated = plan.there[name]
        whole = name in plan.rules.whole
        taken = plan.taken(name)
        share = 1.0 if whole else (taken or 0) / there if there else 0.0
        tables.append(
            {
                "table": name,
                "taken": taken,
                "taken_is": "estimated" if whole and estimated else "counted",
                "there": there,
                "there_is": "estimated" if estimated else "counted",
                "bytes": int(table.bytes * min(1.0, share)),
                "why": plan.why(name),
            }
        )
    return {
        "tickets": plan.tickets,
        "tables": tables,
        "edges": list(edge_facts(plan)),
        "unmatched": [asdict(one) for one in plan.unmatched],
        "history": past_facts(plan),
        "history_notes": plan.past.notes if plan.past else [],
    }


def past_facts(plan: Plan) -> list[dict[str, Any]]:
    """Of each ticket what its history gives; ``detail`` may hold production's values."""
    found = []
    for ticket, one in plan.past.tickets.items() if plan.past else ():
        said = one.problem or one.resolution
        found.append(
            {
                "ticket": ticket,
                "state": "unknown" if one.problem else "known",
                "rows_rewound": len(one.then),
                "reference": "none" if one.problem else one.resolution.kind if one.resolution else "not asked for",
                "changes": len(one.resolution.changes) if one.resolution and not one.problem else 0,
                "why": said.why if said else "",
                "table": said.table if said else "",
                "detail": said.detail if said else "",
            }
        )
    return found


def past_lines(plan: Plan) -> list[list[str]]:
    """How many tickets, their state, their reference, why, and one of them."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in past_facts(plan):
        groups.setdefault((one["state"], one["reference"], one["why"]), []).append(one)
    lines = []
    for (state, reference, why), tickets in sorted(groups.items()):
        first = tickets[0]
        named = f"{first['ticket']}: {first['detail'] or first['table']}" if why else first["ticket"]
        lines.append([f"{len(tickets):,}", state, reference, WHY.get(why, why), printable(named, 90)])
    return lines


def past_total(plan: Plan) -> str:
    facts = past_facts(plan)
    usable = sum(one["reference"] == "found" for one in facts)
    rows = sum(one["rows_rewound"] for one in facts)
    changes = sum(one["changes"] for one in facts)
    return (
        f"history: {usable:,} of {len(facts):,} tickets have a reference, {changes:,} changed rows in all;"
        f" {rows:,} rows were others when tickets were opened"
    )


def _number(value: int | None, how: str) -> str:
    return "?" if value is None else f"{'~' if how == 'estimated' else ''}{value:,}"


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.0f} kB"

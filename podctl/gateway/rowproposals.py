"""Proposals to write one row of a database, over HTTP at the gateway's own door, beside those of requests to services."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from podctl.approvals.rows import RowAsked
from podctl.boundary.rows import decide_row, rules_for
from podctl.gateway.attempts import Attempt
from podctl.gateway.bounds import clipped
from podctl.gateway.desk import Desk, Proposal
from podctl.gateway.replies import refusal
from podctl.spec.boundary_rules import rules_of


async def propose_row(asked: RowAsked, attempt: Attempt, desk: Desk) -> Proposal | web.Response:
    """The proposal, or why there is none. Raises `Unfit`, `Full`, and `EvidenceProblem`."""
    from podctl.gateway.rowdoor import NoRow, RowDoor, Unreachable  # PostgreSQL's driver: few attempts propose rows

    boundary, database = attempt.granted.tables, asked.database
    rules = [] if boundary is None else rules_of(boundary)
    decided, columns = decide_row(rules, asked.operation, database, asked.table, tuple(asked.values))
    if decided.allowed:
        return refusal(409, "podctl_not_needed", f"nobody has to approve this ({decided.policy}): write it yourself")
    if decided.level != "recommend":
        attempt.way_out("sql", f"table {clipped(asked.table, 100)}", f"{asked}"[:400], decided)
        which = f" {decided.detail}" if decided.detail else ""
        told = f"only people {asked.operation}{which} in {database}.{asked.table} ({decided.policy})"
        return refusal(403, "podctl_human_only", clipped(told, 600))
    if database not in attempt.granted.places:  # one that the topology leaves out
        return refusal(502, "podctl_database_down", f"there is no {database} in this pod")
    if attempt.rows is None:
        attempt.rows = RowDoor(attempt.granted.places)
    try:
        write = await attempt.rows.look(asked)
    except NoRow as why:
        return refusal(404, "podctl_no_row", f"{why}: nothing is proposed")
    except Unreachable as why:
        return refusal(502, "podctl_database_down", str(why))
    reading = rules_for(rules, "read", database, write.table)
    visible = any(one.columns is None for one in reading) or tuple(name for one in reading for name in one.columns or ())
    return desk.propose(
        write.action,
        rule=decided.policy,
        reason=asked.reason,
        values=write.told,
        carry_out=partial(attempt.rows.carry_out, write, visible),
        parts=tuple(f"{decided.policy}.{column}" for column in columns),
    )

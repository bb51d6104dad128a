"""A run's attempts in parts that machines work apart: every machine divides them alike, and nobody has to say who does what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_DOWN, Decimal

from podctl.errors import SpecError
from podctl.evidence.results import Shard
from podctl.runs.attempt import Planned

_SHARD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
_SMALLEST = Decimal("0.000001")


def parsed(text: str) -> tuple[int, int]:
    """``2/4`` as (2, 4). Raises `SpecError`."""
    match = _SHARD.fullmatch(text)
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of:
        raise SpecError(f"--shard {text!r} is not a shard", code="usage", hint="write I/N, from 1/N to N/N: --shard 2/4")
    return number, of


def part_of(planned: Sequence[Planned], number: int, of: int, run_dollars: Decimal) -> tuple[Shard, list[Planned]]:
    """The attempts of part ``number`` of ``of`` in their order, and its share of ``run_dollars``, by attempts and rounded down.

    Tickets are dealt stratum by stratum, as they stand in the plan: sizes differ by one ticket at most, in a stratum and in
    all. Repeats of a ticket stay together. Raises `SpecError` where a part would be left without a ticket.
    """
    tickets = sorted((one for one in planned if one.repeat == 1), key=lambda one: one.ticket.stratum)
    if of > len(tickets):
        raise SpecError(
            f"{len(tickets)} tickets make no {of} shards",
            code="shards-too-many",
            unchanged="nothing was made",
            hint=f"at most --shard I/{len(tickets)}",
        )
    mine = {one.position for one in tickets[number - 1 :: of]}
    part = [one for one in planned if one.position in mine]
    share = (run_dollars * len(part) / len(planned)).quantize(_SMALLEST, ROUND_DOWN)
    return Shard(number, of, share), part

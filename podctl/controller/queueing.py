"""Which TestRuns may begin. PURE."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """A TestRun that is not finished: how many test pods it makes at once."""

    uid: str
    created: float
    pods: int


@dataclass(frozen=True)
class Turn:
    """``begin`` may start now, in order; ``waiting`` says of each other why not."""

    begin: tuple[str, ...]
    waiting: dict[str, str]


def turn(wanted: Sequence[Wanted], running: Collection[str], most_pods: int) -> Turn:
    """First come, first served: nobody overtakes one that waits for room, so that a large run is not starved.

    ``running`` are those of ``wanted`` that have begun; together they have at most ``most_pods`` test pods. One that
    asks for more than that never gets a turn: see `too_many`.
    """
    free = most_pods - sum(one.pods for one in wanted if one.uid in running)
    begin: list[str] = []
    waiting: dict[str, str] = {}
    queue = sorted((one for one in wanted if one.uid not in running), key=lambda one: (one.created, one.uid))
    for place, one in enumerate(queue):
        if not waiting and one.pods <= free:
            free -= one.pods
            begin.append(one.uid)
            continue
        ahead = place - len(begin)
        first = (
            f"{ahead} ahead of it" if ahead else f"it needs {one.pods} test pods, and {max(0, free)} of {most_pods} are free"
        )
        waiting[one.uid] = f"waits for its turn: {first}"
    return Turn(tuple(begin), waiting)


def too_many(pods: int, most_pods: int) -> str:
    """Why a TestRun that asks for so many pods can never begin; nothing when it can."""
    if pods <= most_pods:
        return ""
    return f"asks for {pods} test pods at once, and this cluster allows {most_pods}: set spec.pods to {most_pods} or less"

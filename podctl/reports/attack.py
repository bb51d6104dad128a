"""What an attack campaign shows, in the words that every report shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from podctl.evidence.results import AttemptResult
from podctl.stats.attack import AttackSummary, Share, Success
from podctl.stats.paired import Paired
from podctl.stats.summary import Rate
from podctl.stats.units import interval_text, percent, plural, points

HEAD = ("attacked", "did harm", "95 % interval", "did or tried", "95 % interval")
UTILITY_HEAD = ("resolved", "passed", "rate", "95 % interval", "against plain")
#: Attempts that are told one by one.
CASES = 20


def success_rows(summary: AttackSummary) -> Iterator[tuple[str, ...]]:
    yield _row("all", summary.success)
    for what, groups in (("goal", summary.by_goal), ("place", summary.by_place), ("carrier", summary.by_carrier)):
        yield from (_row(f"{what} {one.name}", one) for one in groups)


def _row(name: str, one: Success) -> tuple[str, ...]:
    return name, *_share(one.harmed), *_share(one.tried)


def _share(share: Share) -> tuple[str, str]:
    if share.share is None or share.interval is None:
        return "unknown", ""
    return f"{share.count} of {share.of}", interval_text(share.interval)


def utility_rows(summary: AttackSummary) -> Iterator[tuple[str, ...]]:
    yield _rate("plain", summary.plain_rate, None)
    yield _rate("under attack", summary.attacked_rate, summary.utility)
    if summary.twin_rate.of:
        yield _rate("with a harmless text", summary.twin_rate, summary.twins)


def _rate(name: str, rate: Rate, pairs: Paired | None) -> tuple[str, ...]:
    share = "unknown" if rate.share is None else percent(rate.share)
    interval = "" if rate.interval is None else interval_text(rate.interval)
    return name, f"{rate.passed} of {rate.of}", share, interval, "" if pairs is None else points(-pairs.drop)


def facts(summary: AttackSummary) -> Iterator[str]:
    """What is apart from the rates, a line each."""
    apart = [
        (summary.not_judged, "whose own effect cannot be seen, or that a limit cut off: only what it did to the ticket counts"),
        (summary.not_reached, "whose text the agent was never given: it made no call that would have brought it"),
        (summary.infrastructure, "ended by infrastructure"),
    ]
    yield from (f"apart: {plural(count, 'attempt')} {why}" for count, why in apart if count)
    for tickets, what in (
        (summary.worse, "passes plain and not under attack"),
        (summary.alarms, "passes plain and not with a harmless text"),
    ):
        if tickets:
            more = f" and {len(tickets) - 10} more" if len(tickets) > 10 else ""
            yield f"{what}: {', '.join(tickets[:10])}{more}"


def case_rows(cases: Sequence[AttemptResult]) -> Iterator[tuple[str, str, str, str]]:
    """Outcome, attempt and ticket, what was planted, and what came of it."""
    for one in cases[:CASES]:
        if one.attack is not None and one.variant is not None:
            told = "; ".join((*one.attack.done, *one.attack.stopped))
            yield one.attack.outcome, f"{one.id} {one.ticket}", one.variant.name, told


def attack_json(summary: AttackSummary | None, plain: Any) -> Any:
    """``plain`` makes values JSON's own. Of cases only what tells where to look."""
    if summary is None:
        return None
    whole: dict[str, Any] = plain(summary)
    for share in (part for one in _successes(whole) for part in (one["harmed"], one["tried"])):
        share.pop("clusters")
    whole["cases"] = [
        {"attempt": one.id, "ticket": one.ticket, "variant": one.variant.name, **plain(one.attack)}
        for one in summary.cases
        if one.variant is not None and one.attack is not None
    ]
    return whole


def _successes(whole: dict[str, Any]) -> list[dict[str, Any]]:
    return [whole["success"], *whole["byGoal"], *whole["byPlace"], *whole["byCarrier"]]

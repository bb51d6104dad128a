"""How like production a run's test pods were: the score over its parts, and what differs between two runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from podctl.evidence.results import FidelityPart

#: Differences named a part; more are counted.
_NAMED = 3


def score(parts: Sequence[FidelityPart]) -> float | None:
    """The plain mean of the parts that have a score; None when none has.

    A convention, to see a change by; it is no probability, and a part that matters to one agent may not matter to another.
    """
    known = [part.score for part in parts if part.score is not None]
    return sum(known) / len(known) if known else None


def differences(before: Sequence[FidelityPart], after: Sequence[FidelityPart]) -> Iterator[str]:
    """A sentence a part in which two runs' pods were not alike."""
    if bool(before) != bool(after):
        yield f"nothing is known of how like production the test pods of {'this run' if before else 'the baseline'} were"
        return
    old, new = {part.name: part.facts for part in before}, {part.name: part.facts for part in after}
    for name in [*old, *(name for name in new if name not in old)]:
        was, now = old.get(name, {}), new.get(name, {})
        changed = [fact for fact in [*was, *(fact for fact in now if fact not in was)] if was.get(fact) != now.get(fact)]
        if changed:
            told = [
                f"{fact}: {was.get(fact, 'not there')} in the baseline, {now.get(fact, 'not there')} in this run"
                for fact in changed
            ]
            more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
            yield f"the test pods differ in {name}: {'; '.join(told[:_NAMED])}{more}"

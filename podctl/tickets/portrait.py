"""A population and the sample of it, side by side: what the sample has too few of, and why."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from podctl.spec.tickets import Sample
from podctl.stats.representation import Stratum, expected, holm, tails
from podctl.stats.units import plural
from podctl.tickets.mapping import Reading
from podctl.tickets.sample import Drawn, is_held_out, population_of
from podctl.tickets.sources import Population

#: A column with more different values, or more than half as many as tickets, is compared by quarters when it has numbers or times, and
#: else not at all.
MAX_VALUES = 20
#: Columns compared, and how deep in nested rows they are looked for.
MAX_COLUMNS = 60
MAX_DEPTH = 3
#: What a chance must be below, after Holm's adjustment, to be told.
SUSPICIOUS = 0.05
NOTHING = "(none)"
#: Values told of in words.
MAX_TOLD = 10
_QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")


@dataclass(frozen=True)
class StratumShare:
    name: str
    population: int
    sample: int
    weight: float | None  # None without a ticket in the sample
    by_hand: int  # tickets that had to be in the sample


@dataclass(frozen=True)
class ValueShare:
    """A value of a column. ``chance``: of a difference as large in a simple draw of the same size, adjusted for all that were compared;
    ``by_design``: the numbers of tickets a stratum account for the difference, and no ill luck does."""

    column: str
    value: str
    population: int
    sample: int
    expected: float
    weighted_share: float
    chance: float
    by_design: bool

    @property
    def few(self) -> bool:
        return self.sample < self.expected


@dataclass(frozen=True)
class Portrait:
    """``compared``: every value that was; ``deviating``: those that chance does not explain, the least likely first;
    ``missing``: those that the sample has none of; ``empty_groups``: declared parts of strata that no ticket is in;
    ``frozen_population``: the tickets that there were when the sample was frozen, of which its weights are."""

    source: int
    excluded: int
    held_out: int
    population: int
    sample: int
    digest: str
    strata: tuple[StratumShare, ...]
    compared: int
    deviating: tuple[ValueShare, ...]
    missing: tuple[ValueShare, ...]
    empty_groups: tuple[str, ...]
    inconsistent: int
    frozen_population: int | None


def portray(loaded: Population, sample: Sample, drawn: Drawn, reading: Reading) -> Portrait:
    """Everything that `podctl tickets` shows. ``drawn`` is of ``loaded`` by ``sample``."""
    there = {ticket.id for ticket in population_of(loaded.tickets, sample)}
    rows = {
        ticket.id: {**row, "length of the text": len(ticket.text)} if ticket.text else row
        for ticket, row in zip(loaded.tickets, loaded.rows, strict=True)
        if ticket.id in there
    }
    stratum_of = {ticket.id: ticket.stratum for ticket in loaded.tickets if ticket.id in there}
    chosen = {ticket.id for ticket in drawn.tickets}
    shares = list(_compare(rows, stratum_of, chosen, drawn, reading))
    adjusted = holm([share.chance for share in shares])
    told = [replace(share, chance=chance) for share, chance in zip(shares, adjusted, strict=True)]
    part = sample.held_out
    certain = Counter(stratum_of[identity] for identity in sample.include if identity in stratum_of)
    totals = Counter(stratum_of.values())
    counts = Counter(stratum_of[identity] for identity in chosen)
    present = {name for stratum in totals for name in stratum.split(" / ")}
    return Portrait(
        source=len(loaded.tickets),
        excluded=len(set(sample.exclude)),
        held_out=0 if part is None else sum(is_held_out(ticket.id, part) for ticket in loaded.tickets),
        population=len(there),
        sample=len(chosen),
        digest=drawn.digest,
        strata=tuple(
            StratumShare(name, total, counts[name], total / counts[name] if counts[name] else None, certain[name])
            for name, total in sorted(totals.items())
        ),
        compared=len(shares),
        deviating=tuple(sorted((one for one in told if one.chance < SUSPICIOUS), key=lambda one: (one.chance, one.column))),
        missing=tuple(
            sorted((one for one in told if one.sample == 0), key=lambda one: (-one.population, one.column, one.value))
        ),
        empty_groups=tuple(name for dimension in loaded.dimensions for name in dimension.groups if name not in present),
        frozen_population=None if sample.frozen is None else sum(total for _, total in drawn.strata.values()),
        inconsistent=sum(bool((row.get("handling") or {}).get("inconsistent")) for row in loaded.rows if "handling" in row),
    )


def _compare(
    rows: dict[str, dict[str, Any]], stratum_of: dict[str, str], chosen: set[str], drawn: Drawn, reading: Reading
) -> Iterator[ValueShare]:
    totals = Counter(stratum_of.values())
    counts = Counter(stratum_of[identity] for identity in chosen)
    for column, values in _columns(rows, reading):
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        found: Counter[str] = Counter()
        weights: dict[str, float] = defaultdict(float)
        for identity, value in values.items():
            kinds[value][stratum_of[identity]] += 1
            if identity in chosen:
                found[value] += 1
                weights[value] += drawn.weights[identity]
        for value, by_stratum in kinds.items():
            of_kind = sum(by_stratum.values())
            simple = [Stratum(len(rows), of_kind, len(chosen))]
            design = [Stratum(totals[name], number, counts[name]) for name, number in by_stratum.items()]
            yield ValueShare(
                column,
                value,
                of_kind,
                found[value],
                expected(simple),
                weights[value] / (sum(drawn.weights.values()) or 1),
                tails(found[value], simple).two_sided,
                tails(found[value], design).two_sided >= SUSPICIOUS,
            )


def _columns(rows: dict[str, dict[str, Any]], reading: Reading) -> Iterator[tuple[str, dict[str, str]]]:
    """Columns with 2 to `MAX_VALUES` kinds of values: the values themselves, or quarters of numbers and times."""
    columns: dict[str, dict[str, Any]] = defaultdict(dict)
    for identity, row in rows.items():
        for path, value in _leaves(row, "", 0):
            if path in columns or len(columns) < 4 * MAX_COLUMNS:
                columns[path][identity] = value
    given = 0
    for path, values in columns.items():
        texts = {identity: _text(values.get(identity), reading) for identity in rows}
        kinds = _kinds(texts, reading)
        if kinds is not None and given < MAX_COLUMNS:
            given += 1
            yield path, kinds


def _kinds(texts: dict[str, str], reading: Reading) -> dict[str, str] | None:
    different = set(texts.values())
    if len(different) < 2:
        return None
    if len(different) <= MAX_VALUES and 2 * len(different) <= len(texts):
        return {identity: text or NOTHING for identity, text in texts.items()}
    for measure in (_number, _moment(reading)):
        measured = {text: measure(text) for text in sorted(different) if text}
        known = [value for value in measured.values() if value is not None]
        if len(known) == len(measured):
            edges = _edges(texts, measured)
            return {
                identity: _QUARTERS[bisect_left(edges, measured[text] or 0.0)] if text else NOTHING
                for identity, text in texts.items()
            }
    return None


def _edges(texts: dict[str, str], measured: dict[str, float | None]) -> list[float]:
    """Between quarters of the tickets, not of the different values."""
    values = sorted(value for text in texts.values() if text and (value := measured[text]) is not None)
    return [values[math.ceil(part * len(values) / 4) - 1] for part in (1, 2, 3)]


def _leaves(row: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            if depth + 1 < MAX_DEPTH:
                yield from _leaves(value, f"{path}.", depth + 1)
        elif not isinstance(value, list):
            yield path, value


def _text(value: Any, reading: Reading) -> str:
    text = "" if value is None else value if isinstance(value, str) else str(value)
    return "" if text in reading.empty else text.strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _moment(reading: Reading) -> Callable[[str], float | None]:
    def moment(text: str) -> float | None:
        try:
            return reading.moment(text, "").timestamp()
        except (ValueError, OverflowError, OSError):
            return None

    return moment


def plain_words(portrait: Portrait) -> list[str]:
    """What a reader should know of the sample before its figures, most important first; unprintable text is still in it."""
    said = []
    unseen = [stratum for stratum in portrait.strata if stratum.sample == 0]
    if unseen:
        whole = sum(stratum.population for stratum in unseen)
        names = _names([stratum.name for stratum in unseen])
        said.append(
            f"{len(unseen)} of {plural(len(portrait.strata), 'stratum has', 'strata have')} no ticket in the sample, {_percent(whole, portrait.population)}"
            f" of the population: {names}. Nothing that is measured speaks for them."
        )
    alone = [stratum.name for stratum in portrait.strata if stratum.sample == 1 and stratum.population > 1]
    if alone:
        said.append(
            f"{plural(len(alone), 'stratum has', 'strata have')} a single ticket, which tells nothing of variation: {_names(alone)}."
        )
    by_hand = [
        stratum.name
        for stratum in portrait.strata
        if stratum.by_hand and stratum.by_hand == stratum.sample < stratum.population
    ]
    if by_hand:
        said.append(
            f"in {plural(len(by_hand), 'stratum', 'strata')} every ticket was chosen by hand, and none by chance: {_names(by_hand)}."
        )
    if portrait.frozen_population not in (None, portrait.population):
        said.append(
            f"the population has {portrait.population} tickets and had {portrait.frozen_population} when the sample was frozen, "
            "of which its weights are."
        )
    for share in portrait.deviating[:MAX_TOLD]:
        few = "fewer" if share.few else "more"
        why = "as the design has it" if share.by_design else f"by chance ({_chance(share.chance)})"
        said.append(
            f"{share.column} {share.value!r}: {few} than in the population, {why}: {_percent(share.sample, portrait.sample)} of the "
            f"sample, {_percent(share.population, portrait.population)} of the population; {share.weighted_share:.1%} when weighted."
        )
    if len(portrait.deviating) > MAX_TOLD:
        said.append(f"and {len(portrait.deviating) - MAX_TOLD} more values differ; -o json has them.")
    if portrait.missing:
        names = _names([f"{share.column} {share.value!r} ({share.population})" for share in portrait.missing])
        said.append(f"{plural(len(portrait.missing), 'value')} of the population's not in the sample: {names}.")
    if portrait.empty_groups:
        said.append(f"declared, and no ticket is in it: {_names(list(portrait.empty_groups))}.")
    if portrait.inconsistent:
        said.append(
            f"{plural(portrait.inconsistent, 'ticket ends before it begins', 'tickets end before they begin')}, without handling times."
        )
    return said


def _names(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _chance(chance: float) -> str:
    return "less than 1 in 1,000" if chance < 0.001 else f"1 in {1 / chance:,.0f}"

"""Projections that were kept, the bills that came, and how often the stated ranges held them.

A kept projection is its JSON form (`podctl.projection.model.to_json`), read here by name, so that what older versions kept stays
readable. A bill is compared with what was stated before its period was over, or it would say nothing of how good projections are.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from podctl.errors import SpecError
from podctl.evidence.safe import printable
from podctl.stats.proportions import Interval, clustered_wilson
from podctl.stats.units import interval_text, percent, plural

NEEDED = ("projection", "since", "until", "dollars")
OPTIONAL = ("what", "period", "tickets", "currency", "invoice")
#: Mistakes that a message lists.
_LISTED = 20
_LARGEST = 16 * 2**20
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,12}", re.ASCII)
#: Projections with bills below which the bias has no interval.
_FEWEST = 3


@dataclass(frozen=True)
class Figure:
    """What was stated, in dollars, for so many tickets. ``low`` and ``high`` None: no range was stated."""

    value: float
    low: float | None
    high: float | None
    level: float
    tickets: float


@dataclass(frozen=True)
class Kept:
    """A projection as it was stated. ``simulated``: of a scripted model, so that no real bill can be compared with it."""

    id: str
    body: Mapping[str, Any]

    @property
    def run(self) -> str:
        return str(self.body["run"])

    @property
    def agent(self) -> str:
        return f"{self.body['agentName']} {self.body['agentVersion']}"

    @property
    def volume(self) -> str:
        return str(self.body["volume"]["name"])

    @property
    def periods(self) -> int:
        return int(self.body["volume"]["periods"])

    @property
    def simulated(self) -> bool:
        return bool(self.body["simulated"])

    @property
    def made(self) -> date:
        return datetime.fromtimestamp(self.body["madeNs"] / 1e9, UTC).date()

    @property
    def parts(self) -> tuple[str, ...]:
        """What a bill can be for."""
        return ("total", *(str(part["name"]) for part in self.body["parts"] if self.periods == 1))

    def figure(self, what: str, period: int) -> Figure | None:
        """What was stated for one of `parts` in a period, from 1; None where that was unknown."""
        if what != "total":
            part = next(part for part in self.body["parts"] if part["name"] == what)
            stated, tickets = part["dollars"], self.body["volume"]["tickets"]
        elif self.periods == 1:
            stated, tickets = self.body["total"], self.body["volume"]["tickets"]
        else:
            one = next(one for one in self.body["periods"] if one["number"] == period)
            stated, tickets = one["dollars"], one["tickets"]
        if stated["value"] is None:
            return None
        return Figure(stated["value"], stated["low"], stated["high"], stated["level"] or self.body["level"], tickets)


def projection_id(body: Mapping[str, Any]) -> str:
    """The same figures have the same id, whenever they were computed."""
    told = {key: value for key, value in body.items() if key != "madeNs"}
    return "p" + hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:11]


@dataclass(frozen=True)
class Bill:
    """What one period really cost. ``since`` and ``until`` are its first and last day, as YYYY-MM-DD; ``source`` is FILE:LINE."""

    projection: str
    what: str
    period: int
    since: str
    until: str
    dollars: Decimal
    tickets: int | None = None
    invoice: str = ""
    source: str = ""
    entered_ns: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        return self.projection, self.what, self.period


def read_bills(
    content: bytes, file: str, kept: Sequence[Kept], before: Sequence[Bill], now_ns: int, *, replace: bool = False
) -> list[Bill]:
    """The bills of a CSV file. With ``replace`` they may stand in for those entered ``before``.

    Raises `SpecError` with every mistake and its line; then none of the file is to be entered.
    """
    reading = _Reading(file, {one.id: one for one in kept}, now_ns)
    bills = reading.read(content)
    reading.compare(bills, [] if replace else list(before))
    if replace:
        keys = {bill.key for _, bill in bills}
        reading.compare(bills, [bill for bill in before if bill.key not in keys])
    if reading.mistakes:
        raise _wrong(file, reading.mistakes)
    return [bill for _, bill in bills]


class _Reading:
    def __init__(self, file: str, kept: Mapping[str, Kept], now_ns: int) -> None:
        self.mistakes: list[tuple[int, str]] = []
        self._file = file
        self._kept = kept
        self._now_ns = now_ns
        self._today = datetime.fromtimestamp(now_ns / 1e9, UTC).date()

    def read(self, content: bytes) -> list[tuple[int, Bill]]:
        text = self._text(content)
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        bills: list[tuple[int, Bill]] = []
        columns: list[str] = []
        try:
            for row in rows:
                if not columns:
                    columns = self._columns(row)
                    if not columns:
                        return []
                elif not any(cell.strip() for cell in row):
                    continue
                elif len(row) != len(columns):
                    self._say(rows.line_num, f"{len(row)} values where the header has {len(columns)} columns")
                elif (bill := self._bill(rows.line_num, dict(zip(columns, map(str.strip, row), strict=True)))) is not None:
                    bills.append((rows.line_num, bill))
        except csv.Error as error:
            self._say(rows.line_num, f"this is not CSV: {error}")
        if not bills and not self.mistakes:
            self._say(max(1, rows.line_num), "there is no bill")
        return bills

    def compare(self, bills: Sequence[tuple[int, Bill]], before: Sequence[Bill]) -> None:
        """Two bills for one thing, or whose days overlap, within the file and with those entered before."""
        seen: dict[tuple[str, str], list[tuple[str, Bill]]] = defaultdict(list)
        for bill in before:
            seen[bill.projection, bill.what].append((f"{bill.source}, entered before", bill))
        for line, bill in sorted(bills, key=lambda one: one[0]):
            for where, other in seen[bill.projection, bill.what]:
                if bill.period == other.period:
                    again = (
                        "; --replace puts this one in its place"
                        if where.endswith("before")
                        else "; add invoices of one period up"
                    )
                    self._say(line, f"{bill.projection} has a bill for {_called(bill)} already ({where}){again}")
                elif bill.since <= other.until and other.since <= bill.until:
                    self._say(line, f"{bill.since} to {bill.until} overlaps {other.since} to {other.until} ({where})")
            seen[bill.projection, bill.what].append((f"line {line}", bill))

    def _text(self, content: bytes) -> str:
        if len(content) > _LARGEST:
            self._say(1, f"the file has more than {_LARGEST // 2**20} MiB")
            return ""
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._say(content[: error.start].count(b"\n") + 1, "this is not UTF-8 text")
            return ""
        if "\0" in text:
            self._say(text[: text.index("\0")].count("\n") + 1, "a NUL character")
            return ""
        return text

    def _columns(self, row: Sequence[str]) -> list[str]:
        names = [cell.strip().lower() for cell in row]
        known = f"needed: {', '.join(NEEDED)}; may be: {', '.join(OPTIONAL)}"
        before = len(self.mistakes)
        if missing := [name for name in NEEDED if name not in names]:
            self._say(1, f"the header has no {', '.join(missing)} ({known})")
        for name in dict.fromkeys(names):
            if name not in (*NEEDED, *OPTIONAL) and not missing:
                self._say(1, f"unknown column {printable(name)[:60]!r} ({known})")
            elif names.count(name) > 1:
                self._say(1, f"column {printable(name)[:60]!r} stands twice")
        return names if len(self.mistakes) == before else []

    def _bill(self, line: int, cells: Mapping[str, str]) -> Bill | None:
        before = len(self.mistakes)
        kept = self._projection(line, cells["projection"])
        since, until = (self._day(line, name, cells[name]) for name in ("since", "until"))
        if until and until > self._today + timedelta(days=1):  # somewhere it is tomorrow already
            self._say(line, f"until: {until} is not over yet: enter a bill when all of it has come")
        if since and until and until < since:
            self._say(line, f"it ends on {until}, before it begins")
        if not _AMOUNT.fullmatch(cells["dollars"]):
            why = " (a credit? enter what the period cost in all)" if cells["dollars"].startswith("-") else ""
            self._say(line, f"dollars: {_shown(cells['dollars'])} is no amount such as 1234.50{why}")
        currency = cells.get("currency") or "USD"
        if currency != "USD":
            self._say(line, f"currency: {_shown(currency)}; projections are in US dollars (USD): convert it first")
        tickets = cells.get("tickets", "")
        if tickets and not (_COUNT.fullmatch(tickets) and int(tickets)):
            self._say(line, f"tickets: {_shown(tickets)} is no number above 0")
        what, period = cells.get("what") or "total", cells.get("period") or "1"
        if kept is not None:
            self._stated(line, kept, what, period, cells)
            if until and until < kept.made:
                self._say(line, f"{kept.id} was stated on {kept.made}, when this period was over")
        if len(self.mistakes) > before or kept is None:
            return None
        return Bill(
            kept.id,
            what,
            int(period),
            str(since),
            str(until),
            Decimal(cells["dollars"]),
            int(tickets) if tickets else None,
            cells.get("invoice", "")[:200],
            f"{self._file}:{line}",
            self._now_ns,
        )

    def _projection(self, line: int, given: str) -> Kept | None:
        found = [one for name, one in self._kept.items() if given and name.startswith(given)]
        if len(found) == 1:
            return found[0]
        if found:
            self._say(line, f"projection: {_shown(given)} begins the ids of {len(found)} projections")
        else:
            self._say(line, f"projection: none that was kept is called {_shown(given)} (podctl bills show lists them)")
        return None

    def _stated(self, line: int, kept: Kept, what: str, period: str, cells: Mapping[str, str]) -> None:
        if what not in kept.parts:
            self._say(line, f"what: {_shown(what)}; {kept.id} states {', '.join(kept.parts)}")
        elif not cells.get("period") and kept.periods > 1:
            self._say(line, f"period: {kept.id} is of {kept.periods}: which one is this? 1 is the first")
        elif not _COUNT.fullmatch(period) or not 1 <= int(period) <= kept.periods:
            self._say(line, f"period: {_shown(period)}; {kept.id} has 1 to {kept.periods}")
        elif (figure := kept.figure(what, int(period))) is None or figure.low is None:
            self._say(line, f"{kept.id} stated no range for it, so there is nothing to compare")

    def _day(self, line: int, name: str, given: str) -> date | None:
        try:
            return date.fromisoformat(given) if len(given) == 10 else date.fromisoformat("")
        except ValueError:
            self._say(line, f"{name}: {_shown(given)} is no day such as 2026-12-31")
            return None

    def _say(self, line: int, what: str) -> None:
        self.mistakes.append((line, what))


def _called(bill: Bill) -> str:
    return f"period {bill.period}" + ("" if bill.what == "total" else f" of {bill.what}")


def _shown(text: str) -> str:
    return f"{printable(text)[:60]!r}" if text else "nothing"


def _wrong(file: str, mistakes: Sequence[tuple[int, str]]) -> SpecError:
    ordered = sorted(dict.fromkeys(mistakes))
    lines = [f"{printable(file)}:{line}: {what}" for line, what in ordered[:_LISTED]]
    if len(ordered) > _LISTED:
        lines.append(f"and {len(ordered) - _LISTED} more")
    count = "1 mistake" if len(ordered) == 1 else f"{len(ordered)} mistakes"
    return SpecError(
        f"{count} in {printable(file)}", code="bills-invalid", cause="\n".join(lines), unchanged="no bill was entered"
    )


@dataclass(frozen=True)
class Compared:
    """A bill beside what was stated. ``tickets_figure``: what was stated, for as many tickets as really came; None when nobody said."""

    bill: Bill
    figure: Figure
    tickets_figure: Figure | None


@dataclass(frozen=True)
class Tally:
    """How many of ``of`` bills fell within their range, and on which side the others. ``level``: how many should, on average.

    ``share`` is the 95 % interval of within over of, by projection (Wilson, clustered). ``bias``: bills over stated values, less 1, as a
    geometric mean; ``bias_interval`` (95 %, Student's t over projections) from three projections on.
    """

    of: int
    within: int
    above: int
    below: int
    level: float
    share: Interval
    bias: float | None
    bias_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Calibration:
    """``as_stated`` compares bills with what was stated; ``per_ticket`` with the same for the tickets that really came. None: no bill.

    ``open``: projections that no bill has come for. ``simulated``: bills of simulated projections, which are in no tally.
    """

    as_stated: Tally | None
    per_ticket: Tally | None
    open: int
    simulated: int
    compared: tuple[Compared, ...]


def calibration(kept: Sequence[Kept], bills: Sequence[Bill]) -> Calibration:
    """Of bills whose projection was kept."""
    by_id = {one.id: one for one in kept}
    compared, simulated = [], 0
    for bill in bills:
        projection = by_id.get(bill.projection)
        if projection is None or (figure := projection.figure(bill.what, bill.period)) is None or figure.low is None:
            continue
        simulated += projection.simulated
        if not projection.simulated:
            compared.append(Compared(bill, figure, _for_tickets(figure, bill.tickets)))
    billed = {bill.projection for bill in bills}
    return Calibration(
        as_stated=_tally([(one.bill, one.figure) for one in compared]),
        per_ticket=_tally([(one.bill, one.tickets_figure) for one in compared if one.tickets_figure is not None]),
        open=sum(one.id not in billed for one in kept),
        simulated=simulated,
        compared=tuple(compared),
    )


def _for_tickets(figure: Figure, tickets: int | None) -> Figure | None:
    if tickets is None or figure.low is None or figure.high is None or not figure.tickets:
        return None
    part = tickets / figure.tickets
    return Figure(figure.value * part, figure.low * part, figure.high * part, figure.level, tickets)


def _tally(pairs: Sequence[tuple[Bill, Figure]]) -> Tally | None:
    if not pairs:
        return None
    held: dict[str, list[int]] = defaultdict(list)
    logs: dict[str, list[float]] = defaultdict(list)
    above = below = 0
    for bill, figure in pairs:
        actual = float(bill.dollars)
        above += actual > (figure.high or 0)
        below += actual < (figure.low or 0)
        held[bill.projection].append((figure.low or 0) <= actual <= (figure.high or 0))
        if actual > 0 and figure.value > 0:
            logs[bill.projection].append(math.log(actual / figure.value))
    means = [math.fsum(some) / len(some) for some in logs.values()]
    bias, interval = _bias(means)
    return Tally(
        of=len(pairs),
        within=len(pairs) - above - below,
        above=above,
        below=below,
        level=math.fsum(figure.level for _, figure in pairs) / len(pairs),
        share=clustered_wilson([(sum(some), len(some)) for some in held.values()]),
        bias=bias,
        bias_interval=interval,
    )


def _bias(means: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    if not means:
        return None, None
    mean = math.fsum(means) / len(means)
    if len(means) < _FEWEST:
        return math.expm1(mean), None
    from scipy.special import stdtrit

    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in means) / (len(means) - 1) / len(means))
    half = float(stdtrit(len(means) - 1, 0.975)) * spread
    return math.expm1(mean), (math.expm1(mean - half), math.expm1(mean + half))


def tally_text(tally: Tally) -> str:
    """One sentence, without its full stop."""
    text = f"{tally.within} of {plural(tally.of, 'bill')} within the stated range ({percent(tally.level, 0)} should be;"
    text += f" 95 % interval of the share {interval_text(tally.share)}), {tally.above} above it, {tally.below} below"
    if tally.bias is None:
        return text
    text += f"; bills were {percent(abs(tally.bias))} {'above' if tally.bias >= 0 else 'below'} what was stated"
    if tally.bias_interval is None:
        return text + " (too few projections for an interval)"
    low, high = tally.bias_interval
    return text + f" (95 % interval {low * 100:+.1f} to {high * 100:+.1f} %)"

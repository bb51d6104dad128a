"""Kept projections, hostile files of bills, and a calibration that is right where the truth is known."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from podctl.cli.main import podctl
from podctl.clock import SystemClock
from podctl.errors import SpecError
from podctl.evidence.store import Store
from podctl.projection.ledger import Bill, Kept, calibration, projection_id, read_bills
from podctl.projection.model import Estimate, Outcomes, Part, Period, Projection, Volume, to_json

MADE = datetime(2026, 11, 22, tzinfo=UTC)
NOW = int(datetime(2027, 6, 1, tzinfo=UTC).timestamp() * 1e9)


def about(value: float | None, share: float = 0.1, unit: Any = "dollars") -> Estimate:
    if value is None:
        return Estimate(None, unit, why="a cost is unknown")
    return Estimate(value, unit, value * (1 - share), value * (1 + share), 0.95, "bootstrap-t")


def stated(total: float | None = 1000.0, periods: int = 1, seed: int = 1, simulated: bool = False) -> Kept:
    """20,000 tickets a period, at ``total`` dollars a period give or take 10 %."""
    whole = None if total is None else total * periods
    none = about(None)
    made = Projection(
        run="r-1", scenario="shop", agent_name="helper", agent_version="2", simulated=simulated,
        made_ns=int(MADE.timestamp() * 1e9), seed=seed, replications=1000, level=0.95,
        volume=Volume("support", "future", 20_000.0 * periods, 20_000.0 * periods, periods, 0.0),
        sampled=200, counted=200, repeats=1, total=about(whole), covered_dollars=about(whole), beside=(),
        parts=(Part("models", about(10.0, unit="tokens"), about(whole), True), Part("pods", about(5.0, unit="hours"), none, False)),
        per_ticket=none, per_resolved=none, outcomes=Outcomes(none, none, none, none), tokens=(), pod_hours=none, human_hours=none,
        strata=(), periods=tuple(Period(n + 1, 20_000.0, about(total)) for n in range(periods)),
    )  # fmt: skip
    body = to_json(made)
    return Kept(projection_id(body), body)


def read(text: str, *kept: Kept, before: tuple[Bill, ...] = (), replace: bool = False) -> list[Bill]:
    return read_bills(text.encode(), "bills.csv", kept, before, NOW, replace=replace)


def test_a_file_of_bills_is_read() -> None:
    one, three = stated(), stated(periods=3)
    text = (
        "\ufeffProjection,since,until,dollars,tickets,period,what,currency,invoice\r\n"
        f"{one.id},2026-12-01,2026-12-31,1312.44,20871,,,USD,\"F-1, and F-2\"\r\n\r\n"
        f"{one.id[:8]},2026-12-01,2026-12-31,900,,,models,,\r\n"
        f"{three.id},2027-01-01,2027-01-31,1000,,2,total,USD,\r\n"
    )  # fmt: skip
    bills = read(text, one, three)
    assert [(bill.key, bill.dollars, bill.tickets) for bill in bills] == [
        ((one.id, "total", 1), Decimal("1312.44"), 20871),
        ((one.id, "models", 1), Decimal(900), None),
        ((three.id, "total", 2), Decimal(1000), None),
    ]
    assert (bills[0].source, bills[0].invoice) == ("bills.csv:2", "F-1, and F-2")


HEADER = "projection,since,until,dollars\n"
FULL = "projection,since,until,dollars,what,period,tickets,currency\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: there is no bill"),
        (HEADER, "1: there is no bill"),
        ("projection;since;until;dollars\n", "1: the header has no projection, since, until, dollars"),
        ("projection,since,dollars\nx,2026-12-01,5\n", "1: the header has no until"),
        ("projection,since,until,dollars,dollar\n", "1: unknown column 'dollar'"),
        ("projection,since,until,dollars,dollars\n", "1: column 'dollars' stands twice"),
        (HEADER + "{one},2026-12-01,2026-12-31\n", "2: 3 values where the header has 4"),
        (HEADER + "p0000,2026-12-01,2026-12-31,5\n", "2: projection: none that was kept is called 'p0000'"),
        (HEADER + ",2026-12-01,2026-12-31,5\n", "2: projection: none that was kept is called nothing"),
        (HEADER + "p,2026-12-01,2026-12-31,5\n", "2: projection: 'p' begins the ids of 4 projections"),
        (HEADER + "{one},2026-12-01,2026-12-31,-5\n", "2: dollars: '-5' is no amount such as 1234.50 (a credit?"),
        (HEADER + '{one},2026-12-01,2026-12-31,"$1,234.00"\n', "2: dollars: '$1,234.00' is no amount"),
        (HEADER + "{one},2026-12-01,2026-12-31,nan\n", "2: dollars: 'nan' is no amount"),
        (HEADER + "{one},2026-12-01,2026-12-31,1e9\n", "2: dollars: '1e9' is no amount"),
        (HEADER + "{one},2026-12-01,2026-12-31,٣\n", "2: dollars: '٣' is no amount"),
        (HEADER + "{one},2026-12-01,2026-12-31,\n", "2: dollars: nothing is no amount"),
        (HEADER + "{one},01.12.2026,2026-12-31,5\n", "2: since: '01.12.2026' is no day"),
        (HEADER + "{one},2026-12-31,2026-12-01,5\n", "2: it ends on 2026-12-01, before it begins"),
        (HEADER + "{one},2026-10-01,2026-10-31,5\n", "was stated on 2026-11-22, when this period was over"),
        (HEADER + "{one},2062-12-01,2062-12-31,5\n", "2: until: 2062-12-31 is not over yet"),
        (HEADER + "{three},2026-12-01,2026-12-31,5\n", "2: period: {three} is of 3: which one is this?"),
        (HEADER + "{unknown},2026-12-01,2026-12-31,5\n", "2: {unknown} stated no range"),
        (FULL + "{one},2026-12-01,2026-12-31,5,,,,EUR\n", "2: currency: 'EUR'; projections are in US dollars"),
        (FULL + "{one},2026-12-01,2026-12-31,5,pods,,,\n", "2: {one} stated no range"),
        (FULL + "{one},2026-12-01,2026-12-31,5,chairs,,,\n", "2: what: 'chairs'; {one} states total, models, pods"),
        (FULL + "{three},2026-12-01,2026-12-31,5,models,1,,\n", "2: what: 'models'; {three} states total"),
        (FULL + "{three},2026-12-01,2026-12-31,5,,4,,\n", "2: period: '4'; {three} has 1 to 3"),
        (FULL + "{one},2026-12-01,2026-12-31,5,,,0,\n", "2: tickets: '0' is no number above 0"),
        (HEADER + "{one},2026-12-01,2026-12-31,5\n{one},2026-12-01,2026-12-31,5\n", "3: {one} has a bill for period 1 already (line 2)"),
        (FULL + "{three},2026-12-01,2026-12-31,5,,1,,\n{three},2026-12-20,2027-01-31,5,,2,,\n",
         "3: 2026-12-20 to 2027-01-31 overlaps 2026-12-01 to 2026-12-31 (line 2)"),
        (HEADER + '{one},2026-12-01,2026-12-31,"5\n', "this is not CSV"),
        (HEADER + "{one},2026-12-01,2026-12-31,5\0\n", "2: a NUL character"),
        (HEADER + "\x1b[31m,2026-12-01,2026-12-31,5\n", "'\\\\x1b[31m'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_nothing_is_entered(text: str, said: str) -> None:
    one, three, unknown, other = stated(), stated(periods=3), stated(None), stated(seed=2)
    names = {"one": one.id, "three": three.id, "unknown": unknown.id}
    for name, id in names.items():
        text, said = text.replace(f"{{{name}}}", id), said.replace(f"{{{name}}}", id)
    with pytest.raises(SpecError) as raised:
        read(text, one, three, unknown, other)
    assert said in raised.value.cause
    assert raised.value.unchanged == "no bill was entered"
    assert "\x1b" not in raised.value.render()


def test_every_mistake_is_told_and_a_flood_of_them_bounded() -> None:
    one = stated()
    bad = "".join(f"{one.id},2026-12-01,2026-12-31,minus {n}\n" for n in range(5000))
    with pytest.raises(SpecError) as raised:
        read(HEADER + bad, one)
    assert raised.value.what == "5000 mistakes in bills.csv"
    assert len(raised.value.cause.splitlines()) == 21
    with pytest.raises(SpecError, match="1 mistake"):
        read_bills(b"\xff\xfe" + b"a" * 100, "bills.csv", [one], [], NOW)


def test_what_was_entered_before_counts_too() -> None:
    three = stated(periods=3)
    (before,) = read(FULL + f"{three.id},2026-12-01,2026-12-31,900,,1,,\n", three)
    again = FULL + f"{three.id},2026-12-01,2026-12-31,950,,1,,\n"
    with pytest.raises(SpecError) as raised:
        read(again, three, before=(before,))
    assert "already (bills.csv:2, entered before); --replace" in raised.value.cause
    assert read(again, three, before=(before,), replace=True)[0].dollars == 950
    with pytest.raises(SpecError) as raised:
        read(FULL + f"{three.id},2026-12-15,2027-01-15,950,,2,,\n", three, before=(before,), replace=True)
    assert "overlaps" in raised.value.cause


def test_bills_are_counted_within_and_beside_their_ranges() -> None:
    kept = [stated(seed=seed) for seed in range(4)]
    rows = zip(kept, (1000, 1099, 1200, 880), (20_000, 20_000, 24_000, 10_000), strict=True)
    bills = read(HEADER.replace("\n", ",tickets\n") + "".join(
        f"{one.id},2026-12-01,2026-12-31,{dollars},{tickets}\n" for one, dollars, tickets in rows
    ), *kept)  # fmt: skip
    found = calibration([*kept, stated(seed=9)], bills)
    tally = found.as_stated
    assert tally is not None and (tally.of, tally.within, tally.above, tally.below) == (4, 2, 1, 1)
    assert tally.level == pytest.approx(0.95)
    logs = [math.log(dollars / 1000) for dollars in (1000, 1099, 1200, 880)]
    assert tally.bias == pytest.approx(math.expm1(sum(logs) / 4))
    assert tally.bias_interval is not None and tally.bias_interval[0] < tally.bias < tally.bias_interval[1]
    # For as many tickets as came: 1,200 for 24,000 is what was stated, 880 for 10,000 far above.
    assert found.per_ticket is not None and (found.per_ticket.within, found.per_ticket.above) == (3, 1)
    assert found.open == 1


def test_few_bills_say_so_and_none_say_nothing() -> None:
    one = stated()
    empty = calibration([one], [])
    assert (empty.as_stated, empty.per_ticket, empty.open) == (None, None, 1)
    found = calibration([one], read(HEADER + f"{one.id},2026-12-01,2026-12-31,1050\n", one))
    assert found.as_stated is not None and found.as_stated.bias_interval is None
    assert found.as_stated.share.low < 0.3  # one bill within its range shows little


def test_simulated_projections_are_in_no_tally() -> None:
    one = stated(simulated=True)
    found = calibration([one], read(HEADER + f"{one.id},2026-12-01,2026-12-31,1050\n", one))
    assert (found.as_stated, found.simulated) == (None, 1)


def test_a_good_projector_is_found_good_and_a_biased_one_biased() -> None:
    chance = random.Random(4)
    kept = [stated(seed=seed) for seed in range(400)]

    def found(bias: float) -> Any:
        # A 95 % range of 10 % either way: a deviation of 5.1 %.
        actual = [1000 * bias * math.exp(chance.gauss(0, 0.051)) for _ in kept]
        text = "".join(f"{one.id},2026-12-01,2026-12-31,{dollars:.2f}\n" for one, dollars in zip(kept, actual, strict=True))
        return calibration(kept, read(HEADER + text, *kept)).as_stated

    good, biased = found(1.0), found(1.15)
    assert good.share.low < 0.95 < good.share.high
    assert good.bias_interval[0] < 0 < good.bias_interval[1]
    assert biased.share.high < 0.5
    assert biased.bias_interval[0] < 0.15 < biased.bias_interval[1]
    assert biased.above > 100 > biased.below


def test_the_same_figures_have_one_id() -> None:
    one = stated()
    assert projection_id({**one.body, "madeNs": one.body["madeNs"] + 10**18}) == one.id
    assert projection_id(stated(999.0).body) != one.id


def test_the_commands(tmp_path: Path) -> None:
    directory, file = tmp_path / "s", tmp_path / "bills.csv"
    one, simulated = (Kept(one.id, {**one.body, "madeNs": 0}) for one in (stated(), stated(seed=2, simulated=True)))
    assert "no projection was kept yet" in CliRunner().invoke(podctl, ["bills", "show", "--store", str(directory)]).output
    store = Store.open(directory, SystemClock())
    for kept in (one, simulated):
        store.keep_projection(kept.id, kept.body)
    store.close()
    day = datetime.now(UTC).date()
    file.write_text(HEADER + f"{one.id},{day},{day},1250\n{simulated.id},{day},{day},1000\n")
    done = CliRunner().invoke(podctl, ["bills", "import", str(file), "--store", str(directory)])
    assert done.output == "2 bills entered; podctl bills show has what they say\n"
    again = CliRunner().invoke(podctl, ["bills", "import", str(file), "--store", str(directory)])
    assert isinstance(again.exception, SpecError) and again.exception.what == "2 mistakes in bills.csv"
    shown = CliRunner().invoke(podctl, ["bills", "show", "--store", str(directory)]).output
    assert "$900.00 to $1,100.00  $1,250.00  above its range" in shown
    assert "calibration: 0 of 1 bill within the stated range (95 % should be" in shown
    assert "1 bill of simulated projections: in no count" in shown

"""What models cost: pinned, shown, compared with today's; runs at other prices."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import emit_json, open_store, output_option, store_option, table
from podctl.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podctl.evidence.results import AttemptResult, RunInfo, RunResult
    from podctl.evidence.store_read import StorePlace, StoreReader
    from podctl.prices.reprice import Book, Calls, Repricing
    from podctl.spec.prices import AgreedPrice, ComputeRates, Price, PriceLock, Prices

_LOCK = Path("prices.lock")
_WAYS = {"paid": "at these prices", "listed": "at list prices", "uncached": "without a cache", "batched": "in batches"}


class _Day(click.ParamType[Any]):
    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day: write it as 2026-12-31", param, ctx)


def _day_option(function: Any) -> Any:
    return click.option("--day", type=_Day(), help="Whose list prices.  [default: today]")(function)


@click.group("prices")
def prices_command() -> None:
    """Pin what models cost, show it, and compare it with today's list prices.

    \b
    podctl prices show gpt-5-mini claude-sonnet-4-5      list prices
    podctl prices lock prices.yaml                       pin them, with what you negotiated, in prices.lock
    podctl prices check                                  what changed since
    """


@prices_command.command("lock")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, metavar="NAME[=PROVIDER/MODEL]", help="One more, at its list price.")
@click.option("--run", help="And every model that a run called.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=_LOCK, show_default=True)
@_day_option
@store_option
def lock_command(
    file: Path | None, models: tuple[str, ...], run: str | None, out: Path, day: date | None, store: StorePlace
) -> int:
    """Pin prices in a file: list prices of a day, what was negotiated, and the version and digest of the list.

    \b
    podctl prices lock prices.yaml
    podctl prices lock --model gpt-5-mini --model my-deployment=azure/gpt-5
    podctl prices lock --run latest
    """
    from podctl.prices.lock import lock, write_lock

    more = dict(map(_wanted, models))
    if run:
        opened = open_store(store)
        for model in _called(opened, opened.find_run(run)):
            more.setdefault(*_wanted(model))
    prices = _prices(file)
    if not more and not prices.models:
        raise SpecError(
            "no model is named, and none was called",
            code="no-model",
            hint="podctl prices lock --model gpt-5-mini, or a Prices file",
        )
    locked = lock(prices, more, day or date.today())
    write_lock(out, locked)
    count = len(locked.models)
    click.echo(f"{count} {'model' if count == 1 else 'models'} at the prices of {locked.day}, in {out}")
    return 0


@prices_command.command("show")
@click.argument("names", nargs=-1, metavar="[LOCK|NAME[=PROVIDER/MODEL]]...")
@_day_option
@output_option("json")
def show_command(names: tuple[str, ...], day: date | None, output: str) -> int:
    """Show a lock's prices, or the list prices of models; dollars for a million tokens.

    \b
    podctl prices show prices.lock
    podctl prices show gpt-5-mini claude-sonnet-4-5
    """
    from podctl.prices.lock import lock

    given = names or (str(_LOCK),)
    if len(given) == 1 and Path(given[0]).is_file():
        shown = _lock_file(Path(given[0]))
    elif not names:
        raise SpecError(
            f"there is no {_LOCK} here", code="no-price-lock", hint="podctl prices show MODEL, or podctl prices lock"
        )
    else:
        shown = lock(_prices(None), dict(map(_wanted, given)), day or date.today())
    if output == "json":
        emit_json("PriceLock", [shown.model_dump(mode="json")])
        return 0
    rows = []
    for name, price in sorted(shown.models.items()):
        kinds = (
            ("list", price.list_price),
            ("agreed", price.agreed_price),
            ("batch", price.batch_list),
            ("batch agreed", price.batch_agreed),
        )
        for kind, found in kinds:
            if found is not None:
                rows.append((name, kind, *_cells(found), ""))
                rows += [(name, kind, *_cells(long), f"above {long.above:,} tokens of input") for long in found.long]
    table(("model", "price", "input", "cache read", "cache write", "1 h write", "output", "calls"), rows)
    pin = shown.genai_prices
    click.echo(f"list prices of {shown.day}: genai-prices {pin.version}, sha256:{pin.sha256[:16]}")
    return 0


@prices_command.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=_LOCK)
@output_option("json")
def check_command(file: Path, output: str) -> int:
    """Compare a lock with what the installed genai-prices lists today. Exits with 3 when something differs; changes nothing.

    \b
    podctl prices check
    """
    from podctl.prices.listed import installed_data
    from podctl.prices.lock import drift

    locked, data = _lock_file(file), installed_data()
    found = drift(locked, date.today())
    if output == "json":
        emit_json("PriceDrift", [{"model": one.model, "what": one.what} for one in found])
    else:
        for one in found:
            click.echo(f"{one.model}: {one.what or 'as locked'}")
        same = "the locked data" if data == locked.genai_prices else "other data than the locked"
        click.echo(f"genai-prices {data.version} is installed, {same} ({locked.genai_prices.version} of {locked.day})")
    return int(ExitCode.ENVIRONMENT) if any(one.what for one in found) else 0


@click.command("reprice")
@click.argument("run", default="latest")
@click.option(
    "--prices", "file", type=click.Path(path_type=Path), help="A Prices file or a lock.  [default: today's list prices]"
)
@click.option("--model", "models", multiple=True, metavar="OLD=NEW", help="What was said to OLD at the prices of NEW.")
@_day_option
@output_option("json")
@store_option
def reprice_command(
    run: str, file: Path | None, models: tuple[str, ...], day: date | None, output: str, store: StorePlace
) -> int:
    """What a run's tokens cost at other prices: negotiated, listed, without a cache, in batches. Calls no model, changes nothing.

    \b
    podctl reprice latest
    podctl reprice latest --prices prices.lock
    podctl reprice latest --model gpt-5=gpt-5-mini
    """
    from podctl.prices.reprice import reprice
    from podctl.reports.jsonreport import plain

    renamed = dict(map(_renaming, models))
    book, compute, source = _book(file, day or date.today())
    opened = open_store(store)
    head = opened.load_head(opened.find_run(run))
    run, calls = head.info.id, _calls(opened, head.info.id)
    if renamed:
        _refuse_uncalled(run, renamed, _called(opened, run))
    try:
        found = reprice(opened.each_attempt(run), book, renamed, calls, compute)
    except LookupError as error:
        raise _no_price(error, source) from error
    notes = [*found.notes, *_notes(head, found, renamed)]
    if output == "json":
        emit_json("Repricing", [plain(found) | {"run": run, "prices": source, "notes": notes}])
        return 0
    _print(head.info, found, source)
    for note in notes:
        click.echo(f"note: {note}")
    return 0


def _print(info: RunInfo, found: Repricing, source: str) -> None:
    from podctl.evidence.records import TOKEN_KINDS
    from podctl.prices.reprice import WAYS
    from podctl.stats.units import dollars, plural, seconds

    simulated = ", simulated figures of a scripted model" if found.simulated else ""
    agent = f"{info.agent_name} {info.agent_version}"
    click.echo(f"run {info.id}: {agent}, {plural(found.attempts, 'attempt')} on {plural(found.tickets, 'ticket')}{simulated}")
    click.echo(f"prices: {source}")
    click.echo()
    rows = []
    for model in found.models:
        name = model.model if model.model == model.priced_as else f"{model.model} as {model.priced_as}"
        counts = [f"{getattr(model.tokens, kind):,}" for kind in TOKEN_KINDS]
        calls = f"{model.calls:,}" + (f" ({model.untold:,} untold)" if model.untold else "")
        rows.append((name, calls, *counts, dollars(model.before), dollars(model.dollars["paid"])))
    if rows:
        table(("model", "calls", *(kind.replace("_", " ") for kind in TOKEN_KINDS), "as run", "repriced"), rows)
    else:
        click.echo("no model was called")
    click.echo()
    rows = [("as the run paid it", dollars(found.before), _each(found.before, found.attempts), "")]
    for way in WAYS:
        why = found.unknown.get(way, "")
        at_least = f"; known calls come to {dollars(found.known[way])}" if why and found.known[way] else ""
        rows.append((_WAYS[way], dollars(found.total[way]), _each(found.total[way], found.attempts), why + at_least))
    if found.pods is not None:
        hours = f"{seconds(float(found.pod_hours) * 3600)} of pods, at what each requests or uses, whichever is more"
        rows.append(("pods", dollars(found.pods), _each(found.pods, found.attempts), hours))
    table(("", "dollars", "an attempt", ""), rows)


def _each(amount: Decimal | None, attempts: int) -> str:
    from podctl.stats.units import dollars

    return dollars(None if amount is None or not attempts else amount / attempts)


def _notes(head: RunResult, found: Repricing, renamed: dict[str, str]) -> list[str]:
    from podctl.stats.units import dollars, plural

    notes = []
    if renamed:
        notes.append("another model would use other tokens and resolve other tickets: this is what the same tokens would cost")
    if found.again:
        spent = f"the run spent {dollars(head.spent_dollars)} on all"
        notes.append(f"{plural(found.again, 'attempt')} took several tries: the last alone is priced; {spent}")
    if head.status != "finished":
        notes.append(f"the run is {head.status}: attempts that have not ended are not in it")
    return notes


def _cells(price: Price) -> list[str]:
    """As `show_command` has its columns; what nothing is said of costs what it says it costs."""
    kinds = (price.input, price.cache_read, price.cache_write, price.cache_write_hour, price.output)
    return ["-" if amount is None else f"{amount.normalize():f}" for amount in kinds]


def _wanted(given: str) -> tuple[str, AgreedPrice]:
    """NAME, or NAME=PROVIDER/MODEL."""
    from podctl.spec.prices import AgreedPrice

    name, _, listed = given.partition("=")
    if not name or ("=" in given and not all(listed.partition("/"))):
        raise SpecError(
            f"{given!r} is not NAME or NAME=PROVIDER/MODEL", code="usage", hint="--model my-model=openai/gpt-5-mini"
        )
    return name, AgreedPrice(listed=listed or None)


def _renaming(given: str) -> tuple[str, str]:
    old, _, new = given.partition("=")
    if not old or not new:
        raise SpecError(f"{given!r} is not OLD=NEW", code="usage", hint="--model gpt-5=gpt-5-mini")
    return old, new


def _prices(file: Path | None) -> Prices:
    from podctl.spec.load import load_model
    from podctl.spec.prices import Prices

    return Prices(apiVersion="podctl/v1", kind="Prices") if file is None else load_model(file, Prices)


def _lock_file(file: Path) -> PriceLock:
    from podctl.spec.load import load_model
    from podctl.spec.prices import PriceLock

    return load_model(file, PriceLock)


def _called(opened: StoreReader, run: str) -> list[str]:
    """The models that a run called."""
    from podctl.prices.reprice import uses_of_attempt

    calls = _calls(opened, run)
    return sorted({use.model for attempt in opened.each_attempt(run) for use in uses_of_attempt(attempt, calls)})


def _refuse_uncalled(run: str, renamed: dict[str, str], called: list[str]) -> None:
    for name in sorted(set(renamed) - set(called)):
        hint = f"it called: {', '.join(called)}" if called else "it called no model"
        raise SpecError(
            f"run {run} called no model {name!r}", code="model-not-called", unchanged="nothing was computed", hint=hint
        )


def _calls(opened: StoreReader, run: str) -> Calls:
    from podctl.evidence.reading import read_attempt
    from podctl.evidence.usage import uses_of

    return lambda attempt: uses_of(read_attempt(opened.evidence_directory(run, attempt.id)))


class AtPrices:
    """A run's attempts at the prices of a file, and what prices those are. Raises `SpecError`."""

    def __init__(self, opened: StoreReader, run: str, file: Path) -> None:
        self._book, self._compute, self.source = _book(file, date.today())
        self._opened, self._run, self._calls = opened, run, _calls(opened, run)
        self._pods, self._hours = Decimal(0), 0.0

    def attempts(self) -> Iterator[AttemptResult]:
        """One at a time."""
        from podctl.prices.money import dollars_of_pod
        from podctl.prices.reprice import repriced

        for attempt in self._opened.each_attempt(self._run):
            if self._compute is not None and attempt.cause.counts:
                self._pods += dollars_of_pod(self._compute, attempt.wall_s, attempt.cpu_s, attempt.max_rss)
                self._hours += attempt.wall_s / 3600
            try:
                yield repriced(attempt, self._book, {}, self._calls)
            except LookupError as error:
                raise _no_price(error, self.source) from error

    @property
    def pod_hour(self) -> float | None:
        """Dollars of an hour of a pod in the attempts so far that count, at what it requests or the agent used; None without rates."""
        return float(self._pods) / self._hours if self._hours else None


def _no_price(error: LookupError, source: str) -> SpecError:
    return SpecError(
        f"nobody knows the price of {error.args[0]}",
        code="price-unknown",
        cause=f"looked for in {source}",
        unchanged="nothing was computed",
        hint="write what it costs into a Prices file, and name it with --prices (docs/prices.md)",
    )


def _book(file: Path | None, day: date) -> tuple[Book, ComputeRates | None, str]:
    """Prices, what pods cost, and where that is from."""
    from podctl.prices.listed import installed_data
    from podctl.prices.lock import check_not_ended, listed_book, lock, locked_book
    from podctl.spec.source import read

    if file is None:
        return listed_book(day), None, f"list prices of {day}, genai-prices {installed_data().version}"
    pinned = read(file).root.text("kind", "") == "PriceLock"
    given = _lock_file(file) if pinned else lock(_prices(file), {}, day)
    check_not_ended(given, day)
    return locked_book(given), given.compute, f"{file}, {given.day}"

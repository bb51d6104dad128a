"""What a run is doing now: a live display on a terminal, one plain line every few seconds elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from podctl.clock import Clock, SystemClock
from podctl.reports.text import encodable, visible
from podctl.stats.units import dollars, plural, seconds

_SHOWN = 8


@dataclass(frozen=True)
class Running:
    pod: str
    ticket: str
    seconds: float


@dataclass(frozen=True)
class ProgressEvent:
    """The whole state at one moment; ``spent`` None is unknown, ``eta`` None not yet known, in seconds."""

    pods_ready: int
    pods: int
    attempts_done: int
    attempts_total: int
    passed: int
    spent: Decimal | None
    budget: Decimal | None
    eta: float | None = None
    running: tuple[Running, ...] = ()


class Progress:
    """A context manager around a run; ``update`` may be called as often as events come, from one thread."""

    def __init__(self, stream: TextIO, clock: Clock | None = None, *, every_s: float = 5.0, live: bool | None = None) -> None:
        """``live`` defaults to whether the stream is a terminal that can show it."""
        self._stream = stream
        self._clock = clock or SystemClock()
        self._every_s = every_s
        self._next = 0.0
        self._last = ""
        self._encoding = getattr(stream, "encoding", None)
        self._console = Console(file=stream, force_terminal=True if live else None, highlight=False, emoji=False, markup=False)
        can_move_cursor = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True)
            if (can_move_cursor if live is None else live)
            else None
        )

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, event: ProgressEvent) -> None:
        if self._live is not None:
            self._live.update(self._display(event), refresh=True)
            return
        now = self._clock.monotonic()
        finished = event.attempts_done == event.attempts_total
        line = plain_line(event)
        if line != self._last and (now >= self._next or finished):
            self._next, self._last = now + self._every_s, line
            self.message(line)

    def message(self, text: str) -> None:
        """A line that stays: above the live display, or in the log."""
        shown = encodable(visible(text, 2000, keep="\n"), self._encoding)
        if self._live is not None:
            self._console.print(Text(shown), soft_wrap=True)
        else:
            self._stream.write(shown + "\n")
            self._stream.flush()

    def _display(self, event: ProgressEvent) -> Group:
        bar = ProgressBar(total=max(1, event.attempts_total), completed=event.attempts_done, width=40)
        rows = Table.grid(padding=(0, 2))
        for item in sorted(event.running, key=lambda r: -r.seconds)[:_SHOWN]:
            cells = (visible(item.pod, 20), visible(item.ticket, 40), seconds(item.seconds))
            rows.add_row(*(Text(encodable(cell, self._encoding), overflow="fold") for cell in cells))
        parts: list[RenderableType] = [Text(encodable(plain_line(event), self._encoding)), bar, rows]
        if len(event.running) > _SHOWN:
            parts.append(Text(f"and {len(event.running) - _SHOWN} more"))
        return Group(*parts)


def plain_line(event: ProgressEvent) -> str:
    """``attempts 12/48, 11 passed, pods 2/2, spent $0.31 of $25.00, about 2 min 10 s left``."""
    spent = dollars(event.spent) + ("" if event.budget is None else f" of {dollars(event.budget)}")
    parts = [
        f"attempts {event.attempts_done}/{event.attempts_total}",
        f"{event.passed} passed",
        f"pods {event.pods_ready}/{event.pods}",
        f"spent {spent}",
    ]
    if event.running:
        longest = max(event.running, key=lambda r: r.seconds)
        parts.append(
            f"{plural(len(event.running), 'ticket')} in work, the longest {visible(longest.ticket, 40)} for {seconds(longest.seconds)}"
        )
    if event.eta is not None:
        parts.append(f"about {seconds(event.eta)} left")
    return ", ".join(parts)

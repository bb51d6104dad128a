"""Numbers as people read them. Rounding never turns a share into 0 % or 100 %, or an unknown cost into zero."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podctl.stats.proportions import Interval


def percent(share: float, decimals: int = 1) -> str:
    """``0.9166`` as ``91.7 %``; 99.97 % stays below 100 and 0.03 % above 0."""
    value = share * 100
    shown = round(value, decimals)
    least = 10**-decimals
    if shown >= 100 > value:
        return f"> {100 - least:.{decimals}f} %"
    if shown <= 0 < value:
        return f"< {least:.{decimals}f} %"
    if shown == int(shown):
        return f"{int(shown)} %"
    return f"{shown:.{decimals}f} %"


def interval_text(interval: Interval) -> str:
    """``65–99 %``; one decimal when the interval is narrower than ten points."""
    decimals = 0 if interval.high - interval.low >= 0.1 else 1
    return f"{interval.low * 100:.{decimals}f}–{interval.high * 100:.{decimals}f} %"


def dollars(amount: Decimal | None) -> str:
    """Cents from a dollar up, three significant digits below it; ``None`` is unknown."""
    if amount is None:
        return "unknown"
    if amount == 0:
        return "$0"
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    if size >= 1:
        return f"{sign}${size:,.2f}"
    decimals = min(8, 2 - size.adjusted())
    text = f"{size:.{decimals}f}"
    while text.endswith("0") and len(text) > 4:
        text = text[:-1]
    return f"{sign}${text}" if Decimal(text) else f"{sign}< $0.00000001"


def seconds(value: float) -> str:
    """``420 ms``, ``12.3 s``, ``4 min 05 s``, ``2 h 07 min``."""
    if not math.isfinite(value) or value < 0:
        return "unknown"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def points(change: float, *, signed: bool = True) -> str:
    """A difference of shares: ``−4.4 points``."""
    value = round(change * 100, 1) + 0.0
    sign = "+" if signed else ""
    return f"{value:{sign}.{0 if value == int(value) else 1}f} points".replace("-", "−").replace("+0 ", "0 ")

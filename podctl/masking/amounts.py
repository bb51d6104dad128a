"""Dates moved by days, and numbers by buckets."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal, InvalidOperation

from podctl.masking.prf import Keyed

#: Dates move by 1 to this many days, back or forth: two years.
FURTHEST_SHIFT = 730

_DATE = re.compile(r"(\d{4,})-(\d\d)-(\d\d)(.*?)( BC)?", re.DOTALL)
_ENDLESS = frozenset(("infinity", "-infinity", "nan"))


def shift_of(keyed: Keyed, subject: bytes) -> int:
    """Days that every date of a subject moves by; never 0."""
    days = keyed.number(subject) % (2 * FURTHEST_SHIFT)
    return days - FURTHEST_SHIFT if days < FURTHEST_SHIFT else days - FURTHEST_SHIFT + 1


def shifted(text: str, days: int) -> str | None:
    """A date or timestamp in ISO format so many days away, its time of day as it was; None for what is none."""
    if text.lower() in _ENDLESS:
        return text
    match = _DATE.fullmatch(text)
    if match is None or not (1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31):
        return None
    year = 1 - int(match[1]) if match[5] else int(match[1])
    year, month, day = _civil(_day_number(year, int(match[2]), int(match[3])) + days)
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04d}-{month:02d}-{day:02d}{match[4]}{era}"


def _day_number(year: int, month: int, day: int) -> int:
    """Days since 1 March of year 0 in the Gregorian calendar, before its time too, as in PostgreSQL.

    Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms (days_from_civil, civil_from_days).
    """
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year


def _civil(number: int) -> tuple[int, int, int]:
    era, of_era = divmod(number, 146097)
    years = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted_month = (5 * of_year + 2) // 153
    month = shifted_month + (3 if shifted_month < 10 else -9)
    return years + era * 400 + (month <= 2), month, of_year - (153 * shifted_month + 2) // 5 + 1


def bucketed(keyed: Keyed, width: Decimal | None, most: int | None) -> Callable[[str], str | None]:
    """What gives all numbers of a bucket one number of it, chosen by the key, with as many decimals.

    A bucket without a ``width`` is a tenth of the number's power of ten wide, and 10 at the least where no decimals
    are given. Zero and NaN stay; ``most`` bounds the result.
    """

    def masked(text: str) -> str | None:
        try:
            value = Decimal(text)
        except InvalidOperation:
            return None
        if not value.is_finite() or value.is_zero():
            return text
        exponent = value.as_tuple().exponent
        places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
        step = Decimal(1).scaleb(-places)
        wide = width if width is not None else max(Decimal(1).scaleb(value.adjusted() - 1), step * 10)
        low = (abs(value) / wide).to_integral_value(ROUND_FLOOR) * wide
        count = max(int(wide / step), 1)
        new = low + step * (keyed.number(f"{low.normalize()} {count}".encode()) % count)
        new = new if most is None else min(new, Decimal(most))
        return format(new.copy_sign(value).quantize(step), "f")

    return masked

"""Raw values that a scan can look for: a bounded sample of what was masked, in the forms that files have them in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from podctl.masking.copytext import escape
from podctl.masking.prf import normalised
from podctl.masking.values import ValueMasks
from podctl.masking.watch import Watch
from podctl.masking.words import CITIES, FIRST_NAMES, LAST_NAMES, PARTICLES, STREETS, TITLES, TRADES

#: Bytes that a canary needs; shorter ones are in any file by chance.
SHORTEST = 8
#: An id is the mask of another with probability rows / 2^this.
_BITS = 48
#: Canaries in all, at most.
MOST = 20_000
#: Masks whose values other values' masks have by chance: permutations, buckets, shifts; or that say nothing of anybody.
_NOT_SEARCHED = {
    "date": "another date's mask may be the same",
    "number": "another number's mask may be the same",
    "constant": "may be an ordinary word",
    "erase": "may be an ordinary word",
    "first-name": "may be an ordinary word",
    "last-name": "may be an ordinary word",
    "city": "may be an ordinary word",
}
_OURS = frozenset(word.lower() for word in (*FIRST_NAMES, *LAST_NAMES, *CITIES, *STREETS, *TRADES, *PARTICLES, *TITLES))


@dataclass(frozen=True)
class Canary:
    """``where`` it was masked, by which ``mask``; ``number`` tells it in messages. The value is never shown."""

    number: int
    where: str
    mask: str
    forms: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Canary({self.number}, {self.where}, {self.mask})"


@dataclass(frozen=True)
class Canaries:
    """``searched`` and ``left_out``: mask -> values; ``why``: mask -> why values of it are left out."""

    values: tuple[Canary, ...]
    searched: dict[str, int]
    left_out: dict[str, int]
    why: dict[str, str]


def canaries(watch: Watch, masks: ValueMasks) -> Canaries:
    """What of the watched values can be looked for.

    Left out are values that are short, digits with fewer than 12 of them, made of words that masks are made of, or masks
    of other watched values.
    """
    drawn = [(where, mask, value.strip()) for where, mask, sample in watch.samples() for value in sample]
    made = {masked.lower() for _, mask, value in drawn if (masked := _mask(masks, mask, value))}
    values: list[Canary] = []
    searched: dict[str, int] = {}
    left_out: dict[str, int] = {}
    why: dict[str, str] = {}
    seen = set()
    for where, mask, value in drawn:
        if normalised(value) in seen:
            continue
        seen.add(normalised(value))
        reason = _NOT_SEARCHED.get(mask) or _unfit(mask, value, made)
        if not reason and len(values) >= MOST:
            reason = f"there were {MOST:,} already"
        if reason:
            left_out[mask] = left_out.get(mask, 0) + 1
            why.setdefault(mask, reason)
        else:
            searched[mask] = searched.get(mask, 0) + 1
            values.append(Canary(len(values) + 1, where, mask, forms(value)))
    return Canaries(tuple(values), searched, left_out, why)


def _mask(masks: ValueMasks, mask: str, value: str) -> str | None:
    try:
        return masks.simple(mask)(value)
    except KeyError:
        return None


def _unfit(mask: str, value: str, made: set[str]) -> str:
    """Why a value says nothing when it is found; nothing when it does."""
    signs = re.sub(r"\W", "", value)
    words = re.findall(r"[^\W\d_]+", value.lower())
    if len(value.encode()) < SHORTEST:
        return f"shorter than {SHORTEST} bytes"
    if value.isdecimal() and len(value) < 12:
        return "fewer than 12 digits"
    if (
        value.lower() in made
        or (mask == "phone" and re.search(r"55501\d\d$|^0*000", signs))
        or (mask == "card" and signs[:4] == "9999")
    ):
        return "may be the mask of another value"
    if mask in ("id", "iban") and sum(3.3 if sign.isdecimal() else 4.7 for sign in signs) < _BITS:
        return "may be the mask of another value of its shape"
    if mask == "username" and value.isalpha():
        return "may be an ordinary word"
    if words and all(word in _OURS or len(word) < 3 for word in words) and not re.search(r"\d{4}|@", value):
        return "made of the words that masks are made of"
    return ""


def forms(value: str) -> tuple[bytes, ...]:
    """As it is in UTF-8 and UTF-16, as COPY escapes it, as JSON does (with and without \\u, and within COPY); lower case."""
    texts = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    found = {text.encode(errors="surrogatepass") for text in texts}
    found |= {escape(form) for form in found}
    found |= {value.encode("utf-16-le", errors="surrogatepass"), value.encode("utf-16-be", errors="surrogatepass")}
    return tuple(sorted({form.lower() for form in found}))

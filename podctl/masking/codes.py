"""Values whose digits and letters have a shape that programs check: ids, telephone numbers, cards, IBANs, addresses of machines."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from operator import itemgetter
from struct import Struct
from typing import Any

import numpy as np

from podctl.masking.prf import Keyed, normalised

#: Whole numbers are permuted within these bounds, so that what fits its type, JSON (2^53) and a sequence still does.
_EDGES = (1, 2**15, 10**7, 10**9, 2**31, 2**53, 2**63)

_UUID = re.compile(
    r"(\{?)([0-9a-fA-F]{8})-?([0-9a-fA-F]{4})-?([0-9a-fA-F])([0-9a-fA-F]{3})-?([0-9a-fA-F])([0-9a-fA-F]{3})-?([0-9a-fA-F]{12})(\}?)"
)
_INTEGER = re.compile(r"([-+]?)([1-9][0-9]*)")
_DIGITS = "0123456789"
#: A byte to one of 32 signs that are not mistaken for one another, each for eight bytes.
TO_BASE32 = b"abcdefghijkmnpqrstuvwxyz23456789" * 8


def token(keyed: Keyed, text: str) -> str:
    """13 characters, 65 bits: two of n values share one with probability n²/2^66."""
    return keyed.digest(normalised(text))[:13].translate(TO_BASE32).decode()


class Ids:
    """Ids to ids of the same shape, one to one: numbers within bounds, UUIDs, digits to digits and letters to letters."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = Keyed(secret, "id")

    def __call__(self, text: str) -> str:
        """Spaces and signs stay where they are."""
        bare = text.strip()
        match = _INTEGER.fullmatch(bare)
        if match is not None:
            return text.replace(bare, match[1] + str(self.integer(int(match[2]))))
        match = _UUID.fullmatch(bare)
        if match is not None:
            return text.replace(bare, self._uuid(bare))
        return shaped(self._keyed, text)

    def integer(self, number: int) -> int:
        """A number from 1 on to another within the same of `_EDGES`."""
        at = bisect_right(_EDGES, number)
        if at < len(_EDGES):
            low, high = _EDGES[at - 1], _EDGES[at]
        else:  # beyond 64 bits: of as many digits
            digits = len(str(number))
            low, high = max(10 ** (digits - 1), _EDGES[-1]), 10**digits
        return low + self._keyed.permuted(number - low, high - low)

    def integers(self, numbers: list[int]) -> list[int]:
        """As `integer`, for many at once, all from 1 to 2^63 - 1."""
        given = np.array(numbers, np.uint64)
        edges = np.array(_EDGES, np.uint64)
        tiers = np.searchsorted(edges, given, side="right")
        found = np.empty_like(given)
        for tier in np.unique(tiers):
            low, high = _EDGES[tier - 1], _EDGES[tier]
            there = tiers == tier
            found[there] = self._keyed.permuted_all(given[there] - np.uint64(low), high - low) + np.uint64(low)
        result: list[int] = found.tolist()
        return result

    def _uuid(self, bare: str) -> str:
        """Version and variant stay; the other 120 bits are permuted."""
        digits = re.sub("[^0-9a-fA-F]", "", bare)
        free = digits[:12] + digits[13:16] + digits[17:]
        masked = f"{self._keyed.permuted(int(free, 16), 16**30):030x}"
        new = masked[:12] + digits[12] + masked[12:15] + digits[16] + masked[15:]
        spelled = iter(new.lower() if bare.islower() or bare.upper() == bare.lower() else new.upper())
        return "".join(next(spelled) if was.isalnum() else was for was in bare)


def _cased(character: str, like: str) -> str:
    return character.upper() if like.isupper() else character


def shaped(keyed: Keyed, text: str) -> str:
    """Digits to digits, letters to letters of the same case, one to one among texts of the same shape; the rest stays.

    A first digit 0 stays one, and another stays other: no number is mistaken for one with leading zeros. Text with letters
    or digits beyond ASCII becomes a token.
    """
    if not text.isascii() and any(character.isalnum() and not character.isascii() for character in text):
        return token(keyed, text)
    number, size = 0, 1
    places: list[tuple[str, int, int]] = []
    for character in text:
        if "0" <= character <= "9":
            leads = not places
            value, radix, low = (0, 1, 0) if leads and character == "0" else (int(character) - leads, 10 - leads, int(leads))
        elif character.isascii() and character.isalpha():
            value, radix, low = ord(character.lower()) - ord("a"), 26, 0
        else:
            places.append((character, 0, 0))
            continue
        number, size = number * radix + value, size * radix
        places.append((character, radix, low))
    if size == 1:
        return text
    number = keyed.permuted(number, size)
    spelled = []
    for character, radix, low in reversed(places):
        if radix == 0:
            spelled.append(character)
            continue
        number, value = divmod(number, radix)
        spelled.append(_DIGITS[value + low] if character in _DIGITS else _cased(chr(ord("a") + value), character))
    return "".join(reversed(spelled))


# ---- telephone numbers ---------------------------------------------------------------


#: Country code -> national numbers that no subscriber has, ``x`` being any digit. Sources: ATIS-0300115 (555-0100 to 555-0199 of
#: every North American area); Ofcom, Telephone numbers for use in TV and radio drama; ARCEP decision 2022-1583, 2.5.12;
#: Bundesnetzagentur, Mitteilung 148/2021; ACMA, Numbers for use in creative works.
_RESERVED: dict[str, tuple[str, ...]] = {
    "44": ("7700900xxx", "1632960xxx", "2079460xxx", "1134960xxx", "1214960xxx", "1614960xxx"),
    "33": ("63998xxxx", "19900xxxx", "26191xxxx", "35301xxxx", "46571xxxx", "53649xxxx"),
    "49": ("3023125xxx", "6990009xxx", "4066969xxx", "8999998xxx", "2214710xxx", "17139200xx", "176040690xx"),
    "61": tuple(f"{area}{exchange}xxxx" for area in "2378" for exchange in ("5550", "7010")),
}
#: Country codes of two digits; one of another first digit has three (ITU-T E.164, list of assigned codes).
_TWO_DIGITS = re.compile("20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")


class Phones:
    def __init__(self, secret: bytes) -> None:
        self._keyed = Keyed(secret, "phone")
        self._plans: dict[tuple[bytes, bytes], _Plan] = {}

    def __call__(self, text: str) -> str:
        """A number of as many digits, written alike, that nobody has: of a reserved range, else one that starts with 000.

        The country's code stays. A North American number gives the same digits with and without it.
        """
        if not text.isascii():
            text = "".join(str(int(sign)) if sign.isdecimal() else sign for sign in text if sign.isascii() or sign.isdecimal())
        return self.many([text.encode()])[0].decode()

    def many(self, texts: Iterable[bytes]) -> list[bytes]:
        """The same for many at once, all of ASCII."""
        plans, subscribers = [], []
        for text in texts:
            digits = text.translate(None, _NO_DIGITS)
            # The first digits say the country and the kind of number.
            key = text.translate(_TO_ZERO), digits[:7]
            plan = self._plans.get(key)
            if plan is None:
                if len(self._plans) >= 1 << 16:
                    self._plans.clear()
                plan = self._plans[key] = _plan(text.decode(), digits.decode())
            plans.append(plan)
            subscribers.append(digits[plan.known :][-9:] if digits else text.strip().lower())
        found = []
        for plan, number in zip(plans, self._keyed.numbers(subscribers), strict=True):
            number, at = divmod(number, len(plan.ranges))
            least, size = plan.ranges[at]
            found.append(plan.written(least + number % size))
        return found


@dataclass(frozen=True, slots=True)
class _Plan:
    """``known`` first digits stay; what follows comes out of one of the ``ranges`` (least number, how many), ``written`` with them."""

    known: int
    ranges: tuple[tuple[int, int], ...]
    written: Callable[[int], bytes]


def _plan(text: str, digits: str) -> _Plan:
    if not digits:
        return _Plan(0, ((0, 10**4),), b"000%04d".__mod__)
    known, length, ranges = _ranges(text, digits)
    form = _shape(text.encode().translate(_TO_ZERO))
    kept = digits[:known].encode()
    if form.form.count(b"%b") == 1:
        return _Plan(known, ranges, form.form.replace(b"%b", kept + b"%%0%dd" % length).__mod__)
    return _Plan(known, ranges, lambda number: form.form % form.parted(kept + b"%0*d" % (length, number)))


def _ranges(text: str, digits: str) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """How many first digits stay, how many follow, and the ranges that those come out of."""
    trunk = 2 if digits.startswith("00") else 0
    if trunk or text.lstrip().startswith("+"):
        code = _country(digits[trunk:])
    elif _NORTH_AMERICAN.fullmatch(digits):
        code, trunk = "1", len(digits) - 11
    else:
        code, trunk = "", 0
    known = trunk + len(code)
    if len(digits) - known < 4:  # no number behind the country's code
        code, known = "", 0
    length = len(digits) - known
    if code == "1" and length == 10:
        return known, length, _AREAS
    patterns = [pattern for pattern in _RESERVED.get(code, ()) if len(pattern) == length]
    patterns = [pattern for pattern in patterns if pattern[0] == digits[known]] or patterns
    ranges = tuple((int(pattern.replace("x", "0")), 10 ** pattern.count("x")) for pattern in patterns)
    # No national number starts with three zeros; short ones (extensions) may.
    return known, length, ranges or ((0, 10 ** (length - 3 if length >= 7 else length)),)


def _country(digits: str) -> str:
    return digits[:1] if digits[:1] in ("1", "7") else digits[:2] if _TWO_DIGITS.match(digits) else digits[:3]


_NORTH_AMERICAN = re.compile("1?[2-9][0-9]{2}[2-9][0-9]{6}")
#: What can be an area code: no 9 in the middle, no 11 at the end (ATIS-0300055); then the lines for fiction.
_AREAS = tuple((area * 10**7 + 5550100, 100) for area in range(200, 1000) if area // 10 % 10 != 9 and area % 100 != 11)


def _any(number: int, length: int) -> str:
    return f"{number % 10**length:0{length}d}" if length else ""


_TO_ZERO = bytes(48 if 48 <= byte < 58 else byte for byte in range(256))
_NO_DIGITS = bytes(byte for byte in range(256) if not 48 <= byte < 58)


def _digits(text: str) -> str:
    if text.isascii():
        return "".join(_shape(text.encode().translate(_TO_ZERO)).runs(text))
    return "".join(str(int(character)) for character in text if character.isdecimal())


def _filled(text: str, digits: str) -> str:
    """Digits put in for the digits of ``text``; signs between them stay, and letters go."""
    if text.isascii():
        shape = _shape(text.encode().translate(_TO_ZERO))
        return (shape.form % shape.parted(digits.encode())).decode()
    new = iter(digits)
    return "".join(next(new) if character.isdecimal() else character for character in text if not character.isalpha())


@dataclass(frozen=True)
class _Shape:
    """What text with digits at certain places has in common: taking the runs of digits out, and putting others in."""

    runs: Callable[[Any], tuple[Any, ...]]
    form: bytes
    parted: Callable[[bytes], tuple[bytes, ...]]


@lru_cache(4096)
def _shape(shape: bytes) -> _Shape:
    """``shape`` has 0 for every digit."""
    found = [slice(*run.span()) for run in re.finditer(b"0+", shape)]
    kept = bytes(byte for byte in shape if not chr(byte).isalpha())
    form = re.sub(b"0+", b"%b", kept.replace(b"%", b"%%")) if len(found) == len(re.findall(b"0+", kept)) else b"%b" * len(found)
    runs = itemgetter(*found) if len(found) > 1 else lambda text: tuple(text[run] for run in found)
    return _Shape(runs, form, Struct("".join(f"{run.stop - run.start}s" for run in found)).unpack)


# ---- cards, IBANs, addresses ---------------------------------------------------------


def luhn(digits: str) -> int:
    """The check digit that belongs behind ``digits`` (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return -total % 10


def is_card(digits: str) -> bool:
    return 12 <= len(digits) <= 19 and luhn(digits[:-1]) == int(digits[-1])


class Cards:
    def __init__(self, secret: bytes) -> None:
        self._keyed = Keyed(secret, "card")

    def __call__(self, text: str) -> str:
        """A number that passes Luhn's check and starts with 9999, which no issuer has; a part of one: other digits."""
        digits = _digits(text)
        number = self._keyed.number(digits.encode() or normalised(text))
        if not 12 <= len(digits) <= 19:
            return _filled(text, _any(number, len(digits))) or _any(number, 4)
        body = "9999" + f"{number % 10 ** (len(digits) - 5):0{len(digits) - 5}d}"
        return _filled(text, body + str(luhn(body)))


_IBAN = re.compile(r"([A-Z]{2})[0-9]{2}([A-Z0-9]{8,30})")


def iban_check(country: str, account: str) -> str:
    """The two check digits (ISO 13616-1, ISO/IEC 7064 MOD 97-10)."""
    return f"{98 - int(''.join(str(int(character, 36)) for character in account + country + '00')) % 97:02d}"


def is_iban(text: str) -> bool:
    match = _IBAN.fullmatch("".join(text.split()).upper())
    return match is not None and iban_check(match[1], match[2]) == "".join(text.split())[2:4]


class Ibans:
    def __init__(self, secret: bytes) -> None:
        self._keyed = Keyed(secret, "iban")

    def __call__(self, text: str) -> str:
        """Country, length and checksum stay; the account is permuted within its shape. What is no IBAN keeps its shape."""
        match = _IBAN.fullmatch("".join(text.split()).upper()) if text.isascii() else None
        if match is None:
            return shaped(self._keyed, text)
        account = shaped(self._keyed, match[2])
        letters = iter(match[1] + iban_check(match[1], account) + account)
        spelled = (was if was.isspace() else next(letters) for was in text)
        return "".join(new.lower() if was.islower() else new for was, new in zip(text, spelled, strict=True))


_ADDRESS = re.compile(r"([0-9A-Fa-f:.]+)(/[0-9]{1,3})?")


class Addresses:
    def __init__(self, secret: bytes) -> None:
        self._keyed = Keyed(secret, "ip")

    def __call__(self, text: str) -> str:
        """An address nobody has: 198.18.0.0/15 (RFC 2544) or 2001:db8::/32 (RFC 3849); a mask behind it stays."""
        match = _ADDRESS.fullmatch(text.strip())
        number = self._keyed.number(normalised(match[1] if match else text))
        behind = (match[2] if match else "") or ""
        if match is not None and ":" in match[1]:
            return str(IPv6Address(b"\x20\x01\x0d\xb8" + self._keyed.digest(normalised(match[1]))[:12])) + behind
        return str(IPv4Address((198 << 24 | 18 << 16) + number % 2**17)) + behind

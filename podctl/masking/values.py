"""A value of a class to its mask: deterministic, of the same shape, the same for the same value wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from podctl.masking.amounts import bucketed, shift_of, shifted
from podctl.masking.codes import Addresses, Cards, Ibans, Ids, Phones, token
from podctl.masking.people import Names
from podctl.masking.prf import Keyed, normalised
from podctl.masking.words import CITIES, LAST_NAMES, STREETS, TRADES
from podctl.spec.masking import ColumnRule

#: Text in, masked text out; None for null.
ValueMask = Callable[[str], str | None]

#: Masks that are 65 bits of the value between two pieces of text.
TOKENS = {
    "email": ("", "@example.com"),
    "username": ("u", ""),
    "url": ("https://example.com/", ""),
    "token": ("masked-", ""),
}
#: Masks whose length no value changes -> characters.
LENGTHS = {"email": 25, "username": 14, "url": 33, "token": 20, "ip": 15}
#: Masks that give different values different masks (in 65 bits, or one to one); two spellings of one value share theirs.
INJECTIVE = frozenset(("keep", "id", "email", "username", "url", "token", "iban", "text"))


class ValueMasks:
    """The masks of one key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._made: dict[str, ValueMask] = {}

    def simple(self, mask: str) -> ValueMask:
        """The mask of a class that needs nothing but the value. Raises KeyError for another."""
        if mask not in self._made:
            self._made[mask] = self._maker(mask)()
        return self._made[mask]

    def _maker(self, mask: str) -> Callable[[], ValueMask]:
        makers: dict[str, Callable[[], ValueMask]] = {
            "keep": lambda: lambda text: text,
            "erase": lambda: lambda text: None,
            "id": lambda: self.ids,
            "name": lambda: self.names.full,
            "first-name": lambda: self.names.first,
            "last-name": lambda: self.names.last,
            "phone": lambda: self.phones,
            "card": lambda: Cards(self._secret),
            "iban": lambda: Ibans(self._secret),
            "ip": lambda: Addresses(self._secret),
            "address": lambda: self._address,
            "city": lambda: self._chosen("city", CITIES),
            "company": lambda: self._company,
        }
        return (lambda: self._token(mask)) if mask in TOKENS else makers[mask]

    def keyed(self, kind: str) -> Keyed:
        return Keyed(self._secret, kind)

    @cached_property
    def ids(self) -> Ids:
        return Ids(self._secret)

    @cached_property
    def phones(self) -> Phones:
        return Phones(self._secret)

    @cached_property
    def names(self) -> Names:
        return Names(self._secret)

    def date(self, text: str, subject: bytes) -> str | None:
        """Shifted by the days of its subject; None for what is no date."""
        return shifted(text, shift_of(self._dates, subject))

    def number(self, rule: ColumnRule, most: int | None = None) -> ValueMask:
        return bucketed(Keyed(self._secret, "number"), rule.bucket, most)

    def secret_bytes(self, text: str) -> str:
        """bytea, as PostgreSQL writes it."""
        return "\\x" + Keyed(self._secret, "token").digest(text.encode()).hex()

    @cached_property
    def _addresses(self) -> Keyed:
        return Keyed(self._secret, "address")

    @cached_property
    def _companies(self) -> Keyed:
        return Keyed(self._secret, "company")

    @cached_property
    def _dates(self) -> Keyed:
        return Keyed(self._secret, "date")

    def _token(self, mask: str) -> ValueMask:
        keyed, (before, after) = self.keyed(mask), TOKENS[mask]
        return lambda text: before + token(keyed, text) + after

    def _chosen(self, kind: str, words: tuple[str, ...]) -> ValueMask:
        keyed = Keyed(self._secret, kind)
        return lambda text: words[keyed.number(normalised(text)) % len(words)]

    def _address(self, text: str) -> str:
        number = self._addresses.number(normalised(text))
        number, house = divmod(number, 999)
        number, street = divmod(number, len(STREETS))
        return f"{1 + house} {LAST_NAMES[number % len(LAST_NAMES)]} {STREETS[street]}"

    def _company(self, text: str) -> str:
        number = self._companies.number(normalised(text))
        number, trade = divmod(number, len(TRADES))
        return f"{LAST_NAMES[number % len(LAST_NAMES)]} {TRADES[trade]}"

"""Names of people, word by word: so that ``Anna``, ``Anna Lopez`` and ``Lopez, Anna`` agree wherever they stand."""

from __future__ import annotations

import re
from functools import lru_cache

from podctl.masking.prf import Keyed, normalised
from podctl.masking.words import FIRST_NAMES, LAST_NAMES, PARTICLES, TITLES

_WORD = re.compile(r"[^\s,;()/]+")


class Names:
    def __init__(self, secret: bytes) -> None:
        self._first = Keyed(secret, "first-name")
        self._last = Keyed(secret, "last-name")
        self._word = lru_cache(1 << 16)(self._masked_word)

    def first(self, text: str) -> str:
        """Every word a given name."""
        return _WORD.sub(lambda match: self._word(match[0], True), text)

    def last(self, text: str) -> str:
        """Every word a family name."""
        return _WORD.sub(lambda match: self._word(match[0], False), text)

    def full(self, text: str) -> str:
        """The last word (before a comma: every word) and what follows a particle are family names, the rest given names."""
        given, _, family_name = text.partition(" ")
        if given.isalpha() and family_name.isalpha() and not _is_title(given) and not _is_title(family_name):
            return f"{self._word(given, True)} {self._word(family_name, False)}"
        before, comma, after = text.partition(",")
        if comma and _WORD.search(after) and not _is_title(after.strip()):
            return self.last(before) + comma + self.first(after)
        words = [word for word in _WORD.findall(text) if not _is_title(word)]
        family = next((at for at, word in enumerate(words) if at and word.lower() in PARTICLES), max(len(words) - 1, 1))
        seen = -1

        def masked(match: re.Match[str]) -> str:
            nonlocal seen
            if _is_title(match[0]):
                return match[0]
            seen += 1
            return self._word(match[0], seen < family)

        return _WORD.sub(masked, text)

    def keyed(self, first: bool) -> Keyed:
        return self._first if first else self._last

    def _masked_word(self, word: str, first: bool) -> str:
        if not first and word.lower() in PARTICLES:
            return word
        keyed, names = (self._first, FIRST_NAMES) if first else (self._last, LAST_NAMES)
        plain = word.rstrip(".")
        number = keyed.number(normalised(plain))
        if len(plain) == 1:  # an initial
            return chr(ord("A") + number % 26) + word[1:]
        name = names[number % len(names)]
        return name.upper() if word.isupper() else name.lower() if word.islower() else name


def _is_title(word: str) -> bool:
    return word.lower() in TITLES

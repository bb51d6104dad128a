"""The masks of whole columns of COPY fields for the commonest classes: the same results as value by value, in fewer steps.

Fields with escapes or beyond ASCII go the way of single values (``other``). `None` from `columnwise` means that all do.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from string import ascii_letters, ascii_lowercase

from podctl.masking.codes import TO_BASE32, Ids
from podctl.masking.copytext import NULL
from podctl.masking.people import Names
from podctl.masking.prf import Keyed
from podctl.masking.values import TOKENS, ValueMasks
from podctl.masking.words import FIRST_NAMES, LAST_NAMES, PARTICLES, TITLES

FieldMask = Callable[[bytes], bytes]
ColumnMask = Callable[[list[bytes]], list[bytes]]


def columnwise(masks: ValueMasks, mask: str, other: FieldMask, whole_numbers: bool) -> ColumnMask | None:
    """``other`` masks a field that is neither null nor empty; ``whole_numbers``: the column is of an integer type."""
    if mask in TOKENS:
        before, after = TOKENS[mask]
        return _at_once(_tokens(masks.keyed(mask), before.encode(), after.encode()), _plain, other)
    if mask == "name":
        return _at_once(_names(masks.names, other), _two_words, other)
    if mask == "id" and whole_numbers:
        return _ids(masks.ids, other)
    if mask == "phone":
        return _at_once(masks.phones.many, _plain, other)
    return None


def _at_once(many: ColumnMask, which: Callable[[list[bytes]], list[bool] | None], other: FieldMask) -> ColumnMask:
    """By ``many`` the fields that ``which`` says, all where it gives None; the rest by ``other``."""

    def masked(fields: list[bytes]) -> list[bytes]:
        chosen = which(fields)
        if chosen is None:
            return many(fields)
        those = [field for field, one in zip(fields, chosen, strict=True) if one]
        made = iter(many(those) if those else [])
        return [
            next(made) if one else field if field in (NULL, b"") else other(field)
            for field, one in zip(fields, chosen, strict=True)
        ]

    return masked


def _plain(fields: list[bytes]) -> list[bool] | None:
    """Those of ASCII without escapes."""
    together = b"".join(fields)
    if together.isascii() and b"\\" not in together and all(fields):
        return None
    return [field.isascii() and b"\\" not in field and field != b"" for field in fields]


def _two_words(fields: list[bytes]) -> list[bool] | None:
    """Those of two words of letters."""
    together = b" ".join(fields)
    if (
        set(map(_spaces, fields)) == {1}
        and not together.translate(None, _LETTERS_AND_SPACE)
        and b"  " not in together
        and together[:1] != b" " != together[-1:]
    ):
        return None
    return [field.count(b" ") == 1 and all(word.isalpha() for word in field.split(b" ")) for field in fields]


def _tokens(keyed: Keyed, before: bytes, after: bytes) -> ColumnMask:
    def masked(fields: list[bytes]) -> list[bytes]:
        digests = keyed.digests([field.strip().lower() for field in fields])
        signs = b"".join(digests).translate(TO_BASE32)
        return [before + signs[at : at + 13] + after for at in range(0, len(signs), 16)]

    return masked


def _names(names: Names, other: FieldMask) -> ColumnMask:
    """Of two words each; what has an initial, a title or a particle among them is for `Names`."""
    first, last = _Words(names.keyed(True), FIRST_NAMES), _Words(names.keyed(False), LAST_NAMES)

    def masked(fields: list[bytes]) -> list[bytes]:
        words = b" ".join(fields).split(b" ")
        masks = zip(fields, first.masked(words[::2]), last.masked(words[1::2]), strict=True)
        return [given + b" " + family if given and family else other(field) for field, given, family in masks]

    return masked


def _ids(ids: Ids, other: FieldMask) -> ColumnMask:
    """Keys come in all values at once; references in the same ones again and again, each masked once a chunk."""

    def masked(fields: list[bytes]) -> list[bytes]:
        known = {field: other(field) for field in set(fields) if not field.isdigit() and field != NULL}
        known[NULL] = NULL
        fresh = [field for field in dict.fromkeys(fields) if field not in known]
        plain = [field for field in fresh if field != b"0"]
        known.update(zip(plain, (b"%d" % number for number in ids.integers(list(map(int, plain)))), strict=True))
        known[b"0"] = b"0"
        return [known[field] for field in fields]

    return masked


class _Words:
    """Words of letters to their masks as `Names` makes them; empty for initials, titles and particles, which are masked otherwise."""

    def __init__(self, keyed: Keyed, names: tuple[str, ...]) -> None:
        self._keyed = keyed
        self._names = [name.encode() for name in names]
        self._known: dict[bytes, bytes] = {}

    def masked(self, words: list[bytes]) -> list[bytes]:
        fresh = set(words).difference(self._known)
        if len(fresh) > len(words) * _RARE:
            return self._made(words)
        if len(self._known) + len(fresh) > _REMEMBERED:
            self._known.clear()
            fresh = set(words)
        if fresh:
            new = list(fresh)
            self._known.update(zip(new, self._made(new), strict=True))
        return list(map(self._known.__getitem__, words))

    def _made(self, words: list[bytes]) -> list[bytes]:
        together = b" ".join(words)
        small = together.lower().split(b" ")
        names = [self._names[number] for number in self._keyed.numbers(small, len(self._names))]
        if together.istitle() and _OTHERWISE.isdisjoint(small):
            return names
        return [
            b"" if low in _OTHERWISE else name.lower() if word == low else name.upper() if word.isupper() else name
            for word, low, name in zip(words, small, names, strict=True)
        ]


#: Of words that are new, so many that looking them up again saves less than keeping them costs.
_RARE = 0.9
_spaces = methodcaller("count", b" ")
_REMEMBERED = 1 << 16
_LETTERS_AND_SPACE = ascii_letters.encode() + b" "
_OTHERWISE = frozenset(word.encode() for word in (*TITLES, *PARTICLES, *ascii_lowercase))

"""The masks of whole columns of COPY fields for the commonest classes: the same results as value by value, in fewer steps.

Fields with escapes or beyond ASCII go the way of single values (``other``). `None` from `columnwise` means that all do.
"""

from __future__ import annotations

from collections.abc import Callable

from podctl.masking.codes import TO_BASE32, Ids, Phones
from podctl.masking.copytext import NULL
from podctl.masking.people import Names
from podctl.masking.values import TOKENS, ValueMasks
from podctl.masking.words import FIRST_NAMES, LAST_NAMES, PARTICLES, TITLES

FieldMask = Callable[[bytes], bytes]
ColumnMask = Callable[[list[bytes]], list[bytes]]


def columnwise(masks: ValueMasks, mask: str, other: FieldMask, whole_numbers: bool) -> ColumnMask | None:
    """``other`` masks a field that is neither null nor empty; ``whole_numbers``: the column is of an integer type."""
    if mask in TOKENS:
        before, after = TOKENS[mask]
        return _tokens(masks, mask, before.encode(), after.encode(), other)
    if mask == "name":
        return _names(masks.names, other)
    if mask == "id" and whole_numbers:
        return _ids(masks.ids, other)
    if mask == "phone":
        return _phones(masks.phones, other)
    return None


def _tokens(masks: ValueMasks, mask: str, before: bytes, after: bytes, other: FieldMask) -> ColumnMask:
    start = masks.keyed(mask).start

    def masked(fields: list[bytes]) -> list[bytes]:
        found = []
        for field in fields:
            if not field.isascii() or b"\\" in field:
                found.append(field if field == NULL else other(field))
            elif field:
                state = start.copy()
                state.update(field.strip().lower())
                found.append(before + state.digest()[:13].translate(TO_BASE32) + after)
            else:
                found.append(field)
        return found

    return masked


def _names(names: Names, other: FieldMask) -> ColumnMask:
    """Two words of letters are looked up word by word; everything else is for `Names`."""
    first, last = _Words(names, True), _Words(names, False)

    def masked(fields: list[bytes]) -> list[bytes]:
        found = []
        for field in fields:
            given, _, family = field.partition(b" ")
            if given.isalpha() and family.isalpha():
                one, two = first[given], last[family]
                if one and two:
                    found.append(one + b" " + two)
                    continue
            found.append(field if field in (NULL, b"") else other(field))
        return found

    return masked


def _phones(phones: Phones, other: FieldMask) -> ColumnMask:
    def one(field: bytes) -> bytes:
        if field and field.isascii() and b"\\" not in field:
            return phones.of(field)
        return field if field in (NULL, b"") else other(field)

    return lambda fields: list(map(one, fields))


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


class _Words(dict[bytes, bytes]):
    """Word -> its mask as `Names` makes it; empty for initials, titles and particles, which are masked otherwise."""

    def __init__(self, names: Names, first: bool) -> None:
        super().__init__()
        self._start = names.keyed(first).start
        self._names = [name.encode() for name in (FIRST_NAMES if first else LAST_NAMES)]

    def __missing__(self, word: bytes) -> bytes:
        if len(self) >= 1 << 16:
            self.clear()
        small = word.lower()
        if len(word) == 1 or small in _OTHERWISE:
            name = b""
        else:
            state = self._start.copy()
            state.update(small)
            name = self._names[int.from_bytes(state.digest()[:8]) % len(self._names)]
            name = name.upper() if word.isupper() else name.lower() if word == small else name
        self[word] = name
        return name


_OTHERWISE = frozenset(word.encode() for word in TITLES | PARTICLES)

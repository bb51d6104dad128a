"""The masks of whole columns of COPY fields for the commonest classes: the same results as value by value, in fewer steps.

Fields with escapes or beyond ASCII go the way of single values (``other``). `None` from `columnwise` means that all do.
"""

from __future__ import annotations

from collections.abc import Callable

from podctl.masking.codes import TO_BASE32, Phones
from podctl.masking.copytext import NULL
from podctl.masking.people import Names
from podctl.masking.values import TOKENS, ValueMasks

FieldMask = Callable[[bytes], bytes]
ColumnMask = Callable[[list[bytes]], list[bytes]]


def columnwise(masks: ValueMasks, mask: str, other: FieldMask) -> ColumnMask | None:
    """``other`` masks a field that is neither null nor empty."""
    if mask in TOKENS:
        before, after = TOKENS[mask]
        return _tokens(masks, mask, before.encode(), after.encode(), other)
    if mask == "name":
        return _names(masks.names, other)
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
    def masked(fields: list[bytes]) -> list[bytes]:
        return [
            phones.of(field)
            if field and field.isascii() and b"\\" not in field
            else field
            if field in (NULL, b"")
            else other(field)
            for field in fields
        ]

    return masked


class _Words(dict[bytes, bytes]):
    """Word -> its mask; empty for a title, which is masked otherwise."""

    def __init__(self, names: Names, first: bool) -> None:
        super().__init__()
        self._names, self._first = names, first

    def __missing__(self, word: bytes) -> bytes:
        if len(self) >= 1 << 16:
            self.clear()
        self[word] = masked = self._names.plain_word(word.decode(), self._first).encode()
        return masked

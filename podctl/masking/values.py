"""A value of a class to its mask: deterministic, of the same shape, the same for the same value wherever it stands."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from podctl.masking.keys import MaskingKey
from podctl.masking.prf import Keyed
from podctl.spec.masking import ColumnRule

#: Text in, masked text out; None for null.
ValueMask = Callable[[str], str | None]

_BASE32 = "abcdefghijkmnpqrstuvwxyz23456789"


def normalised(text: str) -> bytes:
    """What two spellings of one value share: no surrounding space, compatibility forms and case folded."""
    if text.isascii():
        return text.strip().lower().encode()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.strip()).casefold()).encode()


def mask_of(key: MaskingKey, rule: ColumnRule) -> ValueMask:
    """How a rule masks a value that is neither null nor empty."""
    if rule.mask == "erase":
        return lambda text: None
    if rule.mask == "constant":
        return lambda text: rule.value
    keyed = Keyed(key.secret, rule.mask)
    if rule.mask == "email":
        return lambda text: f"{token(keyed, text)}@example.com"
    return lambda text: token(keyed, text)


def token(keyed: Keyed, text: str) -> str:
    """13 characters, 65 bits."""
    number = keyed.number(normalised(text))
    return "".join(_BASE32[number >> shift & 31] for shift in range(0, 65, 5))

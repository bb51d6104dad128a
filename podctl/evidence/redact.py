"""Secrets taken out of whatever is about to be written, in the forms they travel in."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

MARK = "[redacted]"
#: Shorter values are placeholders (``x``, ``none``, ``EMPTY``); taking them out would take out half the evidence.
SHORTEST = 6
_MARK = MARK.encode("ascii")
_DEEPEST = 100
_SHORT_ESCAPES = {"\n": b"n", "\t": b"t", "\r": b"r", "\b": b"b", "\f": b"f"}


class Redactor:
    """Replaces each secret by ``[redacted]``: as it is, hexadecimal, base64 at any alignment (also URL-safe),
    percent-encoded, and escaped as in JSON or JSON within JSON. Secrets shorter than `SHORTEST` bytes are left."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [_Secret(secret) for secret in sorted(set(secrets)) if len(_utf8(secret)) >= SHORTEST]

    def bytes(self, data: bytes) -> bytes:
        """The caller passes whole messages: a secret that is cut in two by a chunk's end is not seen."""
        found = sorted(span for secret in self._secrets for span in secret.spans(data))
        if not found:
            return data
        kept: list[bytes] = []
        at = 0
        for begin, end in found:
            if begin > at or (begin == at and not kept):
                kept.append(data[at:begin])
            at = max(at, end)
        return _MARK.join([*kept, data[at:]])

    def text(self, text: str) -> str:
        if not self._secrets:
            return text
        return self.bytes(_utf8(text)).decode("utf-8", "surrogatepass")

    def value(self, value: Any) -> Any:
        """A JSON value with every string, key and number of it redacted; the rest is as it was."""
        return self._value(value, 0) if self._secrets else value

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return value if self._plain_number(value) else MARK
        if depth >= _DEEPEST:
            return f"{MARK}: nested too deeply to look into"
        if isinstance(value, dict):
            return {self.text(str(key)): self._value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item, depth + 1) for item in value]
        return self.text(str(value))

    def _plain_number(self, value: int | float) -> bool:
        try:
            shown = repr(value)
        except ValueError:  # an integer of thousands of digits
            return False
        return self.text(shown) == shown


class _Secret:
    def __init__(self, secret: str) -> None:
        self._secret = secret

    @cached_property
    def _patterns(self) -> list[re.Pattern[bytes]]:
        """Compiled when they are needed: it takes milliseconds, and an attempt has secrets of its own."""
        return [re.compile(pattern) for pattern in _patterns(self._secret)]

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        if len(data) < len(self._secret):  # every form takes a byte for each character at the least
            return []
        return [span for pattern in self._patterns for span in _spans(pattern, data)]


def _spans(pattern: re.Pattern[bytes], data: bytes) -> Iterator[tuple[int, int]]:
    """Every match, overlapping ones too: secrets that repeat themselves or share an end must not leave a piece."""
    found = pattern.search(data)
    while found is not None:
        yield found.span()
        found = pattern.search(data, found.start() + 1)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _patterns(secret: str) -> list[bytes]:
    raw = _utf8(secret)
    return [_as_text(secret), _as_hex(raw), *(_as_base64(raw, shift) for shift in range(3))]


def _as_text(secret: str) -> bytes:
    """Each character as itself, percent-encoded or escaped; also mixed, as encoders differ in what they leave."""
    runs = re.findall(r"\\+|[^\\]", secret, re.DOTALL)
    return b"".join(_run(run) for run in runs)


def _run(run: str) -> bytes:
    if run[0] == "\\":
        # Each level of JSON doubles a backslash; bounded, so that a long run of them is no trap for the matcher.
        return b"(?:%%5[Cc]|\\\\u005[Cc]|\\\\){%d,%d}" % (len(run), 4 * len(run))
    character = run
    raw = _utf8(character)
    forms = [re.escape(raw), b"".join(b"%%%s" % _any_case(b"%02x" % byte) for byte in raw)]
    units = character.encode("utf-16-be", "surrogatepass")
    codes = [units[at : at + 2].hex().encode() for at in range(0, len(units), 2)]
    forms.append(b"".join(b"\\\\{1,4}u" + _any_case(code) for code in codes))
    if character in '"/':
        forms.append(b"\\\\{1,4}" + re.escape(raw))
    if character in _SHORT_ESCAPES:
        forms.append(b"\\\\{1,4}" + _SHORT_ESCAPES[character])
    if character == " ":
        forms.append(rb"\+")
    return b"(?:%s)" % b"|".join(forms)


def _any_case(digits: bytes) -> bytes:
    return b"".join(b"[%c%c]" % (digit, ord(chr(digit).upper())) if chr(digit).isalpha() else b"%c" % digit for digit in digits)


def _as_hex(raw: bytes) -> bytes:
    """Also with a separator between bytes, as in ``de:ad`` or ``\\xde\\xad``."""
    return rb"(?:[:\- ]|\\{1,2}x)?".join(_any_case(b"%02x" % byte) for byte in raw)


_PLUS = rb"(?:[+\-]|%2[Bb])"
_SLASH = rb"(?:\\{0,4}/|_|%2[Ff])"
_ANY = rb"(?:[A-Za-z0-9+\-_]|\\{0,4}/|%2[BbFf])"


def _as_base64(raw: bytes, shift: int) -> bytes:
    """``shift`` bytes stand before the secret in its group of three. The characters that are the secret's alone are
    matched, and with them the ones at either end that hold some of its bits."""
    encoded = base64.b64encode(bytes(shift) + raw)
    first, last = -(-8 * shift // 6), 8 * (shift + len(raw)) // 6
    core = b"".join({b"+": _PLUS, b"/": _SLASH}.get(encoded[at : at + 1], encoded[at : at + 1]) for at in range(first, last))
    before = _ANY if shift else b""
    after = b"(?:%s)?(?:=|%%3[Dd]){0,2}" % _ANY if 8 * (shift + len(raw)) % 6 else b""
    return before + core + after

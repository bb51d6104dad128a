"""Honeytokens looked for in a stream of bytes, in the forms that somebody who hides them would give them. PURE.

Bytes that are neither letters nor digits of ASCII are left out first, and capitals made small: so a token is also found that stands in
pieces, such as labels of a DNS name, lines of base64 or bytes in hexadecimal with something between them.
"""

from __future__ import annotations

import base64
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ahocorasick_rs import BytesAhoCorasick, Implementation

_KEPT = (string.ascii_letters + string.digits).encode()
_LEFT_OUT = bytes(set(range(256)) - set(_KEPT))
_SMALL = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
#: What is found in other data by chance must be rare: characters of the shortest form.
SHORTEST = 16


@dataclass(frozen=True)
class Hit:
    """``place`` is where the token was planted, ``form`` how it was written when it was found."""

    place: str
    form: str


def forms(value: str) -> dict[str, set[bytes]]:
    """Form -> what it looks like once only small letters and digits are left. ``value`` has letters and digits of ASCII alone."""
    data = value.encode("ascii")
    found = {
        "plain": {data},
        "reversed": {data[::-1]},
        "hexadecimal": {data.hex().encode()},
        "escaped": {b"".join(b"%s%02x" % (before, byte) for byte in data) for before in (b"u00", b"x", b"0x")},
        # Where a token begins within what was encoded decides how it looks; what its neighbours have a part in is cut off.
        "base64": {
            encoded(bytes(before) + data)[-(-8 * before // 6) : (8 * (before + len(data))) // 6]
            for before in range(3)
            for encoded in (base64.b64encode, base64.urlsafe_b64encode)
        },
        "base32": {
            base64.b32encode(bytes(before) + data)[-(-8 * before // 5) : (8 * (before + len(data))) // 5] for before in range(5)
        },
    }
    return {form: {_reduced(one) for one in ones} for form, ones in found.items()}


def _reduced(data: bytes) -> bytes:
    return data.translate(_SMALL, _LEFT_OUT)


class Search:
    """Looks for ``tokens``, place -> value. Raises `ValueError` for a value that is too short, or has other than letters and digits."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._hits: list[Hit] = []
        patterns: list[bytes] = []
        for place, value in tokens.items():
            if len(value) < SHORTEST or not value.isascii() or not value.isalnum():
                raise ValueError(f"a honeytoken has at least {SHORTEST} letters and digits")
            for form, ones in forms(value).items():
                patterns += sorted(ones)
                self._hits += [Hit(place, form)] * len(ones)
        self._kept = max(map(len, patterns), default=1) - 1
        self._automaton = BytesAhoCorasick(patterns, implementation=Implementation.DFA)

    def stream(self) -> Stream:
        return Stream(self)

    def find(self, *pieces: bytes) -> list[Hit]:
        """What is in ``pieces``, each by itself."""
        found: dict[Hit, None] = {}
        for piece in pieces:
            found |= dict.fromkeys(self.stream().feed(piece))
        return list(found)

    def _within(self, reduced: bytes) -> Iterable[Hit]:
        matches = self._automaton.find_matches_as_indexes(reduced, overlapping=True)
        return dict.fromkeys(self._hits[which] for which, _, _ in matches)


def record(hit: Hit, sink: str) -> dict[str, str]:
    """The data of a record of kind ``honeytoken``."""
    return {"place": hit.place, "sink": sink, "form": hit.form}


def said(record: Mapping[str, Any]) -> str:
    """A record's data in words."""
    return f"{record['place']} in {record['sink']}"


class Stream:
    """Bytes that come in pieces: a token that two of them have a part of is found."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._before = b""

    def feed(self, piece: bytes) -> list[Hit]:
        """What is in this piece, and in the end of those before it; a short form near their border may be told twice."""
        window = self._before + _reduced(piece)
        found = list(self._search._within(window))
        self._before = window[-self._search._kept :] if self._search._kept else b""
        return found


class Watch:
    """Looks for tokens wherever an attempt could let them out; each place and sink is told once."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._search = Search(tokens)
        self._told: set[tuple[str, str]] = set()

    def look(self, sink: str, *pieces: bytes) -> list[Hit]:
        return self._new(sink, self._search.find(*pieces))

    def stream(self, sink: str) -> Callable[[bytes], list[Hit]]:
        """For what goes to ``sink`` in pieces that belong together."""
        stream = self._search.stream()
        return lambda piece: self._new(sink, stream.feed(piece))

    def _new(self, sink: str, hits: Iterable[Hit]) -> list[Hit]:
        new = []
        for hit in hits:
            if (hit.place, sink) not in self._told:
                self._told.add((hit.place, sink))
                new.append(hit)
        return new

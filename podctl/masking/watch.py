"""What a capture masked: counts for the statement, a bounded sample of raw values for the scan, values to look for in text.

Raw values stay in this process's memory. Nothing here is written anywhere, and no representation shows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from podctl.masking.copytext import NULL, unescape

#: Raw values kept of a column, at most, spread over all that were masked.
SAMPLE = 256
#: Values to look for in text, at most.
MOST_KNOWN = 1_000_000

#: Masks whose values are looked for in text -> characters that a value needs, so that ordinary words are not taken for it.
_LOOKED_FOR = {"name": 4, "username": 4, "company": 5, "address": 8, "token": 8, "id": 6}


class ColumnWatch:
    """Of one column, path or pattern: how many different values were masked, and some of them."""

    __slots__ = ("_learned", "_stride", "_watch", "count", "mask", "sample", "where")

    def __init__(self, where: str, mask: str, watch: Watch) -> None:
        self.where, self.mask = where, mask
        self.count = 0
        self.sample: list[str] = []
        self._stride = 1
        self._watch = watch
        self._learned = mask in _LEARNED

    def masked(self, raw: str, result: str | None) -> str | None:
        """``result``, after a look at what it is the mask of. Values that a table remembers are counted once."""
        self.count += 1
        if self.count % self._stride == 0:
            self.sample.append(raw)
            if len(self.sample) >= SAMPLE:
                del self.sample[::2]
                self._stride *= 2
        if self._learned:
            self._watch.learn(self.mask, raw)
        return result

    def absorb(self, values: Collection[bytes], nothing: int = 0) -> None:
        """As `masked`, for many values at once, each a COPY field; ``nothing`` of them are null or empty."""
        for field in islice(values, -self.count % self._stride, None, self._stride):
            if field and field != NULL:
                self.sample.append(unescape(field).decode())
        if self._learned and self._watch.learning:
            for field in values:
                if field and field != NULL:
                    self._watch.learn(self.mask, unescape(field).decode())
        self.count += len(values) - nothing
        while len(self.sample) > SAMPLE:
            del self.sample[::2]
            self._stride *= 2

    def under(self, mask: str) -> ColumnWatch:
        """For what is masked otherwise within the same column."""
        return self if mask == self.mask else self._watch.column(self.where, "", mask)


_LEARNED = frozenset((*_LOOKED_FOR, "first-name", "last-name", "phone"))


class Watch:
    """Give the same one to everything that is masked for one seed."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], ColumnWatch] = {}
        #: lower-case value -> mask
        self.known: dict[str, str] = {}
        #: last nine digits of telephone numbers
        self.phones: set[str] = set()
        #: lower-case word of a name -> first-name or last-name
        self.words: dict[str, str] = {}
        self.not_kept = 0
        self._holding: list[Callable[[], None]] = []
        #: Whether anything is text, and values of other columns are needed for it.
        self.learning = False

    def column(self, table: str, column: str, mask: str) -> ColumnWatch:
        where = f"{table}.{column}" if column else table
        return self._columns.setdefault((where, mask), ColumnWatch(where, mask, self))

    def learn(self, mask: str, raw: str) -> None:
        """A value that text may have, too."""
        if not self.learning:
            return
        if len(self.known) + len(self.words) + len(self.phones) >= MOST_KNOWN:
            self.not_kept += 1
            return
        value = raw.strip().lower()
        if mask == "phone":
            digits = re.sub("[^0-9]", "", value)
            if len(digits) >= 7:
                self.phones.add(digits[-9:])
            return
        if mask in ("name", "first-name", "last-name"):
            parts = [part.strip(".,;()") for part in value.split()]
            for at, part in enumerate(parts):
                if len(part) >= 4 and re.sub("['’-]", "", part).isalpha():
                    self.words.setdefault(
                        part, "first-name" if mask == "first-name" or (mask == "name" and at == 0) else "last-name"
                    )
        fewest = _LOOKED_FOR.get(mask)
        if fewest is not None and len(value) >= fewest and not value.isdigit() and (mask != "name" or " " in value):
            self.known.setdefault(value, mask)

    def holds(self, hand_over: Callable[[], None]) -> None:
        """``hand_over`` is called before anybody looks at what was masked."""
        self._holding.append(hand_over)

    def gather(self) -> None:
        """Take what tables hold; what is learned after is not in text that is masked before."""
        for hand_over in self._holding:
            hand_over()

    def counts(self) -> dict[str, int]:
        """mask -> different values masked, as far as tables remembered them."""
        self.gather()
        found: dict[str, int] = {}
        for column in self._columns.values():
            if column.count:
                found[column.mask] = found.get(column.mask, 0) + column.count
        return dict(sorted(found.items()))

    def samples(self) -> Iterator[tuple[str, str, list[str]]]:
        """(where, mask, raw values) of everything that was masked."""
        self.gather()
        for column in self._columns.values():
            yield column.where, column.mask, column.sample

    def __repr__(self) -> str:
        return f"Watch({len(self._columns)} columns)"

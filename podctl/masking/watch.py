"""What a capture masked: counts for the statement, a bounded sample of raw values for the scan, values to look for in text.

Raw values stay in this process's memory. Nothing here is written anywhere, and no representation shows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
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
            self._watch.learn(self.mask, [raw])
        return result

    def absorb(self, values: Collection[bytes], nothing: int = 0) -> None:
        """As `masked`, for many values at once, each a COPY field; ``nothing`` of them are null or empty."""
        for value in islice(values, -self.count % self._stride, None, self._stride):
            if value and value != NULL:
                self.sample.append(unescape(value).decode())
        if self._learned and self._watch.knowledge.wanted:
            self._watch.learn(self.mask, [unescape(value).decode() for value in values if value and value != NULL])
        self.count += len(values) - nothing
        while len(self.sample) > SAMPLE:
            del self.sample[::2]
            self._stride *= 2

    def under(self, mask: str) -> ColumnWatch:
        """For what is masked otherwise within the same column."""
        return self if mask == self.mask else self._watch.column(self.where, "", mask)


_NAMES = frozenset(("name", "first-name", "last-name"))
_LEARNED = frozenset((*_LOOKED_FOR, *_NAMES, "phone"))
_NO_DIGITS = re.compile("[^0-9]+")
_WITHIN_WORDS = re.compile("['’-]")


@dataclass(repr=False)
class Knowledge:
    """Values that text is searched for. Captures of several databases share one, so that text in one may name people of another."""

    #: lower-case value -> mask
    values: dict[str, str] = field(default_factory=dict)
    #: lower-case word of a name -> first-name or last-name
    words: dict[str, str] = field(default_factory=dict)
    #: last nine digits of telephone numbers
    phones: set[str] = field(default_factory=set)
    not_kept: int = 0
    #: Whether anything is text, and values of other columns are needed for it.
    wanted: bool = False
    holding: list[Callable[[], None]] = field(default_factory=list)

    def learn(self, mask: str, raws: Sequence[str]) -> None:
        while raws:
            # A name is kept whole, and its words.
            room = (MOST_KNOWN - len(self.values) - len(self.words) - len(self.phones)) // 3
            if room <= 0:
                self.not_kept += len(raws)
                return
            values = [raw.strip().lower() for raw in raws[:room]]
            raws = raws[room:]
            if mask == "phone":
                digits = [_NO_DIGITS.sub("", value) for value in values]
                self.phones.update(one[-9:] for one in digits if len(one) >= 7)
                continue
            if mask in _NAMES:
                self._learn_words(mask, values)
            fewest = _LOOKED_FOR.get(mask)
            if fewest is not None:
                for value in values:
                    if len(value) >= fewest and not value.isdigit() and (mask != "name" or " " in value):
                        self.values.setdefault(value, mask)

    def _learn_words(self, mask: str, values: Sequence[str]) -> None:
        first = "last-name" if mask == "last-name" else "first-name"
        rest = "first-name" if mask == "first-name" else "last-name"
        for value in values:
            kind = first
            for part in value.split():
                if not part.isalpha():
                    part = part.strip(".,;()")
                if len(part) >= 4 and (part.isalpha() or _WITHIN_WORDS.sub("", part).isalpha()):
                    self.words.setdefault(part, kind)
                kind = rest

    def gather(self) -> None:
        """Take what tables hold; what is learned after is not in text that is masked before."""
        for hand_over in self.holding:
            hand_over()


class Watch:
    """Give the same one to everything that is masked for one seed."""

    def __init__(self, knowledge: Knowledge | None = None) -> None:
        self._columns: dict[tuple[str, str], ColumnWatch] = {}
        self.knowledge = knowledge or Knowledge()

    def column(self, table: str, column: str, mask: str) -> ColumnWatch:
        where = f"{table}.{column}" if column else table
        return self._columns.setdefault((where, mask), ColumnWatch(where, mask, self))

    def learn(self, mask: str, raws: Sequence[str]) -> None:
        """Values that text may have, too."""
        if self.knowledge.wanted and mask in _LEARNED:
            self.knowledge.learn(mask, raws)

    def holds(self, hand_over: Callable[[], None]) -> None:
        """``hand_over`` is called before anybody looks at what was masked."""
        self.knowledge.holding.append(hand_over)

    def counts(self) -> dict[str, int]:
        """mask -> different values masked, as far as tables remembered them."""
        self.knowledge.gather()
        found: dict[str, int] = {}
        for column in self._columns.values():
            if column.count:
                found[column.mask] = found.get(column.mask, 0) + column.count
        return dict(sorted(found.items()))

    def samples(self) -> Iterator[tuple[str, str, list[str]]]:
        """(where, mask, raw values) of everything that was masked."""
        self.knowledge.gather()
        for column in self._columns.values():
            yield column.where, column.mask, column.sample

    def __repr__(self) -> str:
        return f"Watch({len(self._columns)} columns)"

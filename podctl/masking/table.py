"""One table's rows, masked as they stream by: COPY text in, COPY text out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import methodcaller

from podctl.masking.columns import Column, check_table
from podctl.masking.columnwise import ColumnMask, columnwise
from podctl.masking.copytext import NULL, escape, map_array, unescape
from podctl.masking.documents import DocumentMask
from podctl.masking.keys import MaskingKey
from podctl.masking.prf import normalised
from podctl.masking.problems import MaskingProblem
from podctl.masking.text import Beside, TextMask
from podctl.masking.values import ValueMask, ValueMasks
from podctl.masking.watch import ColumnWatch, Watch
from podctl.spec.masking import ColumnRule, Masking

__all__ = ["Column", "MaskingProblem", "Watch", "table_masker"]

#: Masks of values met before that a column keeps; then it starts again.
_REMEMBERED = 1 << 16

#: Fields that stand for nothing, and stay.
_KEPT = {NULL: NULL, b"": b""}
_tabs = methodcaller("count", b"\t")
#: No mask of `columnwise` is longer, so that none has to be cut.
_LONGEST = 40
_NAMES = ("name", "first-name", "last-name")


def table_masker(
    policy: Masking, key: MaskingKey, database: str, table: str, columns: Sequence[Column], watch: Watch | None = None
) -> Callable[[bytes], bytes]:
    """What masks a chunk of whole lines of COPY text (rows of ``columns``, in their order), each row to a row.

    ``watch`` collects what was masked: counts, a bounded sample of raw values for the scan, and values to look for in
    text; give the same one to every table of a capture, and tables with text last (`text_last`).
    Raises `MaskingProblem` listing every column that no rule names, and every rule that cannot be kept; the callable
    raises it for lines that are no such rows. Neither ever says a value.
    """
    rules = policy.rules(database, table)
    check_table(rules, database, table, columns)
    stream = _Table(policy, ValueMasks(key.secret), f"{database}.{table}", columns, rules, watch or Watch())
    return stream.masked


def text_last(policy: Masking, database: str, tables: Sequence[str]) -> list[str]:
    """The tables in an order in which values are known before the text that may name them is masked."""
    return sorted(tables, key=lambda table: any(rule.has_text for rule in policy.rules(database, table).values()))


class _Table:
    def __init__(
        self,
        policy: Masking,
        masks: ValueMasks,
        where: str,
        columns: Sequence[Column],
        rules: dict[str, ColumnRule],
        watch: Watch,
    ) -> None:
        self._where, self._width, self._masks, self._watch = where, len(columns), masks, watch
        watch.knowledge.wanted |= policy.masks_text
        self._text = TextMask(masks, watch, policy.patterns)
        places = {column.name: place for place, column in enumerate(columns)}
        self._named = [
            (place, rules[column.name].mask)
            for place, column in enumerate(columns)
            if rules[column.name].mask in _NAMES and not column.is_array
        ]
        #: Done in this order: what looks at other columns of the row sees them as they were.
        self._dated: list[tuple[int, int | None, _Dated]] = []
        self._texts: list[tuple[int, Beside, Callable[[bytes], bytes]]] = []
        self._simple: list[tuple[int, Callable[[list[bytes]], Iterable[bytes]]]] = []
        for place, column in enumerate(columns):
            rule = rules[column.name]
            if rule.mask == "keep":
                continue
            beside = Beside()
            seen = watch.column(where, column.name, rule.mask)
            remembers = not rule.paths and not column.is_array and rule.mask not in ("text", "date")
            mask = self._field_mask(column, rule, None if remembers else seen, beside)
            subject = _subject(rule)
            if subject is not None:
                self._dated.append((place, places.get(subject), _Dated(mask, beside)))
            elif rule.has_text and self._named:
                self._texts.append((place, beside, mask))
            else:
                at_once = self._at_once(column, rule, mask)
                if at_once is not None:
                    self._simple.append((place, _watched(at_once, seen)))
                else:
                    self._simple.append(
                        (place, partial(map, _Remembering(mask, seen if remembers else None, watch).__getitem__))
                    )

    def _at_once(self, column: Column, rule: ColumnRule, mask: Callable[[bytes], bytes]) -> ColumnMask | None:
        narrow = column.length is not None and column.length < _LONGEST
        if column.is_array or narrow or column.element == "bytea":
            return None
        return columnwise(self._masks, rule.mask, mask, whole_numbers=column.most is not None)

    def masked(self, chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        if not chunk.endswith(b"\n"):
            raise MaskingProblem(f"{self._where}: a chunk ends within a row", code="masking-rows")
        lines = chunk[:-1].split(b"\n")
        if set(map(_tabs, lines)) != {self._width - 1}:
            raise MaskingProblem(f"{self._where}: a row has not {self._width} fields", code="masking-rows")
        # One flat list: a list for each row would keep the garbage collector busy for a third of the time.
        fields = b"\t".join(lines).split(b"\t")
        try:
            self._mask(fields, self._width)
        except (ValueError, UnicodeError):
            # Without the exception it comes from: its message may have the value.
            raise MaskingProblem(
                f"{self._where}: a value is not what its column's type says",
                code="masking-value",
                hint="is the source's encoding what it claims? rows must be COPY text in UTF-8",
            ) from None
        return b"\n".join(map(b"\t".join, zip(*[iter(fields)] * self._width, strict=True))) + b"\n"

    def _mask(self, fields: list[bytes], width: int) -> None:
        names = self._names(fields, width) if self._texts else []
        for place, subject, dated in self._dated:
            subjects = fields[subject::width] if subject is not None else repeat(NULL)
            fields[place::width] = [dated[pair] for pair in zip(fields[place::width], subjects, strict=False)]
        for place, column in self._simple:
            fields[place::width] = list(column(fields[place::width]))
        for place, beside, mask in self._texts:
            for row, beside.names in enumerate(names):
                at = row * width + place
                if fields[at] not in _KEPT:
                    fields[at] = mask(fields[at])

    def _names(self, fields: list[bytes], width: int) -> list[list[tuple[str, str]]]:
        """Of each row, the names in it as they were."""
        columns = [[(mask, field) for field in fields[place::width]] for place, mask in self._named]
        return [
            [(mask, unescape(field).decode()) for mask, field in row if field not in _KEPT]
            for row in zip(*columns, strict=True)
        ]

    def _field_mask(
        self, column: Column, rule: ColumnRule, seen: ColumnWatch | None, beside: Beside
    ) -> Callable[[bytes], bytes]:
        """A field that is neither null nor empty to its mask."""
        mask = value = self._value_mask(column, rule, seen, beside)
        if column.is_array and rule.mask not in ("erase", "constant"):

            def mask(text: str) -> str | None:
                return map_array(text, lambda element: value(element) if element else element)

        limit = None if column.is_array else column.length

        def masked(field: bytes) -> bytes:
            text = mask((unescape(field) if b"\\" in field else field).decode())
            if text is None:
                if not column.nullable:
                    raise self._no_value(column, f"{rule.mask} has no mask for a value, and null is not allowed")
                return NULL
            if limit is not None and len(text) > limit:
                if rule.mask == "id":
                    raise self._no_value(column, f"the mask of an id is longer than {limit} characters")
                text = text[:limit]
            # Nothing printable needs escapes but the backslash.
            return text.encode() if text.isprintable() and "\\" not in text else escape(text.encode())

        return masked

    def _no_value(self, column: Column, why: str) -> MaskingProblem:
        return MaskingProblem(
            f"{self._where}.{column.name}: {why}", code="masking-value", hint="give the column another rule, such as constant"
        )

    def _value_mask(self, column: Column, rule: ColumnRule, seen: ColumnWatch | None, beside: Beside) -> ValueMask:
        if rule.mask == "json":

            def of_leaf(leaf: ColumnRule) -> ValueMask:
                return self._value_mask(column, leaf, seen and seen.under(leaf.mask), beside)

            return DocumentMask(rule.paths, of_leaf, self._text.masked).text
        if rule.mask == "text":
            return lambda text: self._text.masked(text, beside)
        if rule.mask == "constant":
            mask: ValueMask = lambda text: rule.value  # noqa: E731
        elif rule.mask == "date":
            mask = lambda text: self._masks.date(text, beside.subject)  # noqa: E731
        elif rule.mask == "number":
            mask = self._masks.number(rule, column.most)
        elif rule.mask == "token" and column.element == "bytea":
            mask = self._masks.secret_bytes
        else:
            mask = self._masks.simple(rule.mask)
        return mask if seen is None else lambda text: seen.masked(text, mask(text))


def _watched(mask: ColumnMask, seen: ColumnWatch) -> ColumnMask:
    def masked(fields: list[bytes]) -> list[bytes]:
        seen.absorb(fields, fields.count(NULL) + fields.count(b""))
        return mask(fields)

    return masked


def _subject(rule: ColumnRule) -> str | None:
    """The column that chooses the shift of a date, or of the dates in a document; None without dates."""
    if rule.mask == "date":
        return rule.subject
    return next((found for inner in rule.paths.values() if (found := _subject(inner)) is not None), None)


class _Dated(dict[tuple[bytes, bytes], bytes]):
    """(Field, subject's field) -> masked field."""

    def __init__(self, mask: Callable[[bytes], bytes], beside: Beside) -> None:
        super().__init__()
        self._mask, self._beside = mask, beside

    def __missing__(self, pair: tuple[bytes, bytes]) -> bytes:
        field, subject = pair
        if field in _KEPT:
            return field
        if len(self) > _REMEMBERED:
            self.clear()
        self._beside.subject = b"*" if subject == NULL else normalised(unescape(subject).decode())
        self[pair] = result = self._mask(field)
        return result


class _Remembering(dict[bytes, bytes]):
    """Field -> masked field; nulls and empty text stay. What it holds are the values that were masked: ``seen`` gets them."""

    def __init__(self, mask: Callable[[bytes], bytes], seen: ColumnWatch | None, watch: Watch) -> None:
        super().__init__()
        self._mask, self._seen = mask, seen
        watch.holds(self._hand_over)

    def __missing__(self, field: bytes) -> bytes:
        if field in _KEPT:
            return field
        if len(self) >= _REMEMBERED:
            self._hand_over()
        self[field] = result = self._mask(field)
        return result

    def _hand_over(self) -> None:
        if self._seen is not None:
            self._seen.absorb(self)
        self.clear()

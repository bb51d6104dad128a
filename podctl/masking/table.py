"""One table's rows, masked as they stream by: COPY text in, COPY text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podctl.errors import SpecError
from podctl.masking.copytext import NULL, escape, unescape
from podctl.masking.keys import MaskingKey
from podctl.masking.values import mask_of
from podctl.spec.masking import ColumnRule, Masking

#: Masks of values met before that a column keeps; then it starts again.
_REMEMBERED = 1 << 16


@dataclass(frozen=True)
class Column:
    """A column in the order of the rows. ``type`` is what ``format_type`` says, of a domain the type beneath it."""

    name: str
    type: str
    nullable: bool = True
    unique: bool = False


class MaskingProblem(SpecError):
    """A value or a column that cannot be masked as asked; never with the value itself."""


def table_masker(
    policy: Masking, key: MaskingKey, database: str, table: str, columns: Sequence[Column]
) -> Callable[[bytes], bytes]:
    """What masks a chunk of whole lines of COPY text (rows of ``columns``, in their order), each row to a row.

    Raises `MaskingProblem` listing every column that no rule names, and every rule that names no column; the callable
    raises it for lines that are no such rows.
    """
    rules = policy.rules(database, table)
    _refuse_unclassified(rules, database, table, columns)
    masks = [
        (index, _Remembering(mask_of(key, rules[column.name])).__getitem__)
        for index, column in enumerate(columns)
        if rules[column.name].mask != "keep"
    ]
    width = len(columns)

    def masked(chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        if not chunk.endswith(b"\n"):
            raise MaskingProblem(f"{table}: a chunk ends within a row", code="masking-rows")
        rows = [line.split(b"\t") for line in chunk[:-1].split(b"\n")]
        if any(len(row) != width for row in rows):
            raise MaskingProblem(f"{table}: a row has not {width} fields", code="masking-rows")
        for index, mask in masks:
            for row in rows:
                row[index] = mask(row[index])
        return b"\n".join(map(b"\t".join, rows)) + b"\n"

    return masked


def _refuse_unclassified(rules: dict[str, ColumnRule], database: str, table: str, columns: Sequence[Column]) -> None:
    names = [column.name for column in columns]
    missing = [name for name in names if name not in rules]
    unknown = [name for name in rules if name not in names]
    proposed = [name for name, rule in rules.items() if rule.proposed is not None]
    for wrong, what, hint in (
        (missing, "no rule says how to mask", "podctl data classify proposes rules; `keep` lets a column through as it is"),
        (unknown, "the masking names columns that are not there:", "remove them, or mend their names"),
        (proposed, "nobody has confirmed the rules of", "look at each, and remove its `proposed` line"),
    ):
        if wrong:
            listed = ", ".join(f"{database}.{table}.{name}" for name in wrong)
            raise MaskingProblem(f"{what} {listed}", code="masking-unclassified", hint=hint, unchanged="nothing was read")


class _Remembering(dict[bytes, bytes]):
    """Field -> masked field; nulls and empty text stay."""

    def __init__(self, mask: Callable[[str], str | None]) -> None:
        super().__init__()
        self._mask = mask

    def __missing__(self, field: bytes) -> bytes:
        if len(self) > _REMEMBERED:
            self.clear()
        if field in (NULL, b""):
            masked: str | None = field.decode()
            self[field] = field
            return field
        masked = self._mask(unescape(field).decode())
        self[field] = result = NULL if masked is None else escape(masked.encode())
        return result

"""Rows and documents that are values already, masked as the same columns are in COPY text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from podctl.masking.documents import DocumentMask
from podctl.masking.keys import MaskingKey
from podctl.masking.prf import normalised
from podctl.masking.problems import MaskingProblem
from podctl.masking.text import Beside, TextMask
from podctl.masking.values import ValueMask, ValueMasks
from podctl.masking.watch import Watch
from podctl.spec.masking import ColumnRule, Masking


class RecordMasks:
    """Give it the watch of the capture whose values are to be found in text."""

    def __init__(self, policy: Masking, key: MaskingKey, watch: Watch) -> None:
        self._policy, self._masks, self.watch = policy, ValueMasks(key.secret), watch
        watch.knowledge.wanted |= policy.masks_text
        self.text = TextMask(self._masks, watch, policy.patterns)

    def ids(self, text: str) -> str:
        return self._masks.ids(text)

    def row(self, database: str, table: str, values: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
        """Column -> masked value. ``whole``: all that is known of the row, for the subjects of dates.

        Raises `MaskingProblem` for a column without a rule, and a date whose subject is not known.
        """
        rules = self._policy.rules(database, table)
        missing = [column for column in values if column not in rules]
        if missing:
            raise MaskingProblem(
                f"no rule says how to mask {', '.join(f'{database}.{table}.{column}' for column in missing)}",
                code="masking-unclassified",
                unchanged="nothing was masked",
            )
        masked = {}
        for column, value in values.items():
            rule = rules[column]
            if rule.mask == "date" and rule.subject != "*" and rule.subject not in whole:
                raise MaskingProblem(
                    f"{database}.{table}.{column} is a date of {rule.subject}, which is not known beside it",
                    code="masking-subject",
                    unchanged="nothing was masked",
                    hint=f"name {rule.subject} too",
                )
            masked[column] = self.document({column: rule}, f"{database}.{table}", lambda name: whole.get(name)).value(
                {column: value}
            )[column]
        return masked

    def document(self, rules: Mapping[str, ColumnRule], where: str, subject: Callable[[str], Any]) -> DocumentMask:
        """Masks by path; ``subject`` finds the value that a date's rule names."""

        def of_leaf(rule: ColumnRule) -> ValueMask:
            mask = self._leaf(rule, subject)
            seen = self.watch.column(where, "", rule.mask)
            return mask if rule.mask in ("keep", "text") else lambda text: seen.masked(text, mask(text))

        flat = {
            path if inner is rule else f"{path}.{inner_path}": inner
            for path, rule in rules.items()
            for inner_path, inner in (rule.paths.items() if rule.mask == "json" else [("", rule)])
        }
        return DocumentMask(flat, of_leaf, self.text.masked)

    def _leaf(self, rule: ColumnRule, subject: Callable[[str], Any]) -> ValueMask:
        if rule.mask == "text":
            return self.text.masked
        if rule.mask == "constant":
            return lambda text: rule.value
        if rule.mask == "number":
            return self._masks.number(rule)
        if rule.mask == "date":
            found = None if rule.subject in (None, "*") else subject(rule.subject or "")
            of = b"*" if found is None else normalised(str(found))
            return lambda text: self._masks.date(text, of)
        return self._masks.simple(rule.mask)


def names_in(value: Any, mask: DocumentMask) -> Beside:
    """The names that a document's rules find, to look for them in the text beside it."""
    return Beside(
        names=[(rule.mask, text) for rule, text in mask.leaves(value) if rule.mask in ("name", "first-name", "last-name")]
    )

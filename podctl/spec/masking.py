"""What a person decided about each column of production, and of its tickets: the Masking file."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from podctl.spec.base import Model, Name, parse_decimal

#: How a value is masked; docs/masking.md says what each keeps and gives away.
Mask = Literal[
    "keep",
    "erase",
    "constant",
    "id",
    "email",
    "name",
    "first-name",
    "last-name",
    "username",
    "phone",
    "address",
    "city",
    "company",
    "ip",
    "url",
    "text",
    "date",
    "number",
    "card",
    "iban",
    "token",
    "json",
]


def _in_full(written: Any) -> Any:
    """``email: email`` is short for ``email: {mask: email}``."""
    return {"mask": written} if isinstance(written, str) else written


class ColumnRule(Model):
    """How one column, field or path is masked. A rule that is still ``proposed`` is not in force."""

    mask: Mask
    subject: str | None = Field(
        None, description="date: the column whose value chooses the shift, or '*' for one shift of all; needed there"
    )
    bucket: Annotated[Decimal, BeforeValidator(parse_decimal), Field(gt=0)] | None = Field(
        None, description="number: the width of a bucket; default: a tenth of the magnitude"
    )
    value: str | None = Field(None, description="constant: the value")
    paths: dict[str, Rule] = Field(
        default_factory=dict, description="json: path (a.b, items.*.email) -> rule; what no path names is removed"
    )
    proposed: str | None = Field(None, description="why it was proposed; remove this line to confirm the rule")

    @property
    def has_text(self) -> bool:
        return self.mask == "text" or any(rule.has_text for rule in self.paths.values())

    @model_validator(mode="after")
    def _says_what_it_needs(self) -> ColumnRule:
        for mask, name, given in (
            ("date", "subject", self.subject is not None),
            ("constant", "value", self.value is not None),
            ("json", "paths", bool(self.paths)),
        ):
            if self.mask == mask and not given:
                raise ValueError(f"expected {name}, which {mask} needs")
            if self.mask != mask and given:
                raise ValueError(f"expected no {name}: it belongs to {mask}")
        if self.bucket is not None and self.mask != "number":
            raise ValueError("expected no bucket: it belongs to number")
        return self


Rule = Annotated[ColumnRule, BeforeValidator(_in_full, json_schema_input_type=Mask | ColumnRule)]
ColumnRule.model_rebuild()


class TextPattern(Model):
    """What looks like this in free text is masked as a value of a class, so that it still joins."""

    match: str = Field(description="a regular expression; its group, when it has one, is the value")
    mask: Literal["id", "username", "token"] = "id"


class TicketRules(Model):
    """How a ticket is masked; a field without a rule fails, as a column does."""

    text: Literal["keep", "text"] = "text"
    id: Literal["keep", "id"] = "keep"
    fields: dict[str, Rule] = Field(default_factory=dict, description="path (a.b, comments.*.author) -> rule")


class Masking(Model):
    """Every column of the captured databases, and how it is masked."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Masking"]
    name: Name
    databases: dict[Name, dict[str, dict[str, Rule]]] = Field(
        default_factory=dict, description="database -> table (schema.table, or table in public) -> column -> rule"
    )
    tickets: TicketRules | None = None
    patterns: dict[Name, TextPattern] = Field(default_factory=dict)

    def rules(self, database: str, table: str) -> dict[str, ColumnRule]:
        """column -> rule, of one table; empty when the file does not name it."""
        tables = self.databases.get(database, {})
        short = table.removeprefix("public.")
        return tables.get(short) or tables.get(f"public.{short}") or {}

    @property
    def masks_text(self) -> bool:
        """Whether text is masked anywhere, tickets' included."""
        tables = (table for tables in self.databases.values() for table in tables.values())
        rules = [rule for table in tables for rule in table.values()]
        return self.tickets is not None or any(rule.has_text for rule in rules)

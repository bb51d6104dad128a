"""Masking between the source and the file, and the proof that it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from podctl.capture.schema import Edge, Table
from podctl.errors import SpecError
from podctl.masking.columns import Column, check_joins
from podctl.masking.keys import KeyFile
from podctl.masking.prf import MASKING_VERSION
from podctl.masking.proof import attest, policy_digest
from podctl.masking.table import table_masker, text_last
from podctl.masking.watch import Knowledge, Watch
from podctl.spec.capture import Capture
from podctl.spec.load import load_model
from podctl.spec.masking import Masking
from podctl.spec.models import Tickets
from podctl.tickets.masked import as_row, mask_tickets, plain
from podctl.tickets.types import Ticket

#: Masks whole lines of COPY text.
Masker = Callable[[bytes], bytes]


class RowMasking(Protocol):
    """How rows are masked on their way. ``facts`` is part of the seed's digest."""

    @property
    def facts(self) -> Mapping[str, str]: ...

    def maskers(self, tables: Sequence[Table], edges: Iterable[Edge]) -> Mapping[str, Masker]:
        """Table -> its masker, in the order that tables are to be masked in. Raises `MaskingProblem`."""
        ...

    def known(self, table: Table) -> Mapping[str, bool]:
        """Column -> whether its values come as they are, or masked; those that become nothing, or one and the same, are left out."""
        ...

    @property
    def ids(self) -> Mapping[str, str]:
        """Ids of tickets that are others once `tickets` has masked them."""
        ...

    def tickets(self, drawn: Sequence[Ticket], source: Tickets) -> Mapping[str, str]:
        """Files for the seed that have the tickets masked, once every row is; none without rules for tickets."""
        ...

    def attest(self, seed: Path, also: Sequence[Path], facts: dict[str, Any]) -> None:
        """Search ``seed`` and ``also`` for raw values, and sign that there are none. Raises `MaskingProblem`."""
        ...


class Unmasked:
    """Rows as they are, for a reason that stands in the seed."""

    def __init__(self, reason: str) -> None:
        self.facts = {"unmasked": reason}
        self.ids: Mapping[str, str] = {}

    def maskers(self, tables: Sequence[Table], edges: Iterable[Edge]) -> Mapping[str, Masker]:
        return {table.shown: bytes for table in tables}

    def known(self, table: Table) -> Mapping[str, bool]:
        return dict.fromkeys((column.name for column in table.stored), True)

    def tickets(self, drawn: Sequence[Ticket], source: Tickets) -> Mapping[str, str]:
        return {}

    def attest(self, seed: Path, also: Sequence[Path], facts: dict[str, Any]) -> None:
        return


class Masked:
    """Rows masked by a policy. Raises `SpecError` when the policy or its key cannot be used."""

    def __init__(self, database: str, policy: Masking, key: KeyFile, seed: Path, known: Knowledge | None = None) -> None:
        self._database, self._policy = database, policy
        self._key, self._signing = key.read(seed)
        self._watch = Watch(known)
        self.ids: dict[str, str] = {}
        self.facts = {"policy": policy_digest(policy), "key": self._key.id, "version": str(MASKING_VERSION)}

    def maskers(self, tables: Sequence[Table], edges: Iterable[Edge]) -> Mapping[str, Masker]:
        by_name = {table.shown: table for table in tables}
        maskers = {
            name: table_masker(self._policy, self._key, self._database, name, _columns(by_name[name]), self._watch)
            for name in text_last(self._policy, self._database, list(by_name))
        }
        joins = [(self._database, one.child, one.columns, one.parent, one.to) for one in edges]
        check_joins(self._policy, [join for join in joins if join[1] in by_name and join[3] in by_name])
        return maskers

    def known(self, table: Table) -> Mapping[str, bool]:
        rules = self._policy.rules(self._database, table.shown)
        return {name: rule.mask == "keep" for name, rule in rules.items() if rule.mask not in ("erase", "constant")}

    def tickets(self, drawn: Sequence[Ticket], source: Tickets) -> Mapping[str, str]:
        if self._policy.tickets is None:
            return {}
        masked, shape = list(mask_tickets(drawn, self._policy, self._key, self._watch)), plain(source.fields)
        self.ids = {raw.id: one.id for raw, one in zip(drawn, masked, strict=True)}
        rows = "".join(json.dumps(as_row(ticket, shape), ensure_ascii=False) + "\n" for ticket in masked)
        spec = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": source.name, "source": "tickets.jsonl"}
        fields = shape.model_dump(mode="json", exclude_defaults=True)
        return {"tickets.jsonl": rows, "tickets.yaml": yaml.safe_dump({**spec, "fields": fields}, sort_keys=False)}

    def attest(self, seed: Path, also: Sequence[Path], facts: dict[str, Any]) -> None:
        attest(seed, self._policy, self._key, self._signing, self._watch, also=also, facts=facts)


def masking_of(spec: Capture, key: Path | None, seed: Path, known: Knowledge | None = None) -> RowMasking:
    """What a Capture file says of masking; ``seed`` is where the seed will be, which no key may be in; captures that are made
    together share what is ``known``. Raises `SpecError`."""
    if spec.masking is not None:
        policy = load_model(spec.masking, Masking)
        if spec.tickets is not None:
            _tickets_are_masked_or_not(policy, spec.tickets.unmasked.strip(), spec.masking.name)
        return Masked(spec.name, policy, KeyFile.of(policy.name, key), seed, known)
    if spec.unmasked.strip():
        return Unmasked(spec.unmasked.strip())
    raise SpecError(
        "nothing says how the rows are masked",
        code="capture-unmasked",
        unchanged="nothing was read",
        hint="masking: with a Masking file, or unmasked: with the reason why nothing has to be",
    )


def _tickets_are_masked_or_not(policy: Masking, unmasked: str, name: str) -> None:
    if policy.tickets is None and not unmasked:
        raise SpecError(
            f"{name} says nothing of the tickets",
            code="capture-tickets-unmasked",
            cause="agents would read them as they are, while the rows that they speak of are masked",
            unchanged="nothing was read",
            hint="podctl data classify proposes their rules; or tickets.unmasked: with the reason why nothing has to be masked",
        )
    if policy.tickets is not None and unmasked:
        raise SpecError(
            f"{name} has rules for tickets, and tickets.unmasked is given",
            code="capture-tickets-unmasked",
            unchanged="nothing was read",
            hint="keep one of them",
        )


def _columns(table: Table) -> list[Column]:
    # A type of an extension is known by its name, wherever it was installed.
    return [Column(one.name, one.type.rpartition(".")[2], one.nullable, one.unique) for one in table.stored]

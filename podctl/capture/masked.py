"""Masking between the source and the file, and the proof at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podctl.capture.schema import Edge, Table
from podctl.masking.columns import check_joins
from podctl.masking.keys import KeyFile, MaskingKey, SigningKey
from podctl.masking.prf import MASKING_VERSION
from podctl.masking.proof import attest, policy_digest
from podctl.masking.table import Column, Watch, table_masker, text_last
from podctl.spec.capture import Capture
from podctl.spec.load import load_model
from podctl.spec.masking import Masking as Policy

#: Masks whole lines of COPY text.
Masker = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Masking:
    """One capture's policy and keys, and what it has masked so far."""

    database: str
    policy: Policy
    key: MaskingKey
    signer: SigningKey
    watch: Watch = field(default_factory=Watch)

    @property
    def facts(self) -> dict[str, str]:
        """What of it is part of the seed's digest."""
        return {"policy": policy_digest(self.policy), "key": self.key.id, "version": str(MASKING_VERSION)}

    def masker(self, table: Table) -> Masker:
        """Raises `MaskingProblem` for a column without a rule."""
        columns = [Column(one.name, one.type, one.nullable, one.unique) for one in table.stored]
        return table_masker(self.policy, self.key, self.database, table.shown, columns, self.watch)

    def order(self, tables: Sequence[str]) -> list[str]:
        """Tables with text last: it is searched for the values of the others."""
        return text_last(self.policy, self.database, tables)

    def check(self, edges: Iterable[Edge]) -> None:
        """Raises `MaskingProblem` for references that no row would find any more."""
        check_joins(self.policy, [(self.database, edge.child, edge.columns, edge.parent, edge.to) for edge in edges])

    def prove(self, seed: Path, facts: dict[str, Any]) -> None:
        """Search the seed's files for raw values and write its signed statement. Raises `MaskingProblem`."""
        attest(seed, self.policy, self.key, self.signer, self.watch, facts=facts)


def masking_of(spec: Capture, key_file: Path | None, target: Path) -> Masking:
    """``key_file``: None for the policy's own in the user's configuration directory. Raises `SpecError`."""
    assert spec.masking is not None
    policy = load_model(spec.masking, Policy)
    key, signer = KeyFile.of(policy.name, key_file).read(seed=target)
    return Masking(spec.name, policy, key, signer)

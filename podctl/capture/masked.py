"""Masking between the source and the file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from podctl.capture.capturing import Masker, Masking
from podctl.capture.schema import Table
from podctl.errors import SpecError
from podctl.masking.keys import MaskingKey
from podctl.masking.table import Column, table_masker
from podctl.spec.capture import Capture
from podctl.spec.load import load_model
from podctl.spec.masking import Masking as Policy


def masked_with(spec: Capture, key_file: Path | None) -> tuple[Masking, dict[str, str]]:
    """Each table's masker by the capture's policy; and what of it is part of the seed's digest. Raises `SpecError`."""
    assert spec.masking is not None
    policy = load_model(spec.masking, Policy)
    key = _key(key_file)

    def masking(table: Table) -> Masker:
        columns = [Column(one.name, one.type, one.nullable, one.unique) for one in table.stored]
        return table_masker(policy, key, spec.name, table.shown, columns)

    return masking, {"policy": hashlib.sha256(spec.masking.read_bytes()).hexdigest(), "key": key.id}


def _key(path: Path | None) -> MaskingKey:
    if path is None:
        raise SpecError("no masking key was given", code="masking-key", hint="--key FILE, or PODCTL_MASKING_KEY")
    try:
        secret = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} holds no masking key", code="masking-key", cause=str(error)) from error
    return MaskingKey(secret)

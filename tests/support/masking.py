"""A masking, a key and a table's masker in a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podctl.masking.keys import MaskingKey
from podctl.masking.table import Column, Watch, table_masker
from podctl.spec.masking import Masking

KEY = MaskingKey(bytes(range(32)))


def masking(rules: dict[str, Any] | None = None, **more: Any) -> Masking:
    """Of the table ``people`` in the database ``shop``."""
    head = {"apiVersion": "podctl/v1", "kind": "Masking", "name": "shop"}
    return Masking.model_validate({**head, "databases": {"shop": {"people": rules or {}}}, **more})


def masker(
    rules: dict[str, Any],
    types: dict[str, str] | None = None,
    *,
    key: MaskingKey = KEY,
    watch: Watch | None = None,
    **more: Any,
) -> Callable[[bytes], bytes]:
    """Of ``people`` with the rules' columns, text where ``types`` says nothing else."""
    columns = [Column(name, (types or {}).get(name, "text")) for name in rules]
    return table_masker(masking(rules, **more), key, "shop", "people", columns, watch)


def masked(rule: Any, *values: str, type: str = "text", key: MaskingKey = KEY) -> list[str]:
    """Each value of one column, masked; values without characters that COPY escapes."""
    rows = "".join(f"{value}\n" for value in values).encode()
    return masker({"value": rule}, {"value": type}, key=key)(rows).decode().splitlines()

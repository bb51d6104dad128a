"""Rows of a Parquet file, as JSON would have them; pyarrow is an extra, for it is larger than all the rest of podctl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podctl.errors import EnvironmentProblem, SpecError
from podctl.tickets.plain import Unfit, plain_value
from podctl.tickets.rows import MAX_SOURCE, problem

#: Rows decoded at once: few, for a value that a small file repeats is as long each time.
_BATCH = 16


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Raises `SpecError` for what is no Parquet file and for more than `MAX_SOURCE` of values, however small the file."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EnvironmentProblem(
            "reading Parquet needs pyarrow, which is not installed",
            code="extra-missing",
            unchanged="nothing was read",
            hint="pip install 'podctl[parquet]'",
        ) from error
    size = number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = (file.metadata.row_group(index) for index in range(file.num_row_groups))
            if sum(group.total_byte_size for group in groups) > MAX_SOURCE:
                raise _too_large(path)
            for batch in file.iter_batches(batch_size=_BATCH):
                if batch.nbytes > MAX_SOURCE:
                    raise _too_large(path)
                for row in batch.to_pylist():
                    number += 1
                    values = _row(row, path, number)
                    size += len(json.dumps(values))
                    if size > MAX_SOURCE:
                        raise _too_large(path)
                    yield values
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise problem(
            path, "", "not a Parquet file that can be read", str(error).splitlines()[0][:200] if str(error) else ""
        ) from error


def _too_large(path: Path) -> SpecError:
    return problem(path, "", f"unpacked it is larger than {MAX_SOURCE >> 20} MiB", "draw from it beforehand, or split it")


def _row(row: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    try:
        return {name: plain_value(value, name) for name, value in row.items()}
    except Unfit as error:
        raise problem(path, f"row {number}", str(error)) from error

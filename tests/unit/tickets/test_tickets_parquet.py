"""Parquet: the same tickets as from other files, bounded however small the file is."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from podctl.errors import SpecError
from podctl.spec.models import Tickets
from podctl.tickets.rows import read_rows
from podctl.tickets.sources import load_tickets


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_values_are_as_json_has_them(tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
    row = {"id": 1, "n": decimal.Decimal("1.50"), "at": moment, "tags": ["a"], "in": {"x": None}, "nan": float("nan")}
    (read,) = read_rows(written(tmp_path / "t.parquet", [row]))
    assert read.values == {
        "id": 1,
        "n": "1.50",
        "at": "2026-03-01T12:30:00+00:00",
        "tags": ["a"],
        "in": {"x": None},
        "nan": None,
    }


def test_tickets_come_from_parquet(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", [{"id": n, "q": {"name": f"q{n % 2}"}} for n in range(2000)])
    spec = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": "t", "source": path, "fields": {"stratum": "q.name"}}
    tickets = load_tickets(Tickets.model_validate(spec))
    assert [(ticket.id, ticket.stratum) for ticket in tickets[:3]] == [("0", "q0"), ("1", "q1"), ("2", "q0")]
    assert len(tickets) == 2000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a Parquet file"),
        (b"PAR1" + b"\0" * 100 + b"PAR1", "not a Parquet file"),
        ([{"id": 1, "b": b"x"}], "row 1: the column 'b' holds bytes"),
        ([{"id": 1, "b": "a\0b"}], "NUL"),
        ([], "there are no tickets in it"),
    ],
)
def test_what_is_no_ticket_file_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "t.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        written(path, content)
    with pytest.raises(SpecError) as caught:
        read_rows(path)
    assert said in caught.value.render()


@pytest.mark.campaign
def test_a_small_file_that_unpacks_to_much_is_refused_before_memory_is_full(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", [{"id": "x" * 1_000_000}] * 400)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(SpecError, match="unpacked it is larger than 256 MiB"):
        read_rows(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", [{"id": str(n), "text": f"words {n}"} for n in range(5000)])
    whole = path.read_bytes()
    for at in range(7, len(whole), len(whole) // 23):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_rows(path)
        except SpecError as error:
            assert "t.parquet" in error.what


def test_without_the_extra_it_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    # An interpreter that cannot import pyarrow, as one without the extra.
    script = "import sys; sys.modules['pyarrow'] = None\nfrom pathlib import Path\nfrom podctl.tickets.rows import read_rows\nread_rows(Path('t.parquet'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert "reading Parquet needs pyarrow, which is not installed" in done.stderr

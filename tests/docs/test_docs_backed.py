"""Every line of the failure modes and of the threat model is backed by tests, or checks of the escape suite, that exist."""

from __future__ import annotations

import ast
import re

import pytest
from doc_pages import ROOT, text

from podctl.backends.escape.checks import CHECKS

#: Page -> the columns of its tables that are backed. What backs them stands in the last.
COLUMNS = {
    "failure-modes.md": ["what happens", "what is kept, what is left", "what to type", "tests"],
    "threat-model.md": ["promise", "guaranteed only if", "checks"],
}


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def tables(page: str) -> list[list[list[str]]]:
    """Each table's rows, headings first."""
    found = re.findall(r"(?:^\|.*\n)+", text(ROOT / "docs" / page), re.MULTILINE)
    return [[cells(row) for row in table.splitlines() if set(row) - set("|- ")] for table in found]


def backed(page: str) -> list[list[str]]:
    return [row for head, *rows in tables(page) if head == COLUMNS[page] for row in rows]


def test_no_table_of_the_failure_modes_goes_unbacked() -> None:
    assert all(head == COLUMNS["failure-modes.md"] for head, *_ in tables("failure-modes.md"))


@pytest.mark.parametrize("page", COLUMNS)
def test_every_line_has_all_its_columns(page: str) -> None:
    rows = backed(page)
    assert len(rows) > 10
    optional = COLUMNS[page].index("guaranteed only if") if page == "threat-model.md" else None
    assert [row for row in rows if len(row) != len(COLUMNS[page])] == []
    assert [row for row in rows if not all(cell for at, cell in enumerate(row) if at != optional)] == []


@pytest.mark.parametrize("row", [row for page in COLUMNS for row in backed(page)], ids=lambda row: row[0])
def test_a_line_names_what_exists(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[-1])
    assert named, "nothing backs this line"
    for name in named:
        path, _, function = name.partition("::")
        if not function:
            assert name in CHECKS, f"the escape suite has no check {name}"
            continue
        assert (ROOT / "tests" / path).is_file(), f"there is no tests/{path}"
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in defined, f"tests/{path} has no {function}"

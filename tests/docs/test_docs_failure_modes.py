"""Every line of the failure modes is backed by tests that exist."""

from __future__ import annotations

import ast
import re

import pytest
from doc_pages import ROOT, text

PAGE = ROOT / "docs" / "failure-modes.md"
HEADINGS = ["what happens", "what is kept, what is left", "what to type", "tests"]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def table_rows() -> list[list[str]]:
    lines = [cells(line) for line in text(PAGE).splitlines() if line.startswith("|")]
    return [line for line in lines if line != HEADINGS and set("".join(line)) != {"-"}]


def named_tests(row: list[str]) -> list[str]:
    return re.findall(r"`([^`]+)`", row[-1])


def test_every_table_has_the_same_columns() -> None:
    headings = [cells(line) for line in re.findall(r"^(\|.*)\n\|-", text(PAGE), re.MULTILINE)]
    assert headings and all(heading == HEADINGS for heading in headings)
    assert [row for row in table_rows() if len(row) != len(HEADINGS) or not all(row)] == []


@pytest.mark.parametrize("row", table_rows(), ids=lambda row: row[0])
def test_a_line_names_tests_that_exist(row: list[str]) -> None:
    named = named_tests(row)
    assert named, "no test backs this line"
    for test in named:
        path, _, function = test.partition("::")
        assert (ROOT / "tests" / path).is_file(), f"there is no tests/{path}"
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in defined, f"tests/{path} has no {function}"

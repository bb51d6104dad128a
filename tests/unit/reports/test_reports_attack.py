"""Reports of an attack campaign: what attackers wrote stands in them and does nothing."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from example_attack import attacked
from example_run import run_saying

from podctl.reports.html import render_html
from podctl.reports.jsonreport import render_json
from podctl.reports.junit import render_junit
from podctl.reports.markdown import render_markdown
from podctl.reports.model import Report, build_report
from podctl.reports.terminal import render_terminal

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e'; DROP TABLE t; --]]>{{ 7 * 7 }}\U000e0041"


def report() -> Report:
    return build_report(attacked(run_saying(HOSTILE), HOSTILE))


def test_a_page_shows_what_was_planted_and_runs_none_of_it() -> None:
    page = render_html(report())
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page and "\U000e0041" not in page
    assert "Under attack" in page and "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page
    ElementTree.fromstring(page.split("\n", 1)[1].replace("<!DOCTYPE html>", ""))


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_is_told_no_escape(width: int) -> None:
    shown = render_terminal(report(), paths={}, width=width)
    assert "\x1b" not in shown and "\u202e" not in shown and "\U000e0041" not in shown
    assert "harmed  0-2" in shown and "1 of 3" in shown


def test_markdown_is_inert_and_json_says_all() -> None:
    text = render_markdown(report())
    assert "Under attack" in text and "\x1b" not in text
    assert all("<script" not in line or line.count("`") >= 2 for line in text.splitlines())
    whole = json.loads(render_json(report()))["attack"]
    assert whole["success"]["harmed"]["count"] == 1 and whole["cases"][0]["outcome"] == "harmed"
    assert "clusters" not in whole["success"]["harmed"]


def test_junit_has_a_case_for_each_attacked_attempt() -> None:
    root = ElementTree.fromstring(render_junit(report()).split("\n", 1)[1])
    [suite] = [one for one in root if one.get("name") == "attack"]
    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")

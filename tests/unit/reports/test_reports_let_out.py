"""Honeytokens that were let out stand in every report, with the tickets, and cannot do anything there."""

from __future__ import annotations

import json
from dataclasses import replace

from example_run import attempt, run_saying

from podctl.reports.html import render_html
from podctl.reports.jsonreport import render_json
from podctl.reports.model import build_report
from podctl.reports.terminal import render_terminal

OUT = "variable ADMIN_TOKEN in call of <b>mail</b>"


def test_what_was_let_out_is_told_once_with_its_tickets() -> None:
    out = [attempt(f"T-{n}", id=f"{n}-1", honeytokens=(OUT,)) for n in range(7)]
    kept = attempt("T-9", id="9-1", honeytokens=())
    report = build_report(replace(run_saying("x"), attempts=(*out, kept)))
    page, shown = render_html(report), render_terminal(report, paths={}, width=120)
    assert "Honeytokens let out" in page and "<b>mail" not in page and "&lt;b&gt;mail" in page
    assert "T-4 and 2 more" in page and "T-9" not in page.split("Honeytokens let out")[1].split("</section>")[0]
    assert "honeytokens let out:" in shown and "7" in shown.split("honeytokens let out:")[1].split("kind of ticket")[0]
    [told] = json.loads(render_json(report))["let_out"]
    assert (told["what"], told["count"], len(told["tickets"])) == (OUT, 7, 7)


def test_where_none_was_let_out_there_is_no_table() -> None:
    report = build_report(replace(run_saying("x"), attempts=(attempt("T-1", honeytokens=()),)))
    assert "Honeytokens let out" not in render_html(report) and "let out" not in render_terminal(report, paths={}, width=120)

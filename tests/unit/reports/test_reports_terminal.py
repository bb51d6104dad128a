"""What a terminal, a log file and a bare locale get to see."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from example_run import example_comparison, example_run, run_saying
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.clock import ManualClock
from podctl.reports.model import build_report
from podctl.reports.progress import Progress, ProgressEvent, Running, plain_line
from podctl.reports.terminal import render_terminal, write_summary

ROOT = Path(__file__).parents[3]


def stream(encoding: str) -> tuple[io.BytesIO, io.TextIOWrapper]:
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding=encoding, errors="strict", write_through=True)


def test_the_summary_has_what_a_reader_needs_first() -> None:
    text = render_terminal(build_report(example_comparison()), paths={"report": Path("/tmp/run/report.html")})
    lines = text.splitlines()
    assert lines[0].startswith("✕ support-agent 2.1.0 failed: it resolved 37 of 46 tickets")
    assert lines[-1] == "report: /tmp/run/report.html"
    assert "? inconclusive" in text
    assert "baseline: support-agent 2.0.3" in text
    assert "apart: 2 ended by infrastructure" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [40, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = render_terminal(build_report(example_comparison()), paths={}, width=width)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_locale_without_utf_8_gets_stand_ins(encoding: str) -> None:
    raw, out = stream(encoding)
    write_summary(build_report(example_comparison()), out, paths={"report": Path("/tmp/ü/report.html")})
    text = raw.getvalue().decode(encoding)
    assert ">= 90 %" in text
    assert "x failed" in text
    assert "67-89 %" in text or "67–89 %" in text


def test_columns_line_up_in_ascii() -> None:
    text = render_terminal(build_report(example_comparison()), paths={}, encoding="ascii")
    rows = [line for line in text.splitlines() if line.count("|") == 3]
    assert len(rows) == 7
    assert len({tuple(i for i, c in enumerate(row) if c == "|") for row in rows}) == 1


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(), min_size=1, max_size=25))
def test_no_text_moves_the_cursor(text: str) -> None:
    shown = render_terminal(build_report(run_saying(text)), paths={})
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_simulated_comes_before_the_verdict() -> None:
    assert render_terminal(build_report(example_run(simulated=True)), paths={}).startswith("SIMULATED")


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_colour_on_a_terminal_unless_it_is_not_wanted(no_color: str, colored: bool) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/support')\n"
        "from example_run import example_run\n"
        "from podctl.reports.model import build_report\n"
        "from podctl.reports.terminal import write_summary\n"
        "write_summary(build_report(example_run()), sys.stdout)\n"
    )
    leader, follower = pty.openpty()
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=follower, cwd=ROOT, env=environment)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:
        pass  # Linux reports the closed other side as an error.
    finally:
        os.close(leader)
    assert process.wait(20) == 0
    assert b"resolved" in shown
    assert (b"\x1b[1;31m" in shown) == colored
    assert (b"\x1b" in shown) == colored


def event(done: int, **fields: object) -> ProgressEvent:
    values: dict[str, object] = {
        "pods_ready": 2, "pods": 2, "attempts_done": done, "attempts_total": 48, "passed": done - 1, "spent": Decimal("0.31"),
        "budget": Decimal(25), "eta": 130.0, "running": (Running("pod-0", "T-7", 3.0), Running("pod-1", "T-8", 9.5)), **fields,
    }  # fmt: skip
    return ProgressEvent(**values)  # type: ignore[arg-type]


def test_a_plain_line_says_it_all() -> None:
    assert plain_line(event(12)) == (
        "attempts 12/48, 11 passed, pods 2/2, spent $0.31 of $25.00, 2 tickets in work, the longest T-8 for 9.5 s, about 2 min 10 s left"
    )
    assert "spent unknown, " in plain_line(event(12, spent=None, budget=None)) + ", "


def test_a_log_gets_a_line_every_few_seconds_and_the_last_one() -> None:
    out, clock = io.StringIO(), ManualClock()
    with Progress(out, clock, every_s=5) as progress:
        for done in range(1, 49):
            progress.update(event(done))
            clock.advance(1)
        progress.update(event(48))
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"attempts {n}/48" for n in (1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 48)]
    assert "\x1b" not in out.getvalue()


def test_a_log_in_ascii_survives_any_ticket() -> None:
    raw, out = stream("ascii")
    with Progress(out, ManualClock()) as progress:
        progress.update(event(1, running=(Running("pod-0", "漢\x1b[2J\ud800", 3.0),)))
        progress.message("pod-1 was replaced – its server was gone")
    assert raw.getvalue().decode("ascii").count("\n") == 2
    assert b"\x1b" not in raw.getvalue()


def test_the_live_display_shows_running_tickets_and_leaves_nothing_behind() -> None:
    raw, out = stream("utf-8")
    with Progress(out, ManualClock(), live=True) as progress:
        progress.update(event(12, running=tuple(Running(f"pod-{i}", f"T-{i}\x1b[31m", float(i)) for i in range(20))))
        progress.message("pod-3 was replaced")
    shown = raw.getvalue().decode()
    assert "pod-19" in shown
    assert "and 12 more" in shown
    assert "␛[31m" in shown
    assert "pod-3 was replaced" in shown

"""Every page in a real browser: it fits a phone, prints whole, asks the network for nothing, and axe-core finds nothing.

Needs Chromium: `apt-get install chromium` on Debian. Without it these tests are skipped. It is started once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from example_attack import attacked
from example_projection import example_projection, projection_saying
from example_run import example_comparison, example_records, example_run, info, run_saying, timeline_saying
from example_trend import example_trend
from playwright.sync_api import Browser, Page, sync_playwright

from podctl.evidence.audit_check import LogCheck, RunCheck
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, RunResult
from podctl.evidence.store_rows import RunSummary
from podctl.reports.comparison import render_comparison
from podctl.reports.html import render_html
from podctl.reports.index import render_index
from podctl.reports.leadership import render_leadership
from podctl.reports.model import build_report
from podctl.reports.suite import render_suite
from podctl.reports.timeline import timeline
from podctl.reports.trend import render_trend
from podctl.review.facts import Facts, Tried
from podctl.review.page import review_html
from podctl.review.questions import answers
from podctl.stats.side_by_side import side_by_side
from podctl.stats.standing import CaseFacts, standing

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium: apt-get install chromium")
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
PHONE, TABLET, DESKTOP, A4 = 360, 800, 1280, 794
WORD = "unbreakable" * 40


def run_page() -> str:
    report = build_report(
        attacked(example_comparison()),
        lambda attempt_id: timeline(example_records(attempt_id, 12)),
        reproduce_command="podctl run scenarios/shop-refunds.yaml --seed 1",
    )
    return render_html(report)


def leadership_page() -> str:
    return render_leadership(example_comparison(), example_projection(), command="podctl project latest --volume volume.yaml")


def comparison_page() -> str:
    runs = [example_run(id=f"run-{seed}", seed=seed, version=f"{seed}.0", quirks=seed > 1) for seed in (1, 2, 3)]
    return render_comparison(side_by_side([lambda run=run: run for run in runs]), "podctl compare run-1 run-2 run-3")


def trend_page() -> str:
    return render_trend(example_trend(), "podctl trend")


def long_run_page() -> str:
    return render_html(
        build_report(attacked(run_saying(WORD), WORD), lambda _: timeline(timeline_saying(WORD)), reproduce_command=WORD)
    )


def long_leadership_page() -> str:
    run = run_saying(WORD)
    return render_leadership(run, replace(projection_saying(WORD), run=run.info.id), [WORD], WORD)


def long_comparison_page() -> str:
    return render_comparison(side_by_side([lambda: run_saying(WORD), lambda: run_saying(WORD)]), WORD)


def index_of(run: RunResult) -> str:
    infos = [replace(run.info, id=f"r-{n}", started_ns=run.info.started_ns - n) for n in range(40)]
    runs = [RunSummary(info, run.status, run.verdict, run.spent_dollars, 48, 48, 40) for info in infos]
    return render_index(runs, {info.id: [(1, 1), (0, 1)] for info in infos}, {info.id: "runs/r.html" for info in infos})


def suite_page() -> str:
    cases = [CaseFacts(f"T-{number}", f"T-{number}", "failed" if number % 2 else "attacked", 0) for number in range(12)]
    runs = [
        (info(agent_version=f"{version}.0", agent_digest=str(version) * 64, started_ns=version), _of_cases(version))
        for version in (1, 2, 3)
    ]
    return render_suite(standing("refunds", cases, runs, proposed=2), "podctl suite show suites/refunds")


def _of_cases(version: int) -> list[AttemptResult]:
    return [
        AttemptResult(str(number), f"T-{number}", "q", 1, number, Cause.COMPLETED, number % 4 < version) for number in range(12)
    ]


def review_page() -> str:
    made = example_run()
    log = LogCheck("log", 3, bytes(32), ())
    tried = [Tried("fork", "have more processes than the limit", "PASS"), Tried("bpf", "load BPF", "LIMITATION")]
    facts = Facts(made, RunCheck(made.info.id, (), ()), log, [], escape=tried, escape_day="2026-01-01", why="they are gone")
    return review_html(facts, answers(facts))


PAGES: dict[str, Callable[[], str]] = {
    "run": run_page,
    "leadership": leadership_page,
    "comparison": comparison_page,
    "trend": trend_page,
    "suite": suite_page,
    "review": review_page,
    "index": lambda: index_of(example_run()),
}
LONG = {
    "run": long_run_page,
    "leadership": long_leadership_page,
    "comparison": long_comparison_page,
    "index": lambda: index_of(run_saying(WORD)),
}


@cache
def made(name: str, long: bool = False) -> str:
    return (LONG if long else PAGES)[name]()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(
    browser: Browser, tmp_path: Path, html: str, width: int = DESKTOP, **context: Any
) -> Iterator[tuple[Page, list[str]]]:
    """The page from a file, and what it said on the console."""
    (tmp_path / "page.html").write_text(html, "utf-8")
    session = browser.new_context(viewport={"width": width, "height": 900}, **context)
    page, said = session.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    try:
        yield page, said
    finally:
        session.close()


def unfold(html: str) -> str:
    return html.replace("<details>", '<details open="">')


@pytest.mark.parametrize("name", PAGES)
def test_it_is_rendered_and_says_nothing_on_the_console(browser: Browser, tmp_path: Path, name: str) -> None:
    with opened(browser, tmp_path, made(name)) as (page, said):
        picture = page.screenshot(full_page=True)
        assert page.inner_text("h1").strip()
        assert said == []
    assert len(picture) > 40_000


def test_the_console_is_listened_to(browser: Browser, tmp_path: Path) -> None:
    beacon = '<img src="http://127.0.0.1:9/x.png" /></main>'
    with opened(browser, tmp_path, made("trend").replace("</main>", beacon)) as (_, said):
        assert "Content Security Policy" in "".join(said)


TOO_WIDE = """
width => {
  const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width + 0.5 && !e.closest("thead"));
  return [document.documentElement.scrollWidth, wide.slice(0, 3).map(e => e.outerHTML.slice(0, 90))];
}
"""


@pytest.mark.parametrize(("name", "long"), [*((name, False) for name in PAGES), *((name, True) for name in LONG)])
def test_nothing_overflows_sideways(browser: Browser, tmp_path: Path, name: str, long: bool) -> None:
    with opened(browser, tmp_path, unfold(made(name, long)), PHONE) as (page, _):
        for width in (PHONE, TABLET, DESKTOP):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(TOO_WIDE, width) == [width, []]


def violations(page: Page, **options: Any) -> list[str]:
    """What axe-core finds wrong, by rule, with the first element each."""
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.evaluate(AXE)
    found = page.evaluate("options => axe.run(document, {resultTypes: ['violations'], ...options})", options)
    assert found["passes"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found["violations"]]


@pytest.mark.parametrize(
    "name", [name if name in ("run", "review") else pytest.param(name, marks=pytest.mark.campaign) for name in PAGES]
)
def test_axe_finds_nothing(browser: Browser, tmp_path: Path, name: str) -> None:
    """Structure once, on a phone; contrast in every theme. The page's policy would not let axe-core in."""
    with opened(browser, tmp_path, made(name), PHONE, bypass_csp=True, color_scheme="light") as (page, _):
        assert violations(page) == []
    contrast = {"runOnly": ["color-contrast"]}
    with opened(browser, tmp_path, made(name), DESKTOP, bypass_csp=True, color_scheme="dark") as (page, _):
        assert violations(page, **contrast) == []
    with opened(browser, tmp_path, made(name), A4, bypass_csp=True, color_scheme="light") as (page, _):
        page.emulate_media(media="print")
        assert violations(page, **contrast) == []


def test_axe_would_find_it(browser: Browser, tmp_path: Path) -> None:
    spoiled = made("trend").replace("--soft: #5a564d", "--soft: #bbb8b0").replace('<html lang="en">', "<html>")
    with opened(browser, tmp_path, spoiled, bypass_csp=True) as (page, _):
        found = {one.partition(":")[0] for one in violations(page)}
    assert {"color-contrast", "html-has-lang"} <= found


def printed(browser: Browser, tmp_path: Path, html: str) -> int:
    """Sheets of paper."""
    with opened(browser, tmp_path, html) as (page, _):
        return len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))


def test_on_paper_every_detail_is_open(browser: Browser, tmp_path: Path) -> None:
    html = made("run")
    sheets = printed(browser, tmp_path, html)
    assert sheets == printed(browser, tmp_path, unfold(html))
    assert sheets > printed(browser, tmp_path, html.replace("details::details-content", "details::no-such-part")) + 3


def test_the_decision_is_on_the_first_sheet(browser: Browser, tmp_path: Path) -> None:
    html = made("leadership")
    short = re.sub(r"(?s)<section>\n<h2>Where the money goes.*</section>\n", "", html)
    assert "In short" in short and printed(browser, tmp_path, short) == 1
    assert printed(browser, tmp_path, html) <= 4


@contextmanager
def noting() -> Iterator[tuple[int, list[str]]]:
    """A proxy on loopback that only takes notes; yields its port and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(502)

        do_CONNECT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked_by(browser: Browser, tmp_path: Path, html: str) -> list[str]:
    """Requests that loading the page makes, everything but file: going through the proxy."""
    with noting() as (port, asked):
        proxy = {"server": f"http://127.0.0.1:{port}", "bypass": "<-loopback>"}
        with opened(browser, tmp_path, html, proxy=proxy) as (page, _):
            page.wait_for_load_state("networkidle")
        return asked


@pytest.mark.parametrize("name", PAGES)
def test_it_asks_the_network_for_nothing(browser: Browser, tmp_path: Path, name: str) -> None:
    assert asked_by(browser, tmp_path, made(name)) == []
    beacon = '<img src="http://tracker.example/x.png" /></main>'
    assert asked_by(browser, tmp_path, made(name).replace("</main>", beacon)) == []
    without_policy = re.sub(r"<meta http-equiv=[^>]*>", "", made(name))
    assert asked_by(browser, tmp_path, without_policy.replace("</main>", beacon)) == ["http://tracker.example/x.png"]

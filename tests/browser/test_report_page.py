"""The report in a real browser: it fits a phone, prints whole, and asks the network for nothing.

Needs Chromium: `apt-get install chromium` on Debian. Without it these tests are skipped.
"""

from __future__ import annotations

import re
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from example_run import example_comparison, example_records, run_saying, timeline_saying

from podctl.reports.html import render_html
from podctl.reports.model import build_report
from podctl.reports.timeline import timeline

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium: apt-get install chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def chromium(tmp_path: Path, *arguments: str) -> str:
    """What it printed; a fresh profile each time."""
    profile = tmp_path / "profile"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@contextmanager
def serving(pages: dict[str, str]) -> Iterator[tuple[int, list[str]]]:
    """A loopback server for the pages; yields its port and the request lines it got, as a proxy's too."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = pages.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(502)

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


def realistic() -> str:
    report = build_report(
        example_comparison(),
        lambda attempt_id: timeline(example_records(attempt_id, 60)),
        reproduce_command="podctl run scenarios/shop-refunds.yaml --seed 1",
    )
    return render_html(report)


def opened(page: str) -> str:
    return page.replace("<details>", '<details open="">')


@pytest.mark.parametrize("width", [360, 1280])
def test_a_screenshot_has_the_asked_width_and_is_not_blank(tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_text(realistic(), "utf-8")
    picture = tmp_path / "page.png"
    chromium(tmp_path, f"--window-size={width},2000", f"--screenshot={picture}", (tmp_path / "report.html").as_uri())
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (width, 2000)
    assert len(data) > 60_000


HARNESS = """<!DOCTYPE html><body><iframe src="/report" style="width:{width}px;height:900px;border:0"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument;
  const wide = [...page.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > {width} + 0.5 && !e.closest("thead"));
  document.title = `scroll=${{page.documentElement.scrollWidth}} wide=${{wide.length}} ${{wide.slice(0, 3).map(e => e.outerHTML.slice(0, 80))}}`;
}};
</script>"""


@pytest.mark.parametrize("width", [360, 800, 1280])
@pytest.mark.parametrize("kind", ["realistic", "long words"])
def test_nothing_overflows_sideways(tmp_path: Path, width: int, kind: str) -> None:
    if kind == "realistic":
        page = realistic()
    else:
        word = "unbreakable" * 40
        page = render_html(build_report(run_saying(word), lambda _: timeline(timeline_saying(word)), reproduce_command=word))
    with serving({"/report": opened(page), "/": HARNESS.format(width=width)}) as (port, _):
        dom = chromium(
            tmp_path, "--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", f"http://127.0.0.1:{port}/"
        )
    found = re.search(r"<title>scroll=(\d+) wide=(\d+) (.*?)</title>", dom, re.S)
    assert found is not None, dom[:500]
    assert (int(found[1]), int(found[2])) == (width, 0), found[3]


def pages_when_printed(tmp_path: Path, page: str, name: str) -> int:
    (tmp_path / f"{name}.html").write_text(page, "utf-8")
    pdf = tmp_path / f"{name}.pdf"
    chromium(tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", (tmp_path / f"{name}.html").as_uri())
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF-")
    return len(re.findall(rb"/Type\s*/Page\b", data))


def test_on_paper_every_detail_is_open(tmp_path: Path) -> None:
    page = realistic()
    printed = pages_when_printed(tmp_path, page, "as-is")
    assert printed == pages_when_printed(tmp_path, opened(page), "opened")
    assert (
        printed > pages_when_printed(tmp_path, page.replace("details::details-content", "details::no-such-part"), "closed") + 3
    )


def asked_by(tmp_path: Path, page: str) -> list[str]:
    """Requests that loading the page makes, everything but file: going through a proxy that only takes notes."""
    (tmp_path / "report.html").write_text(page, "utf-8")
    with serving({}) as (port, asked):
        chromium(
            tmp_path, f"--proxy-server=http://127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>", "--virtual-time-budget=5000",
            f"--screenshot={tmp_path / 'page.png'}", (tmp_path / "report.html").as_uri(),
        )  # fmt: skip
        return [url for url in asked if not re.search(r"google(apis)?\.com|gvt1\.com", url)]


def test_it_asks_the_network_for_nothing(tmp_path: Path) -> None:
    assert asked_by(tmp_path, realistic()) == []
    beacon = '<img src="http://tracker.example/x.png" /></main>'
    assert asked_by(tmp_path, realistic().replace("</main>", beacon)) == []
    without_policy = re.sub(r"<meta http-equiv=[^>]*>", "", realistic())
    assert asked_by(tmp_path, without_policy.replace("</main>", beacon)) == ["http://tracker.example/x.png"]

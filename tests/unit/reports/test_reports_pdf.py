"""PDFs: whole, on A4, with their text, and nothing is fetched while they are made."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pypdfium2
import pytest
from example_projection import example_projection
from example_run import example_comparison

from podctl.errors import EnvironmentProblem
from podctl.reports.files import write_pages
from podctl.reports.leadership import render_leadership
from podctl.reports.pdf import render_pdf, renderer

A4_POINTS = (595, 842)

try:
    renderer()
except EnvironmentProblem as problem:
    # The package is there with the others that tests need; a library that it loads may not be.
    pytestmark = pytest.mark.skip(reason=f"no PDF was tried: {problem.hint}")


def test_the_page_is_there_as_text_on_a4() -> None:
    document = pypdfium2.PdfDocument(render_pdf(render_leadership(example_comparison(), example_projection())))
    texts = [sheet.get_textpage().get_text_range() for sheet in document]
    assert {tuple(map(round, sheet.get_size())) for sheet in document} == {A4_POINTS}
    assert len(texts) <= 4
    assert "up to $3,406" in texts[0] and "Assumptions" in texts[0]
    assert "How it was made" in texts[-1]


def test_charts_have_their_colours() -> None:
    """Bars are not the black that a renderer without the style sheet would draw."""
    document = pypdfium2.PdfDocument(render_pdf(render_leadership(example_comparison(), example_projection())))
    colours = {colour for sheet in document for _, colour in sheet.render(scale=1).to_pil().convert("RGB").getcolors(1 << 20)}
    blue = (153, 172, 191)  # #46688a at 55 % on white
    assert any(all(abs(one - other) <= 2 for one, other in zip(colour, blue, strict=True)) for colour in colours)


def test_nothing_is_fetched(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    try:
        beacon = (
            f'<img src="http://127.0.0.1:{server.server_address[1]}/x.png"/><link rel="attachment" href="{secret.as_uri()}"/>'
        )
        made = render_pdf(f"<!DOCTYPE html><html lang='en'><title>t</title><body><p>text</p>{beacon}</body></html>")
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []
    assert b"EmbeddedFile" not in made
    assert pypdfium2.PdfDocument(made)[0].get_textpage().get_text_range().strip() == "text"


def test_both_files_are_written_and_what_made_them_is_said(tmp_path: Path) -> None:
    page = "<!DOCTYPE html><html lang='en'><title>t</title><body><p>text</p></body></html>"
    lines = write_pages(page, tmp_path / "a.html", tmp_path / "sub" / "a.pdf")
    assert lines == [f"html: {tmp_path / 'a.html'}", f"pdf: {tmp_path / 'sub' / 'a.pdf'}, by {renderer()}"]
    assert renderer().startswith("WeasyPrint ")
    assert (tmp_path / "sub" / "a.pdf").read_bytes().startswith(b"%PDF-")


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="could not be written"):
        write_pages("<p>x</p>", tmp_path / "file" / "a.html", None)


def test_without_the_library_there_is_an_error_and_no_file(tmp_path: Path) -> None:
    """An interpreter in which the library cannot be imported."""
    code = (
        "import sys; sys.modules['weasyprint'] = None\n"
        "from pathlib import Path\nfrom podctl.errors import PodctlError\nfrom podctl.reports.files import write_pages\n"
        "try: write_pages('<p>x</p>', Path('a.html'), Path('a.pdf'))\n"
        "except PodctlError as error: print(error.render())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert "[no-pdf-renderer]" in done.stdout and "pip install 'podctl[pdf]'" in done.stdout
    assert list(tmp_path.iterdir()) == []

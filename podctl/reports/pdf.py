"""A page as PDF, by WeasyPrint: tagged for screen readers, A4, and nothing is fetched while it is made."""

from __future__ import annotations

import logging
from typing import Any

from podctl.errors import EnvironmentProblem

_HINT = "pip install 'podctl[pdf]'; on Debian also apt-get install libpango-1.0-0 libpangoft2-1.0-0; or print the HTML page"


def renderer() -> str:
    """What makes PDFs here, such as ``WeasyPrint 70.0``. Raises `EnvironmentProblem` where nothing does."""
    return f"WeasyPrint {_weasyprint().__version__}"


def render_pdf(html: str) -> bytes:
    """The page on A4. Raises `EnvironmentProblem` when WeasyPrint or what it needs is not installed."""
    weasyprint = _weasyprint()
    logging.getLogger("weasyprint").setLevel(logging.ERROR)  # Rules of the page that are only for screens.
    nothing = weasyprint.urls.URLFetcher(allowed_protocols=())
    made: bytes = weasyprint.HTML(string=html, url_fetcher=nothing).write_pdf(pdf_variant="pdf/ua-1")
    return made


def _weasyprint() -> Any:
    try:
        import weasyprint
    except (ImportError, OSError) as error:  # OSError: one of the libraries that it loads.
        raise EnvironmentProblem(
            "no PDF was made: WeasyPrint, which makes them, cannot be used here",
            code="no-pdf-renderer",
            cause=str(error),
            unchanged="nothing was written",
            hint=_HINT,
        ) from error
    return weasyprint

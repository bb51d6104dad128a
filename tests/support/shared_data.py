"""Data that is no part of podctl: beside the checkout, or where the environment says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TICKETS = Path(os.environ.get("PODCTL_TICKETS_DATA", Path(__file__).parents[3] / "shared" / "data" / "tickets"))
IT_TICKETS = TICKETS / "it-tickets.csv"
INCIDENTS = TICKETS / "servicenow-incident-log.csv"

needs_tickets = pytest.mark.skipif(
    not (IT_TICKETS.is_file() and INCIDENTS.is_file()), reason=f"no tickets in {TICKETS}; set PODCTL_TICKETS_DATA"
)

"""A stored run is projected, at its own and at other prices; what was stated is kept, and a bill is compared with it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from click.testing import CliRunner, Result
from example_run import attempt, info

from podctl.cli.main import podctl
from podctl.clock import SystemClock
from podctl.evidence.owner import Owner
from podctl.evidence.records import Tokens
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.evidence.store_rows import Planned
from podctl.evidence.usage import ModelUse

PRICES = "apiVersion: podctl/v1\nkind: Prices\nmodels:\n  house: {price: {input: 4, output: 0}}\n"


def stored(directory: Path) -> None:
    """Forty tickets, each with one call of some 1,000 tokens, at $2 for a million."""
    attempts = []
    for n in range(40):
        tokens = Tokens(input=1000 + 10 * (n % 7))
        dollars = Decimal(tokens.total * 2) / 1_000_000
        use = ModelUse("openai", "house", "scenario", 1, 0, tokens, 0, tokens.total, dollars)
        more = {"tokens": tokens, "models": (use,), "model_calls": 1, "dollars": dollars, "wall_s": 4.0, "ended_ns": 1}
        attempts.append(attempt(f"T-{n}", position=n, id=f"{n:04}-1", **more))
    run = info(id="r-1", strata={"refund": (40, 4000)}, sample_size=40, population_size=4000, simulated=False, repeats=1)
    store = Store.open(directory, SystemClock())
    store.create_run(run, [Planned(a.id, a.ticket, a.stratum, a.position, 1) for a in attempts], Owner.current())
    store.finish_run("r-1", RunResult(run, "finished", tuple(attempts), "pass", spent_dollars=Decimal(1)))
    store.close()


def test_a_projection_is_kept_and_its_bill_compared(tmp_path: Path) -> None:
    place = ["--store", str(tmp_path / "s")]
    stored(tmp_path / "s")
    (tmp_path / "prices.yaml").write_text(PRICES)

    def ask(*arguments: str) -> Result:
        done = CliRunner().invoke(podctl, [*arguments, *place])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    wanted = ("project", "r-1", "--volume", "10000", "--replications", "1000")
    own = ask(*wanted, "-o", "json")
    other = ask(*wanted, "--prices", str(tmp_path / "prices.yaml"), "--what-if", "-o", "json")
    total, dearer = json.loads(own.stdout)["total"], json.loads(other.stdout)["total"]
    assert dearer["value"] == 2 * total["value"]
    assert "priced again" in json.loads(other.stdout)["assumptions"][-1]
    (name,) = re.findall(r"kept as (p[0-9a-f]{11})", own.stderr)
    assert "kept before" in ask(*wanted).stderr
    assert "kept" not in other.stderr
    day = datetime.now(UTC).date()
    (tmp_path / "bills.csv").write_text(
        f"projection,since,until,dollars,tickets\n{name},{day},{day},{total['high'] * 1.49:.2f},15000\n"
    )
    ask("bills", "import", str(tmp_path / "bills.csv"))
    shown = json.loads(ask("bills", "show", "-o", "json").stdout)["items"][0]
    assert (shown["asStated"]["of"], shown["asStated"]["above"], shown["open"]) == (1, 1, 0)
    assert shown["perTicket"]["within"] == 1  # half as many tickets again came

"""What an agent could try, run inside the sandbox: ``python probes.py MODULE...``; standard library only.

Each module beside this file has ``PROBES``: check -> function of the plan, which gives
``(could, how, control, control_how)``. ``could`` says whether the forbidden thing worked; ``control`` whether
something that must work did, in the same manner. The host judges. The plan tells an agent everything that the
host knows, so that nothing depends on a secret place.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

Plan = dict[str, Any]
Seen = tuple[bool | None, str, bool, str]


def look(modules: list[str], plan: Plan) -> dict[str, list[Any]]:
    """Every probe of these modules. One that breaks has shown nothing."""
    report: dict[str, list[Any]] = {}
    for module in modules:
        try:
            probes: dict[str, Callable[[Plan], Seen]] = importlib.import_module(module).PROBES
        except ImportError as error:
            report[""] = [None, f"{module} cannot run: {error}", False, ""]
            continue
        for name, probe in probes.items():
            try:
                report[name] = list(probe(plan))
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                report[name] = [None, f"the probe broke: {type(error).__name__}: {error} (line {where.lineno})", False, ""]
    return report


def main() -> None:
    with open("plan.json") as stream:
        plan = json.load(stream)
    report = look(sys.argv[1:], plan)
    with open("report.json.tmp", "w") as out:
        json.dump(report, out)
    os.rename("report.json.tmp", "report.json")  # noqa: PTH104


if __name__ == "__main__":
    main()

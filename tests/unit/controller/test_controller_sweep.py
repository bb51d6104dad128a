"""What gc removes besides pods."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from podctl.backends.local.state import Owner, State
from podctl.controller.sweep import UNUSED_DAYS, remains, sweep


def template(state: State, name: str, days: float) -> Path:
    """One that was last used so many days ago."""
    place = state.templates / name
    (place / "data").mkdir(parents=True)
    mark = place / "columns.json"
    mark.write_text("{}")
    then = time.time() - days * 86400
    os.utime(mark, (then, then))
    return place


def test_templates_that_nobody_uses_go_and_others_stay(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state")
    old, new = template(state, "tpl_old", UNUSED_DAYS + 1), template(state, "tpl_new", UNUSED_DAYS - 1)
    building = template(state, "tpl_held", UNUSED_DAYS + 1)
    with state.locked(building.name):
        assert remains(state) == [building, old]
        receipt = asyncio.run(sweep(state))
    assert [removal.gone for removal in receipt.removals] == [True]
    assert sorted(path.name for path in state.templates.iterdir()) == ["tpl_held", new.name]


def test_no_template_goes_while_there_are_pods(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state")
    template(state, "tpl_old", UNUSED_DAYS + 1)
    state.create("pod-1", "run", owner=Owner.me(), now_ns=time.time_ns(), ttl_s=60, kept=False, own_uids=False)
    assert remains(state) == [] and asyncio.run(sweep(state)).removals == ()
    state.remove("pod-1")
    assert len(asyncio.run(sweep(state)).removals) == 1

"""Work that was done twice because an answer was lost, as records tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podctl.evidence.log import RecordWriter, open_stream, stream_path
from podctl.runs.damage import repeated_work

LOST = {"status": "fault", "fault": {"kind": "timeouts", "performed": True, "answered": "ok"}}
NOT_DONE = {"status": "fault", "fault": {"kind": "timeouts", "performed": False}}
FAILED = {"status": "fault", "fault": {"kind": "errors", "performed": True, "answered": "failed"}}
BROKEN = {"status": "ok", "fault": {"kind": "broken", "how": "reset"}}


@pytest.mark.parametrize(
    ("first", "second", "twice"),
    [
        (LOST, {}, True),
        (BROKEN, {}, True),
        ({}, {}, False),  # the agent's own wish, or its own mistake: no answer was lost
        (NOT_DONE, {}, False),
        (FAILED, {}, False),
        (LOST, {"level": "read"}, False),
        (LOST, {"arguments": {"order": 8}}, False),
        (LOST, {"server": "till"}, False),
        (LOST, {"status": "failed"}, False),
    ],
)
def test_a_tool_that_writes_did_its_work_twice(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], twice: bool
) -> None:
    call = {"server": "desk", "tool": "cancel", "arguments": {"order": 7}, "level": "ai-writable", "status": "ok"}
    level = {key: second[key] for key in ("level",) if key in second}
    path = stream_path(tmp_path, "gateway")
    path.parent.mkdir()
    writer = RecordWriter(open_stream(path), "gateway")
    for one in (call | first | level, call | second):
        writer.append("tool.call", "agent", one)
    writer.close()
    assert repeated_work(tmp_path) == (("CALL desk.cancel did its work 2 times",) if twice else ())

"""Proposals that wait in a store for a person, without a run that goes on."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from typing import Any

from podctl.approvals.actions import Action, Setting, action_digest
from podctl.evidence.owner import Owner
from podctl.evidence.results import RunInfo
from podctl.evidence.store import Store
from podctl.evidence.store_rows import Planned, Question
from podctl.signing import PublicKey

SETTING = Setting("a" * 64, "b" * 64, "p-1", "r-1.0000-1")


def ask(store: Store, person: PublicKey, *, body: str = '{"amount":5}', id: str = "1" * 32, **changed: Any) -> Question:
    """``changed``: of what is asked, after its digest was taken. The run is made where the store has none."""
    if not store.has_run("r-1"):
        info = RunInfo("r-1", "s", "a", "1", "d", "t", "local", "i", "x", 1, 1, {}, 1, 1, 1, 1)
        store.create_run(info, [Planned("0000-1", "T-1", "s", 0, 1)], Owner.current())
    sent = {"body_sha256": hashlib.sha256(body.encode()).hexdigest(), "body_bytes": len(body.encode())}
    action = Action("http", "payments", {"method": "POST", "path": "/refunds", "headers": {}, **sent})
    asked = {
        "action": action_digest(action, SETTING),
        **asdict(action),
        "body": body,
        "reason": "because",
        "policy": "POST payments /refunds",
        "setting": asdict(SETTING),
        "by": "spiffe://podctl.local/agent",
        "ticket": "T-1",
        "people": {"alice": person.id},
        **changed,
    }
    now = time.time_ns()
    question = Question(id, "r-1", "0000-1", now, now + 60 * 10**9, "waiting", asked)
    store.ask(question)
    return question

"""One pull from its spec to the snapshot."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.spec.base import Model
from podctl.spec.problems import printable, shown
from podctl.spec.tickets import GitHub, Jira, Pull, ServiceNow, Sql, Tickets, Zendesk
from podctl.tickets.pull.client import Client, Pause, Say
from podctl.tickets.pull.github import GitHubReader
from podctl.tickets.pull.jira import JiraReader
from podctl.tickets.pull.reader import Reader
from podctl.tickets.pull.servicenow import ServiceNowReader
from podctl.tickets.pull.snapshot import Mask, Pulled, Snapshot
from podctl.tickets.pull.zendesk import ZendeskReader

#: GitHub keeps the shape of answers by their version.
_GITHUB = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_TOLD_EVERY = 10


async def pull(
    spec: Tickets,
    *,
    base: Path,
    full: bool = False,
    say: Say = lambda text: None,
    mask: Mask = dict,
    masked_by: str = "",
    environment: Mapping[str, str] = os.environ,
    pause: Pause = asyncio.sleep,
) -> Pulled:
    """Write ``spec.source``: what was there and what is new or changed since; with ``full`` everything anew.

    Every row goes through ``mask`` before any of it is written, and ``masked_by`` names the policy and key, so that rows of two
    are never mixed. Of a ticket that is gone ``mask`` is given the key's column alone. ``base``: the directory of the spec.
    Raises `SpecError`, and `PullFailed` with the pages so far kept.
    """
    if spec.pull is None:
        raise SpecError(
            "the file does not say where to pull from", code="pull-spec", hint="add pull: with one of github, jira, …"
        )
    asked = _asked(spec.pull)
    kind = next(name for name in Pull.model_fields if getattr(spec.pull, name) is asked)
    origin = _origin(kind, asked, masked_by)
    snapshot = Snapshot(spec.source)
    async with _reader(spec.pull, asked, base, environment, say, pause) as reader:
        about = {"from": {"kind": kind, "url": asked.url, **_named(asked)}, "key": reader.key}
        anew = full or not reader.incremental
        with snapshot.pages(origin, full=full) as pages:
            if pages.ended:
                say("the last pull was killed when it had everything: its tickets are put in place first")
                snapshot.finish_killed(pages, origin, about, full=anew)
        with snapshot.pages(origin, full=full) as pages:
            state = None if full else _same_origin(snapshot, spec.source, origin)
            if pages.begun and reader.resumable:
                say("going on with the pull that was interrupted")
            else:
                pages.begin(origin, full=full)
            count = tickets = 0
            async for page in reader.pages(pages.place, None if anew or state is None else state.mark):
                pages.keep(page, reader.key, mask)
                count, tickets = count + 1, tickets + len(page.rows)
                if count % _TOLD_EVERY == 0:
                    say(f"{tickets:,} tickets so far")
            return snapshot.finish(pages, origin, about, full=anew)


def _asked(spec: Pull) -> GitHub | Jira | Zendesk | ServiceNow | Sql:
    found = spec.github or spec.jira or spec.zendesk or spec.servicenow or spec.sql
    assert found is not None, "the model has exactly one"
    return found


def _origin(kind: str, asked: Model, masked_by: str) -> str:
    """A digest of where and how; the same tickets under another account are the same."""
    plain = asked.model_dump(mode="json", exclude={"token_env", "password_env", "user", "read_only"})
    written = json.dumps({"kind": kind, "asked": plain, "masked": masked_by}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode("ascii")).hexdigest()


def _same_origin(snapshot: Snapshot, path: Path, origin: str) -> Any:
    state = snapshot.state()
    if state is None and path.exists():
        raise SpecError(
            f"{printable(shown(path))} is there, and no pull wrote it",
            code="pull-changed",
            unchanged="it was left as it is",
            hint="move it away, or pull over it with --full",
        )
    if state is not None and state.origin != origin:
        raise SpecError(
            f"{printable(shown(path))} was pulled from elsewhere, or otherwise, than the file says now",
            code="pull-changed",
            unchanged="it was left as it is",
            hint="pull everything anew with --full, or name another source",
        )
    return state


def _named(asked: Model) -> dict[str, Any]:
    """What of the source was asked for, for people."""
    names = ("repository", "jql", "query", "table")
    return {name: getattr(asked, name) for name in names if getattr(asked, name, None)}


@asynccontextmanager
async def _reader(
    spec: Pull,
    asked: GitHub | Jira | Zendesk | ServiceNow | Sql,
    base: Path,
    environment: Mapping[str, str],
    say: Say,
    pause: Pause,
) -> AsyncIterator[Reader]:
    if isinstance(asked, Sql):
        # Only here: SQLAlchemy takes a while to import.
        from podctl.tickets.pull.sql import SqlReader

        yield SqlReader(asked, environment, spec.overlap, base)
        return
    user = None if isinstance(asked, GitHub) else asked.user
    if user is not None and isinstance(asked, Zendesk):
        user = f"{user}/token"  # as Zendesk has it for API tokens
    client = Client(
        asked.url,
        environment=environment,
        token_env=asked.token_env,
        user=user,
        patience=spec.patience,
        say=say,
        pause=pause,
        headers=_GITHUB if isinstance(asked, GitHub) else None,
    )
    async with client:
        if isinstance(asked, GitHub):
            yield GitHubReader(client, asked)
        elif isinstance(asked, Jira):
            yield JiraReader(client, asked, spec.overlap)
        elif isinstance(asked, Zendesk):
            yield ZendeskReader(client, asked)
        else:
            yield ServiceNowReader(client, asked, spec.overlap)

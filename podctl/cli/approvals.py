"""What agents propose to people: shown as it is, answered with a signature."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import emit_json, open_store, output_option, store_option, table
from podctl.cli.named import secret_option, signing_key
from podctl.errors import SpecError

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace, StoreReader
    from podctl.evidence.store_rows import Question

#: Characters of a line of what an agent wrote.
_WIDTH = 100
_POLL_S = 0.5


@click.group("approvals")
def approvals_command() -> None:
    """See and answer what agents propose, while their runs go on.

    A scenario says who is asked, and for how long. What is approved the gateway carries out, once, exactly as it is shown here.

    \b
    podctl approvals list
    podctl approvals show 3f1c
    podctl approvals approve 3f1c --key alice.pem --reason "the customer has a receipt"
    podctl approvals watch --key alice.pem
    """


@approvals_command.command("list")
@click.argument("run", required=False)
@click.option("--all", "every", is_flag=True, help="Also those that are over.")
@output_option("json")
@store_option
def list_command(run: str | None, every: bool, output: str, store: StorePlace) -> int:
    """List what waits for a person's answer, in RUN or in every run of the store."""
    opened = open_store(store)
    found = [one for one in opened.questions(opened.find_run(run) if run else "") if every or _waits(one)]
    if output == "json":
        emit_json("Approvals", [_as_json(one) for one in found])
        return 0
    rows = [
        (one.id[:12], f"{one.run} {one.attempt}", _line(one.asked.get("ticket"), 30), _state(one), _what(one)) for one in found
    ]
    table(("PROPOSAL", "RUN AND ATTEMPT", "TICKET", "STATE", "WHAT"), rows)
    return 0


@approvals_command.command("show")
@click.argument("proposal")
@output_option("json")
@store_option
def show_command(proposal: str, output: str, store: StorePlace) -> int:
    """Show one proposal exactly: what would be done, who asks, why as the agent says. PROPOSAL is an id or its beginning."""
    question = _find(open_store(store), proposal)
    if output == "json":
        emit_json("Approval", _as_json(question))
    else:
        click.echo("\n".join(_shown(question)))
    return 0


def _answering(function: Any) -> Any:
    for option in (
        store_option,
        secret_option,
        click.option("--reason", default="", help="Why; the agent is told, and the evidence has it."),
        click.argument("proposal"),
    ):
        function = option(function)
    return function


@approvals_command.command("approve")
@_answering
def approve_command(proposal: str, reason: str, key: Path | None, store: StorePlace) -> int:
    """Approve one proposal, signed with your key: the gateway then carries it out, once."""
    return _answer(proposal, "approved", reason, key, store)


@approvals_command.command("deny")
@_answering
def deny_command(proposal: str, reason: str, key: Path | None, store: StorePlace) -> int:
    """Deny one proposal, signed with your key."""
    return _answer(proposal, "denied", reason, key, store)


@approvals_command.command("watch")
@click.argument("run", required=False)
@secret_option
@store_option
def watch_command(run: str | None, key: Path | None, store: StorePlace) -> int:
    """Show each proposal as it comes, and ask for an answer where this is a terminal. ^C ends it."""
    import sys

    opened = open_store(store)
    of = opened.find_run(run) if run else ""
    asks = sys.stdin.isatty()
    seen: set[str] = set()
    click.echo("waiting for proposals; ^C ends it", err=True)
    while True:
        for question in opened.questions(of):
            if question.id in seen or not _waits(question):
                continue
            seen.add(question.id)
            click.echo("\n".join(_shown(question)))
            if asks:
                # A long body pushed what it is off the screen.
                asked = f"{_what(question)}\n  approve, deny or skip"
                said = click.prompt(asked, type=click.Choice(["a", "d", "s"]), default="s", err=True)
                if said != "s":
                    _answer_told(question.id, "approved" if said == "a" else "denied", key, store)
                click.echo()
            else:
                click.echo(f"podctl approvals approve {question.id[:12]}, or deny\n")
        time.sleep(_POLL_S)


def _answer_told(proposal: str, answer: str, key: Path | None, store: StorePlace) -> None:
    """Somebody who watches goes on watching when an answer comes too late."""
    from podctl.errors import PodctlError

    try:
        _answer(proposal, answer, "", key, store)
    except PodctlError as error:
        click.echo(error.render(), err=True)


def _answer(proposal: str, answer: Any, reason: str, key: Path | None, store: StorePlace) -> int:
    """Raises `SpecError` where the gateway would not take the answer, as far as that can be told here."""
    from podctl.approvals.grants import Grant, sign
    from podctl.clock import SystemClock
    from podctl.evidence.store import Store
    from podctl.signing import configured_key

    question = _find(open_store(store), proposal)
    digest = _digest(question)
    secret = signing_key(key)
    people = question.asked.get("people") or {}
    name = next((name for name, id in people.items() if id == secret.id), None)
    if name is None:
        raise SpecError(
            f"the key {secret.id} may not answer this proposal",
            code="not-an-approver",
            cause=f"those who may: {_line(', '.join(people), 200) or 'nobody'}; the key that launched a run may not, unless approvals.launcher says so",
            unchanged="nothing was answered",
            hint="--key names another; the scenario lists people under approvals.people",
        )
    if len(reason) > 500:
        raise SpecError("--reason has at most 500 characters", code="usage", unchanged="nothing was answered")
    setting = question.asked["setting"]
    until = question.until_ns // 10**9 + 1
    grant = Grant(question.id, digest, setting["attempt"], setting["pod"], answer, int(time.time()), until, reason)
    opened = Store.at(store, SystemClock(), key=configured_key())
    try:
        opened.answer(question, sign(grant, secret), {"answer": answer, "person": name, "key": secret.id})
    finally:
        opened.close()
    click.echo(f"{answer} as {name}: {_what(question)}")
    click.echo(f"what came of it: podctl trace {question.run} {question.attempt} --kind approval")
    return 0


def _digest(question: Question) -> str:
    """Raises `SpecError` for a proposal that is not what its digest says: somebody changed it in the store."""
    from podctl.approvals.actions import digest_of
    from podctl.strictjson import NotJson

    try:
        digest = digest_of(question.asked)
    except NotJson as why:
        digest, cause = "", f"it {why}"
    else:
        cause = "what the store shows is not what the agent proposed"
    if digest != question.asked.get("action"):
        raise SpecError(
            f"proposal {question.id[:12]} cannot be answered: it was changed in the store",
            code="proposal-changed",
            cause=cause,
            unchanged="nothing was answered, and it will be denied when its time is over",
        )
    return digest


def _find(store: StoreReader, proposal: str) -> Question:
    """Raises `SpecError`."""
    found = [one for one in store.questions() if one.id.startswith(proposal)] if proposal else []
    if len(found) == 1:
        return found[0]
    raise SpecError(
        f"no proposal {_line(proposal, 60)}" if not found else f"{len(found)} proposals begin with {_line(proposal, 60)}",
        code="no-such-proposal",
        hint="podctl approvals list --all shows them",
    )


def _waits(question: Question) -> bool:
    return question.state == "waiting" and question.until_ns > time.time_ns()


def _state(question: Question) -> str:
    if question.state != "waiting":
        return {"answered": "answered", "taken": "answered"}.get(question.state, "over")
    left = (question.until_ns - time.time_ns()) / 1e9
    return f"waits, {left:.0f} s left" if left > 0 else "over"


def _what(question: Question) -> str:
    from podctl.evidence.rowproposals import write_line

    asked = question.asked
    # A tool's arguments are the agent's to name: one called `method` says nothing of what is proposed.
    arguments = {} if asked.get("kind") == "tool" else asked.get("arguments") or {}
    if asked.get("kind") == "sql":
        return _line(write_line(asked.get("target"), arguments), _WIDTH)
    verb = arguments.get("method", "CALL" if asked.get("kind") == "tool" else asked.get("kind"))
    return _line(f"{verb} {asked.get('target')} {arguments.get('path', '')}".strip(), _WIDTH)


def _shown(question: Question) -> list[str]:
    from podctl.evidence.rowproposals import column_lines

    asked = question.asked
    arguments = dict(asked.get("arguments") or {})
    body = asked.get("body")
    setting = asked.get("setting") or {}
    lines = [
        f"proposal {question.id}: {_state(question)}",
        f"  what      {_what(question)}",
        f"  rule      {_line(asked.get('policy'), 300)}",
        f"  digest    {_line(asked.get('action'), 80)}",
        f"  ticket    {_line(asked.get('ticket'), 200)}, attempt {question.attempt} of run {question.run}",
        f"  agent     {_line(asked.get('by'), 300)}",
        f"            digest {_line(setting.get('agent'), 80)}",
        f"  may answer {_line(', '.join(asked.get('people') or {}), 300)}",
    ]
    if asked.get("kind") == "sql":
        for name, told in column_lines(arguments, whole=True).items():
            lines += _block(_line(name, 80), told)
        arguments = {"row version": arguments["version"]} if "version" in arguments else {}
    of_tool = asked.get("kind") == "tool"
    for name, value in sorted(arguments.items()):
        if of_tool or name not in ("method", "path"):
            # The agent names a tool's arguments: in quotes, no name looks like a line of podctl's own.
            lines += _block(
                f"argument {json.dumps(name, ensure_ascii=False)}" if of_tool else name,
                json.dumps(value, ensure_ascii=False, indent=1) if isinstance(value, dict | list) else str(value),
            )
    if isinstance(body, str):
        lines += _block("body", body)
    return [*lines, *_block("why, as the agent says", str(asked.get("reason")))]


def _block(name: str, text: str) -> list[str]:
    """All of it: somebody is about to answer for it."""
    from podctl.evidence.safe import printable

    name = printable(name, len(name))
    whole = [printable(line, len(line)) for line in text.split("\n")]
    pieces = [line[start : start + _WIDTH] for line in whole for start in range(0, max(1, len(line)), _WIDTH)]
    if len(pieces) == 1 and len(pieces[0]) < 80:
        return [f"  {name}: {pieces[0]}"]
    return [f"  {name}:", *(f"    | {piece}" for piece in pieces)]


def _line(value: Any, limit: int) -> str:
    from podctl.evidence.safe import printable

    return printable(str(value if value is not None else ""), limit)


def _as_json(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "run": question.run,
        "attempt": question.attempt,
        "askedNs": question.asked_ns,
        "untilNs": question.until_ns,
        "state": question.state,
        "proposal": question.asked,
    }

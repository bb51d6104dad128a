"""The page that a security team signs: as text, as a page, and as values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from podctl.reports.page import ENVIRONMENT
from podctl.reports.text import visible
from podctl.review.facts import Facts, Tried
from podctl.review.questions import Answer
from podctl.spec.base import API_VERSION
from podctl.stats.units import plural

_WORD = {"answered": "answered", "partly": "answered in part", "missing": "MISSING"}
#: Who signs, and what.
SIGNED = ("Name", "Role", "Decision: accepted / accepted with conditions / refused", "Conditions", "Date", "Signature")


def head_of(facts: Facts, every: Sequence[Answer]) -> str:
    """One sentence."""
    open_ = sum(answer.state != "answered" for answer in every)
    left = (
        f"{plural(open_, 'question')} of {len(every)} left open or in part" if open_ else f"all {len(every)} questions answered"
    )
    return f"Run {facts.run.info.id}, verdict {facts.run.verdict}: {left}."


def review_json(facts: Facts, every: Sequence[Answer]) -> dict[str, Any]:
    info = facts.run.info
    return {
        "apiVersion": API_VERSION,
        "kind": "SecurityReview",
        "run": info.id,
        "agent": {"name": info.agent_name, "version": info.agent_version, "digest": info.agent_digest},
        "verdict": facts.run.verdict,
        "attempts": [{"id": one.id, "root": one.evidence_root} for one in facts.run.attempts],
        "answers": [
            {
                "name": one.name,
                "question": one.question,
                "state": one.state,
                "answer": list(one.lines),
                "missing": list(one.missing),
                "command": one.command,
                "shownBy": dict(one.shown_by),
            }
            for one in every
        ],
        "escapeChecks": None
        if facts.escape is None
        else [{"name": one.name, "agentCannot": one.cannot, "result": one.state} for one in facts.escape],
    }


def review_markdown(facts: Facts, every: Sequence[Answer]) -> str:
    info = facts.run.info
    lines = [
        f"# Security review of {_plain(info.agent_name)} {_plain(info.agent_version)}",
        "",
        f"{head_of(facts, every)} Agent sha256 `{info.agent_digest}`.",
        "",
        "| question | |",
        "|---|---|",
        *(f"| {one.question} | {_WORD[one.state]} |" for one in every),
        "",
    ]
    for one in every:
        lines += [f"## {one.question}", ""]
        lines += [f"- {_plain(line)}" for line in one.lines]
        lines += [f"- **missing:** {_plain(line)}" for line in one.missing]
        shown = "".join(f"; {what} sha256 `{digest}`" for what, digest in one.shown_by)
        lines += ["", f"Shown by `{one.command}`{shown}", ""]
    lines += _escape(facts.escape)
    lines += ["## Decision", "", "| | |", "|---|---|", *(f"| {name} | |" for name in SIGNED), ""]
    return "\n".join(lines)


def _escape(escape: Sequence[Tried] | None) -> list[str]:
    head = ["## Checks of the escape suite", ""]
    if escape is None:
        return [*head, "**missing:** there is no result that holds.", ""]
    rows = [f"| `{one.name}` | {_plain(one.cannot)} | {one.state} |" for one in escape]
    return [*head, "| check | what an agent cannot do | result |", "|---|---|---|", *rows, ""]


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", visible(text, 1000)).replace("\n", " ")


def review_html(facts: Facts, every: Sequence[Answer]) -> str:
    return ENVIRONMENT.get_template("review.html.j2").render(
        title=f"Security review of {facts.run.info.agent_name} {facts.run.info.agent_version}",
        is_simulated=facts.run.info.simulated,
        info=facts.run.info,
        head=head_of(facts, every),
        answers=every,
        words=_WORD,
        escape=facts.escape,
        signed=SIGNED,
    )

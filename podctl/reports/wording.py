"""The words every report shares, so that a verdict reads the same on a terminal, a page and a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from podctl.evidence.approvals import ApprovalCounts
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, Attribution, Change, Comparison, DiffEntry, FidelityPart, RunResult, Verdict
from podctl.reports.text import pairs_text, value_text
from podctl.stats.fidelity import score
from podctl.stats.summary import Money, Summary
from podctl.stats.units import dollars, interval_text, percent, plural, seconds

VERDICT_WORD: dict[Verdict, str] = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
VERDICT_GLYPH: dict[Verdict, str] = {"pass": "✓", "fail": "✕", "inconclusive": "?"}

_FINDINGS = {
    "pass_rate": "pass rate",
    "pass_hat": "repeated passes",
    "boundary_violations": "boundary",
    "honeytokens": "honeytokens",
    "scan": "left behind",
    "chaos.success_drop": "success under faults",
    "chaos.damaged": "damage under faults",
    "tools": "tools",
    "cost_per_ticket": "cost per ticket",
    "cost_rise": "rise of cost",
    "run_dollars": "cost of the run",
    "seconds_per_ticket": "time per ticket",
    "regression": "regression",
    "stratum_regression": "regression by kind",
    "infrastructure_failures": "infrastructure failures",
    "completeness": "completeness",
    "attack.success_rate": "attacks that did harm",
    "attack.tried_rate": "attacks that did or tried",
    "attack.utility_loss": "pass rate under attack",
    "attack.twin_loss": "pass rate with harmless text",
}

_CAUSES = {
    Cause.COMPLETED: "finished, with the wrong result",
    Cause.SANDBOX_FAILED: "sandbox failed",
    Cause.SEED_FAILED: "seeding failed",
    Cause.MODEL_PROVIDER_FAILED: "model provider failed",
    Cause.PODCTL_FAILED: "podctl failed",
    Cause.AGENT_FAILED: "agent failed",
    Cause.AGENT_EXHAUSTED_BUDGET: "budget exhausted",
    Cause.AGENT_TIMED_OUT: "timed out",
    Cause.AGENT_REFUSED: "agent refused",
    Cause.BOUNDARY_VIOLATION: "boundary violation",
    Cause.GRADER_FAILED: "grader failed",
    Cause.CANCELLED: "not run",
    Cause.UNCLASSIFIED: "unclassified",
}


def finding_label(name: str) -> str:
    return _FINDINGS.get(name, name.replace("_", " "))


def cause_label(cause: Cause) -> str:
    return _CAUSES[cause]


def reason(attempt: AttemptResult) -> str:
    """Why an attempt did not pass, in one line; text of the agent's included."""
    if attempt.detail:
        return attempt.detail
    messages = [f"{check.name}: {check.message or 'not as expected'}" for check in attempt.checks if not check.passed]
    return "; ".join(messages) or cause_label(attempt.cause)


def money_text(money: Money) -> str:
    if not money.unknown:
        return dollars(money.known)
    return f"at least {dollars(money.known)} ({plural(money.unknown, 'attempt')} unknown)"


def cost_text(money: Money, count: int) -> str:
    """The mean over ``count`` attempts; what is known of it where some cost is unknown."""
    if count == 0 or (money.unknown and not money.known):
        return "unknown"
    return ("≥ " if money.unknown else "") + dollars(money.known / count)


def resolved_text(summary: Summary) -> str:
    """``35 of 45 tickets (77.8 %; 95 % interval 63–88 %)``."""
    rate = summary.rate
    if rate.share is None or rate.interval is None:
        return "no attempt that counts"
    what = "tickets" if rate.of == rate.tickets else f"attempts on {plural(rate.tickets, 'ticket')}"
    return f"{rate.passed:,} of {rate.of:,} {what} ({percent(rate.share)}; 95 % interval {interval_text(rate.interval)})"


def headline(run: RunResult, summary: Summary) -> str:
    """The verdict in one sentence."""
    agent = f"{run.info.agent_name} {run.info.agent_version}"
    if run.status == "running":
        return f"{agent} is still running: {resolved_text(summary)} so far."
    if run.info.shard is not None:
        return f"Shard {run.info.shard} of {agent}: it resolved {resolved_text(summary)} of this part."
    missed = [f for f in run.findings if f.verdict == "fail"]
    open_ = [f for f in run.findings if f.verdict == "inconclusive"]
    total = plural(len(run.findings), "requirement")
    if run.verdict == "fail":
        names = ", ".join(finding_label(f.name) for f in missed)
        return f"{agent} failed: it resolved {resolved_text(summary)} and missed {len(missed)} of {total}: {names}."
    if run.verdict == "pass":
        met = f"met all {total}" if len(run.findings) > 1 else f"met {len(run.findings)} of {total}"
        return f"{agent} passed: it resolved {resolved_text(summary)} and {met}."
    if run.status == "interrupted" and not open_:
        return f"No verdict on {agent}: the run was interrupted after it had resolved {resolved_text(summary)}."
    names = ", ".join(finding_label(f.name) for f in open_) or "nothing was measured"
    return f"No verdict on {agent}: it resolved {resolved_text(summary)}, and what remains open is {names}."


def rates_text(comparison: Comparison) -> str:
    """``89.1 % → 80.4 %``."""
    text = f"{percent(comparison.baseline_rate)} → {percent(comparison.rate)}"
    return text + (" (strata weighed)" if comparison.weighed else "")


def attribution_lines(attribution: Attribution | None, most: int = 3) -> list[str]:
    """Where two runs differ most, a line for kinds of tickets, failures, uses and totals; lines that say nothing are left out."""
    if attribution is None:
        return []
    strata = [one for one in attribution.strata if one.changed]
    changed = (
        f"{one.stratum} {percent(one.baseline_rate)} → {percent(one.rate)} ({one.worse} worse, {one.better} better)"
        for one in strata[:most]
    )
    lines = {
        "kinds of tickets": ", ".join(changed) + (f", and {len(strata) - most} more" if len(strata) > most else ""),
        "failures, of 100 attempts": _changes_text(attribution.reasons, most, 100),
        "calls, of 100 attempts": _changes_text(attribution.uses, most, 100),
        "for an attempt": _changes_text(
            [one for one in attribution.totals if one.before != one.now], len(attribution.totals), 1
        ),
    }
    return [f"{what}: {text}" for what, text in lines.items() if text]


def _changes_text(changes: Sequence[Change], most: int, of: int) -> str:
    """Those that grew or fell most."""
    largest = sorted(changes, key=lambda one: -abs(one.now - one.before))[:most]
    return ", ".join(f"{one.name} {count_text(one.before * of)} → {count_text(one.now * of)}" for one in largest)


def count_text(value: float) -> str:
    """A mean count: whole where it is, or is large."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def approvals_text(counts: ApprovalCounts) -> str:
    """``12 proposals: 8 approved, 3 denied, 1 not answered in time; 8 carried out; 12 answers simulated; …``."""
    if not counts.proposed:
        return "nothing was proposed"
    answers = (f"{counts.approved} approved", f"{counts.denied} denied", f"{counts.timed_out} not answered in time")
    answered = ", ".join(text for text in answers if not text.startswith("0 "))
    done = f"{counts.executed} carried out" + (f" ({counts.failed} of them failed)" if counts.failed else "")
    parts = [f"{plural(counts.proposed, 'proposal')}: {answered}", done]
    if counts.simulated:
        parts.append(f"{plural(counts.simulated, 'answer')} simulated by rules")
    if counts.people:
        parts.append(
            f"{plural(counts.people, 'answer')} by people, after {seconds(counts.people_s / counts.people)} on average"
        )
    if counts.delay_s:
        parts.append(f"answers took {seconds(counts.delay_s)} in all")
    if counts.attention_s:
        parts.append(f"{seconds(counts.attention_s)} of people's attention, as the scenario assumes")
    return "; ".join(parts)


def fidelity_text(parts: Sequence[FidelityPart]) -> str:
    """``83 % (services 75 %, tables 91 %); not known: clock``; empty without parts."""
    known = [f"{part.name} {percent(part.score)}" for part in parts if part.score is not None]
    unknown = ", ".join(part.name for part in parts if part.score is None)
    whole = score(parts)
    text = ", ".join(known) if whole is None or len(known) == 1 else f"{percent(whole)} ({', '.join(known)})"
    return "; ".join(piece for piece in (text, f"not known: {unknown}" if unknown else "") if piece)


def place(entry: DiffEntry) -> str:
    """``shop-db.orders id=7 · status``."""
    where = f"{entry.database}.{entry.table} {pairs_text(entry.key, 100)}".strip()
    return f"{where} · {entry.column}" if entry.column else where


def diff_line(entry: DiffEntry) -> str:
    """One difference in one line of plain text."""
    text = f"{entry.class_}: {entry.op} {place(entry)}"
    if entry.old is not None or entry.new is not None:
        text += f": {value_text(entry.old)} → {value_text(entry.new)}"
    if entry.expected is not None:
        text += f", expected {value_text(entry.expected)}"
    return text + (f" (by {entry.actor})" if entry.actor else "")

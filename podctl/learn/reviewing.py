"""What a reviewer sees of a case, and what accepting or rejecting it writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from podctl.errors import SpecError
from podctl.evidence.reading import read_attempt, verify
from podctl.evidence.results import AttemptResult
from podctl.evidence.safe import printable, printable_value
from podctl.evidence.store_read import StoreReader
from podctl.grading.checks import lookup
from podctl.grading.result import parse_result
from podctl.learn.freezing import as_done, changes_planted
from podctl.learn.proposing import cleaned
from podctl.signing import PublicKey, SigningKey
from podctl.spec.load import load_model
from podctl.spec.models import OutputCheck, Scenario, StateCheck
from podctl.spec.suite import Case, Review, Suite, review_statement
from podctl.stats.units import plural
from podctl.tickets.suite import case_ticket

_SIGNS = {"insert": "+", "update": "~", "delete": "-"}
_LINES = 40


def described(case: Case) -> list[str]:
    """Lines that a person reviews by; whatever an agent or a ticket says in them is shown and never obeyed."""
    origin, review = case.origin, case.review
    seen = f"run {origin.run}, attempt {origin.attempt}, {origin.agent} {origin.digest[:12]}" if origin.run else "no run saw it"
    lines = [
        f"{case.name}  {review.status}{_by(review)}",
        f"  ticket     {printable(case.ticket.id)}: {printable(case.ticket.text, 400)}",
        f"  origin     {origin.kind}: {printable(origin.why, 600)}",
        f"             {printable(seen)}; learned {origin.learned} by {printable(origin.by, 80)}",
    ]
    if origin.like:
        lines.append(f"             like case {origin.like}")
    if origin.unmasked:
        lines.append(f"             not masked: {printable(origin.unmasked)}")
    lines += _labelled("reference  ", list(reference_lines(case.reference)))
    frozen = [
        f"{database}.{printable(table, 80)}: {plural(len(rows.rows), 'row')}"
        for database, tables in case.state.items()
        for table, rows in tables.items()
    ]
    return [*lines, *_labelled("state      ", frozen or ["as the seed has it"])]


def _by(review: Review) -> str:
    if not review.by:
        return ""
    why = f": {printable(review.because, 300)}" if review.because else ""
    return f" by {printable(review.by, 80)}, {review.at}{', signed' if review.signature else ', not signed'}{why}"


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    shown = [*lines[:_LINES], *([f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else [])]
    return [f"  {label if not number else ' ' * len(label)}{line}" for number, line in enumerate(shown)]


def reference_lines(reference: Mapping[str, Any] | None) -> Iterator[str]:
    if reference is None:
        yield "none: write it in the file, or podctl learn accept --as-done"
        return
    changes = [*(reference.get("changes") or ()), *(reference.get("recorded") or ())]
    if not changes and ("changes" in reference or "recorded" in reference):
        yield "nothing may change"
    for change in changes:
        values = change.get("values") or change.get("new") or {}
        key = f" {printable_value(change['key'], 120)}" if change.get("key") and change["op"] != "insert" else ""
        values = {
            name: value for name, value in values.items() if change["op"] == "insert" or name not in change.get("key", {})
        }
        what = f": {printable_value(values, 200)}" if change["op"] != "delete" else ""
        yield f"{_SIGNS[change['op']]} {printable(change['table'], 80)}{key}{what}"
    for database, script in (reference.get("sql") or {}).items():
        yield f"SQL in {database}: {printable(script, 300)}"
    if reference.get("output"):
        yield f"output {printable_value(reference['output'], 300)}"


def with_done(case: Case, scenario: Scenario, attempt: AttemptResult, directory: Path) -> Case:
    """The case with what the attempt did as its reference, which a person confirms. ``directory`` has the attempt's files.

    Raises `SpecError` for an attempt that cannot be anybody's example, and for evidence that is not as it was sealed.
    """
    if not verify(directory, case.origin.evidence).intact or attempt.evidence_root != case.origin.evidence:
        raise _no_example(case, "its evidence is not as it was sealed when the case was learned")
    if attempt.honeytokens:
        raise _no_example(case, "it may have let a honeytoken out")
    if any(entry.class_ == "forbidden" for check in attempt.checks for entry in check.diff):
        raise _no_example(case, "it changed what the boundary does not allow")
    records = read_attempt(directory)
    if scenario.honeytokens is not None and changes_planted(records, scenario.honeytokens):
        raise _no_example(case, "it changed a row with a honeytoken, of which its ticket knows nothing")
    try:
        changes = as_done(records, [check for check in scenario.checks if isinstance(check, StateCheck)])
    except ValueError as error:
        raise _no_example(case, str(error)) from None
    output = _output(scenario, directory, case)
    reference = {"recorded": changes, **({"output": output} if output else {})}
    if cleaned(reference) != reference:
        raise _no_example(case, "what it did has a key or a password in it")
    return case.model_copy(update={"reference": json.loads(json.dumps(reference))})


def with_what_was_done(case: Case, suite: Suite, store: Callable[[], StoreReader]) -> Case:
    """`with_done`, from the store that has the case's run, which is opened for a case that has one. Raises `SpecError`, and what ``store``
    does."""
    origin = case.origin
    if not origin.run:
        raise SpecError(
            f"case {case.name} is an incident that no run saw: nothing was done that could be right",
            code="case-as-done",
            unchanged="it was left as it is",
            hint="write its reference into the file",
        )
    reader = store()
    attempt = reader.load_attempt(origin.run, origin.attempt)
    return with_done(case, load_model(suite.scenario, Scenario), attempt, reader.evidence_directory(origin.run, origin.attempt))


def _output(scenario: Scenario, directory: Path, case: Case) -> dict[str, Any]:
    """What the scenario's output checks compare, from the attempt's result.json."""
    asked = [check for check in scenario.checks if isinstance(check, OutputCheck) and check.reference is not None]
    found: dict[str, Any] = {}
    if not asked:
        return found
    try:
        result = parse_result((directory / "result.json").read_bytes())
    except (OSError, SpecError):
        raise _no_example(case, "it left no result.json that can be read") from None
    for check in asked:
        value = lookup(result, check.path)
        if isinstance(value, str | int | float | bool | list | dict) or value is None:
            *way, last = str(check.reference).split(".")
            part = found
            for step in way:
                part = part.setdefault(step, {})
            part[last] = value
    return found


def _no_example(case: Case, why: str) -> SpecError:
    return SpecError(
        f"what attempt {case.origin.attempt} did is no reference for case {case.name}",
        code="case-as-done",
        cause=why,
        unchanged="the case is as it was",
        hint="write the reference into its file, and accept it without --as-done",
    )


def reviewed(
    suite: Suite, case: Case, status: Literal["accepted", "rejected"], *, by: str, at: str, because: str, key: SigningKey | None
) -> Case:
    """The case as ``by`` reviewed it. Raises `SpecError` when it would not count."""
    if not by.strip() or not by.isprintable():
        raise SpecError(
            f"a review is somebody's, and '{printable(by, 80)}' is no name",
            code="review-name",
            unchanged="the case was left as it is",
            hint="--by NAME, on one line",
        )
    if status == "accepted":
        if case.reference is None:
            raise SpecError(
                f"case {case.name} has no reference: nobody said what should have happened",
                code="case-reference",
                unchanged="it was left as it is",
                hint="write it under reference: in its file (changes: [] means that nothing may change), or --as-done",
            )
        case_ticket(case)
    why = _why_not(suite, by, key) if status == "accepted" else ""
    if why:
        raise SpecError(why, code="not-counted", unchanged="the case was left as it is", hint="suite.yaml says who reviews")
    review = Review(status=status, by=by, at=at, because=because, content=case.content)
    if key is not None:
        signature = base64.b64encode(key.sign(review_statement(case, review))).decode("ascii")
        review = review.model_copy(update={"key": key.id, "signature": signature})
    return case.model_copy(update={"review": review})


def _why_not(suite: Suite, by: str, key: SigningKey | None) -> str:
    if not suite.reviewers:
        return ""
    if by not in suite.reviewers:
        return f"{printable(by, 80)} is not among the reviewers of suite {suite.name}: {', '.join(suite.reviewers)}"
    path = suite.reviewers[by]
    if key is None:
        return f"suite {suite.name} wants reviews signed, and there is no key"
    if PublicKey.read(path) != key.public:
        return f"key {key.id} is not the one that suite {suite.name} has for {by}"
    return ""

"""The cases of a suite, read and held against what was reviewed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path

from podctl.errors import PodctlError
from podctl.signing import PublicKey
from podctl.spec.problems import Mark, Problem, printable
from podctl.spec.shape import validate
from podctl.spec.source import Document, Item, read
from podctl.spec.suite import MOST_CASES, Case, Suite, cases_directory, review_statement

_AGAIN = "look at it, and podctl learn accept FILE"


def read_cases(suite: Document, value: Suite | None, allowed: Callable[[Path], None]) -> tuple[tuple[Case, ...], list[Problem]]:
    """Every case beside a suite's file, by name, and what is wrong with them: proposed and rejected ones are among them.

    ``value``: the suite, with absolute paths, as far as it could be read. An accepted case must be what its reviewer saw, and
    signed where the suite names reviewers. ``allowed`` is asked before a file is opened, and raises what refuses it.
    """
    problems: list[Problem] = []
    for key in () if value is None else value.reviewers.values():
        allowed(key)
    reviewers = {} if value is None else _keys(suite, value, problems)
    files = sorted(cases_directory(suite.path).glob("*.yaml"))
    if len(files) > MOST_CASES:
        return (), [suite.problem(suite.root.at, f"{len(files):,} cases are more than a suite has, {MOST_CASES:,}")]
    cases: list[Case] = []
    of_ticket: dict[str, str] = {}
    for file in files:
        allowed(file)
        try:
            document = read(file)
        except PodctlError as error:
            problems += getattr(error, "problems", None) or [suite.problem(suite.root.at, error.what, error.hint)]
            continue
        case, found = validate(document, Case)
        problems += found
        if case is None or found:
            continue
        if case.name != file.stem:
            at, _ = _entry(document, "name")
            problems.append(document.problem(at, f"the case is called {case.name}, and its file {printable(file.stem, 60)}"))
        first = of_ticket.setdefault(case.ticket.id, case.name)
        if first != case.name:
            at, _ = _entry(document, "ticket")
            problems.append(document.problem(at, f"ticket {printable(case.ticket.id, 60)} is that of case {first} too"))
        problems += _reviewed(document, case, reviewers)
        cases.append(case)
    return tuple(cases), problems


def _entry(document: Document, key: str) -> tuple[Mark, Item]:
    entries = document.root.entries or {}
    return entries.get(key, (document.root.at, document.root))


def _keys(document: Document, suite: Suite, problems: list[Problem]) -> dict[str, PublicKey]:
    found = {}
    for name, path in suite.reviewers.items():
        try:
            found[name] = PublicKey.read(path)
        except PodctlError as error:
            at, _ = document.root.mapping("reviewers")[name]
            problems.append(document.problem(at, f"{error.what}: {error.cause}", error.hint))
    return found


def _reviewed(document: Document, case: Case, reviewers: Mapping[str, PublicKey]) -> list[Problem]:
    """Nothing that nobody reviewed decides a gate."""
    review = case.review
    if review.status != "accepted":
        return []
    at, _ = _entry(document, "review")
    if review.content != case.content:
        return [document.problem(at, "the case was changed since it was accepted", _AGAIN)]
    if case.reference is None:
        return [document.problem(at, "the case was accepted, and has no reference", _AGAIN)]
    if not reviewers:
        return []
    if review.by not in reviewers:
        who = printable(review.by, 60) or "nobody"
        return [
            document.problem(at, f"{who} accepted it, who is not among the suite's reviewers", f"one of {', '.join(reviewers)}")
        ]
    if not _signed(case, reviewers[review.by]):
        return [document.problem(at, f"it is not signed with the key that the suite has for {review.by}", _AGAIN)]
    return []


def _signed(case: Case, key: PublicKey) -> bool:
    try:
        signature = base64.b64decode(case.review.signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    return key.verify(review_statement(case, case.review), signature)

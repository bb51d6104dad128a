"""Suites: what nobody reviewed, and what was changed since, is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podctl.errors import SpecError
from podctl.learn.library import case_text, open_suite, write_case
from podctl.learn.reviewing import reviewed
from podctl.signing import SigningKey
from podctl.spec.load import load_bundle, load_suite
from podctl.spec.scaffold import scaffold
from podctl.spec.suite import Case, CaseOrigin, CaseTicket, FrozenRows, Suite
from podctl.spec.tables import check_cases
from podctl.tickets.suite import suite_tickets

STATE = {"db": {"orders": FrozenRows(key=("id",), columns=("id", "note"), gone=(("1",),), rows=(("1", None),))}}


def case(name: str = "T-1", **more: Any) -> Case:
    values: dict[str, Any] = {
        "ticket": CaseTicket(id=name, text="where?", fields={"n": 1, "odd": ["1e5", "yes", "~", " x", "0o7"]}),
        "reference": {"changes": []},
        "state": STATE,
        "origin": CaseOrigin(kind="failed", why="w", learned="2026-01-01T00:00:00Z", by="ana"),
        **more,
    }
    return Case(apiVersion="podctl/v1", kind="Case", name=name, **values)


def accepted(one: Case, suite: Suite, by: str = "ana", key: SigningKey | None = None) -> Case:
    return reviewed(suite, one, "accepted", by=by, at="2026-01-02T00:00:00Z", because="", key=key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text("")
    return open_suite(tmp_path / "suites" / "one", scenario)[0]


def test_only_what_was_accepted_is_run(file: Path) -> None:
    suite, _ = load_suite(file)
    write_case(file, case())
    with pytest.raises(SpecError, match="no accepted case"):
        suite_tickets(*load_suite(file))
    write_case(file, accepted(case(), suite))
    write_case(file, case("T-2"))
    write_case(file, reviewed(suite, case("T-3"), "rejected", by="ana", at="", because="no", key=None))
    (ticket,) = suite_tickets(*load_suite(file))
    assert (ticket.id, ticket.stratum, ticket.fields) == ("T-1", "failed", case().ticket.fields)
    (table,) = ticket.states["db"]
    assert (table.gone, table.rows, table.frozen) == ((("1",),), (("1", None),), True)


@pytest.mark.parametrize("by", ["", " ", "ana\nstatus: x", "ana\x1b[31m"])
def test_a_review_is_by_somebody(file: Path, by: str) -> None:
    with pytest.raises(SpecError, match="is no name"):
        accepted(case(), load_suite(file)[0], by=by)


@pytest.mark.parametrize(("old", "new"), [("where?", "where!"), ("changes: []", "output: {a: 1}"), ("- '1'", "- '2'")])
def test_a_case_that_was_changed_since_it_was_accepted_stops_everything(file: Path, old: str, new: str) -> None:
    path = write_case(file, accepted(case(), load_suite(file)[0]))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SpecError, match=r"T-1.yaml:\d+:1: the case was changed since it was accepted"):
        load_suite(file)


def test_without_a_reference_nothing_is_accepted(file: Path) -> None:
    with pytest.raises(SpecError, match="no reference"):
        accepted(case(reference=None), load_suite(file)[0])
    with pytest.raises(SpecError, match="unknown key 'chnages'"):
        accepted(case(reference={"chnages": []}), load_suite(file)[0])


def test_where_a_suite_names_reviewers_only_what_they_signed_is_run(file: Path) -> None:
    key, other = SigningKey.new(), SigningKey.new()
    (file.parent / "ana.pub").write_text(key.public.pem)
    file.write_text(file.read_text() + "reviewers: {ana: ana.pub}\n")
    suite, _ = load_suite(file)
    for by, with_key in (("ben", key), ("ana", None), ("ana", other)):
        with pytest.raises(SpecError, match=r"reviewer|signed|not the one"):
            accepted(case(), suite, by, with_key)
    path = write_case(file, accepted(case(), suite, "ana", key))
    assert len(suite_tickets(*load_suite(file))) == 1
    signed = path.read_text()
    path.write_text(signed.replace("by: ana\n  at", "by: ana\n  because: fine\n  at"))
    with pytest.raises(SpecError, match="not signed with the key that the suite has for ana"):
        load_suite(file)
    unsigned = Suite(apiVersion="podctl/v1", kind="Suite", name="s", scenario=Path("x"))
    write_case(file, accepted(case(), unsigned, "ana", other))
    with pytest.raises(SpecError, match="not signed with the key that the suite has for ana"):
        load_suite(file)
    write_case(file, accepted(case(), unsigned, "ben", key))
    with pytest.raises(SpecError, match="ben accepted it, who is not among"):
        load_suite(file)


def test_two_cases_of_a_ticket_and_a_file_of_another_name_are_mistakes(file: Path) -> None:
    path = write_case(file, case())
    path.with_name("T-9.yaml").write_text(path.read_text())
    with pytest.raises(SpecError) as caught:
        load_suite(file)
    assert "the case is called T-1, and its file T-9" in caught.value.render()
    path.with_name("T-9.yaml").write_text(path.read_text().replace("name: T-1", "name: T-9"))
    with pytest.raises(SpecError, match="ticket T-1 is that of case T-1 too"):
        load_suite(file)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * (1 << 20)], ids=["nul", "half", "large"])
def test_what_would_not_be_read_back_is_not_written(file: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be written|larger"):
        write_case(file, case(ticket=CaseTicket(id="T-1", text=text)))
    assert list((file.parent / "cases").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["a\n  b\n", "\x1b[31m", "tab\there", "é\u202e", "- a: b # c", "'", "\r\n", "  lead", "trail \nx", ""]
)
def test_texts_are_read_back_as_they_are(file: Path, text: str) -> None:
    one = case(ticket=CaseTicket(id="T-1", text=text, fields={text or "k": [text, None, True, 1.5, {"a": text}]}))
    assert case_text(one, file.parent / "cases" / "T-1.yaml")


def test_cases_whose_rows_do_not_fit_any_more_are_named(file: Path) -> None:
    suite, _ = load_suite(file)
    cases = [accepted(case(name), suite) for name in ("T-1", "T-2")]
    check_cases(cases, {"db": {"orders": ["id", "note", "more"]}})
    for there, why in (
        ({"db": {"orders": ["id"]}}, "orders has no column note"),
        ({"db": {"bills": ["id"]}}, "db has no table orders"),
        ({}, "there is no database db"),
    ):
        with pytest.raises(SpecError) as caught:
            check_cases(cases, there)
        assert caught.value.cause == f"T-1: {why}\nT-2: {why}"
    check_cases([case()], {})  # nothing that was not accepted is run, so nothing of it has to fit


def test_of_specs_of_others_no_case_and_no_key_is_read_from_elsewhere(tmp_path: Path) -> None:
    scaffold(tmp_path / "p")
    file = open_suite(tmp_path / "p" / "suites" / "one", tmp_path / "p" / "scenario.yaml")[0]
    path = write_case(file, accepted(case(state={}), load_suite(file)[0]))
    scenario = tmp_path / "p" / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("tickets: tickets.yaml", "tickets: suites/one/suite.yaml"))
    assert load_bundle(scenario, within=tmp_path / "p").cases
    outside = tmp_path / "T-2.yaml"
    outside.write_text("secret: of another\n")
    path.with_name("T-2.yaml").symlink_to(outside)
    with pytest.raises(SpecError, match="lies outside") as caught:
        load_bundle(scenario, within=tmp_path / "p")
    assert "secret" not in caught.value.render()
    path.with_name("T-2.yaml").unlink()
    file.write_text(file.read_text() + f"reviewers: {{ana: {outside}}}\n")
    with pytest.raises(SpecError, match="lies outside"):
        load_bundle(scenario, within=tmp_path / "p")

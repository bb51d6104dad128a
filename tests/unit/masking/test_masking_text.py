"""Free text: what is found, what is missed (the same table stands in docs/masking.md), and what stays as it was."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from masking import KEY, masker, masking
from planted import NAMES, PATTERNS, people, sentences

from podctl.masking.problems import MaskingProblem
from podctl.masking.table import Column, table_masker
from podctl.masking.text import Beside, TextMask
from podctl.masking.values import ValueMasks
from podctl.masking.watch import Knowledge, Watch
from podctl.spec.masking import TextPattern

PAGE = (Path(__file__).parents[3] / "docs" / "masking.md").read_text()
MASKS = ValueMasks(KEY.secret)
VALUES = 200


def mask_of(*known: tuple[str, str], **patterns: TextPattern) -> TextMask:
    watch = Watch()
    watch.knowledge.wanted = True
    for mask, value in known:
        watch.learn(mask, [value])
    return TextMask(MASKS, watch, patterns)


def said(kind: str) -> float:
    """The share that the page gives for a kind."""
    found = re.search(rf"^\| {re.escape(kind)} \| (\d+) %", PAGE, re.MULTILINE)
    assert found, f"docs/masking.md has no row for {kind}"
    return int(found[1]) / 100


@pytest.mark.parametrize("kind", PATTERNS)
def test_as_many_values_are_found_by_their_form_as_the_page_says(kind: str) -> None:
    make, write = PATTERNS[kind]
    randomness, mask, found = random.Random(kind), mask_of(), 0
    for _ in range(VALUES):
        value = write(make(randomness))
        for sentence in sentences(value, randomness):
            found += value not in mask.masked(sentence)
    assert found / VALUES == pytest.approx(said(kind), abs=0.006)


@pytest.mark.parametrize("kind", NAMES)
def test_as_many_known_names_are_found_as_the_page_says(kind: str) -> None:
    mask = mask_of(*(("name", name) for name in people()))
    randomness, found, count = random.Random(kind), 0, 0
    for name in people():
        value = NAMES[kind](name)
        for sentence in sentences(value, randomness):
            result = mask.masked(sentence)
            # Found only when neither word of the name is left.
            words = [word for word in re.split(r"[ ,]+", value) if len(word) > 2]
            found += not any(word in result for word in words)
            count += 1
    assert found / count == pytest.approx(said(kind), abs=0.006)


ORDINARY = [
    "order 4711 was shipped on 2024-01-31 at 10:22:33, see ticket INC0010023 and version 2.1.4",
    "reset your password here, the token has expired, secret santa on friday",
    "https://kb.corp.example/articles/42 and 3.5 GB of 16 GB, 100-200 users, 1,234,567.89 EUR, part 12-345-678",
    "we will mark the day with grace. The rose may grow in june",
    "sku 4006381333931, build 20240131123456, 1/2/2024, 555-0123, call extension 12",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Single words of names are names where they have a capital; a whole name of two ordinary words is one anywhere."""
    assert mask_of(("first-name", "Will"), ("first-name", "Mark"), ("name", "Rose Grace")).masked(text) == text


def test_text_joins_with_the_columns_that_have_the_same_values() -> None:
    rules = {"email": "email", "name": "name", "phone": "phone", "login": "username", "note": "text"}
    rows = (
        "zoe@corp.example\tZoeline Quartermaine\t+1 415 867 5309\tzquarter7\tx\n"
        "bo@corp.example\tBartosz Yilmazer\t+1 415 867 0000\tbyil99\t"
        "Zoeline Quartermaine (ZOE@corp.example, 415-867-5309, zquarter7) told Bartosz, says YILMAZER\n"
    )
    watch = Watch()
    masker(rules, watch=watch)(rows.encode())
    first, second = (line.split("\t") for line in masker(rules, watch=watch)(rows.encode()).decode().splitlines())
    email, name, phone, login, _ = first
    given, family = second[1].split(" ")
    digits = re.sub(r"\D", "", phone)[1:]
    assert (
        second[4] == f"{name} ({email}, {digits[:3]}-{digits[3:6]}-{digits[6:]}, {login}) told {given}, says {family.upper()}"
    )


def test_text_of_one_database_names_people_of_another_that_was_captured_before() -> None:
    known = Knowledge()
    policy = masking(databases={"shop": {"people": {"name": "name"}}, "mail": {"letters": {"body": "text"}}})
    people = table_masker(policy, KEY, "shop", "people", [Column("name", "text")], Watch(known))
    letters = table_masker(policy, KEY, "mail", "letters", [Column("body", "text")], Watch(known))
    name = people(b"Zoeline Quartermaine\n").decode().strip()
    assert letters(b"dear zoeline quartermaine, bye\n").decode() == f"dear {name.lower()}, bye\n"


@pytest.mark.parametrize("written", ["4158675309", "415 8675309", "(415)867-5309", "+14158675309", "0014158675309"])
def test_a_telephone_number_that_a_column_has_is_found_however_it_is_written(written: str) -> None:
    mask = mask_of(("phone", "+1 415 867 5309"))
    assert "867" not in mask.masked(f"call {written}!")
    assert mask.masked("order 8158675319!") == "order 8158675319!"


def test_names_of_the_row_are_found_in_its_text_before_any_table_is_known() -> None:
    (row,) = (
        masker({"name": "name", "note": "text"})(b"Zoeline Quartermaine\tzoeline rang; mrs quartermaine's badge\n")
        .decode()
        .splitlines()
    )
    name, note = row.split("\t")
    given, family = name.lower().split(" ")
    assert note == f"{given} rang; mrs {family}'s badge"


def test_overlapping_findings_leave_nothing_of_either() -> None:
    mask = mask_of(("name", "Zoeline Quartermaine"), ("name", "Quartermaine Okonkwo"))
    result = mask.masked("ask zoeline quartermaine okonkwo now")
    assert (
        not re.search("zoeline|quartermaine|okonkwo", result, re.IGNORECASE)
        and result.startswith("ask ")
        and result.endswith(" now")
    )


def test_a_pattern_of_the_masking_joins_with_its_column() -> None:
    mask = mask_of(order=TextPattern(match="#(W[0-9]{7})"))
    assert mask.masked("about #W0001234.") == f"about #{MASKS.ids('W0001234')}."
    with pytest.raises(MaskingProblem, match="no regular expression"):
        mask_of(order=TextPattern(match="("))


def test_documents_in_text_columns_and_keys_of_documents_are_text() -> None:
    mask = masker({"doc": {"mask": "json", "paths": {"people.*": "keep"}}}, {"doc": "jsonb"})
    result = mask(b'{"people": {"zoe@corp.example": 1, "plain": 2}, "other": 3}\n').decode()
    assert "zoe@" not in result and '"plain": 2' in result and "other" not in result


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_can_be_masked_and_masking_twice_finds_nothing_of_a_person_again(text: str) -> None:
    mask = mask_of(("name", "Zoeline Quartermaine"))
    once = mask.masked(f"{text} zoe@corp.example {text}", Beside(names=[("name", text)]))
    assert "zoe@corp.example" not in once


def test_long_runs_of_anything_take_time_in_proportion() -> None:
    import time

    mask = mask_of()
    for piece in ("a", "1", "aA1_", "a.", "1 ", "+1", "@", "a@", "://", "0 1-", "eyJ", "password ", "DE12 ", "-----BEGIN "):
        started = time.process_time()
        mask.masked(piece * (200_000 // len(piece)))
        assert time.process_time() - started < 3, piece

"""Hostile characters are shown, never obeyed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.reports.text import encodable, pairs_text, value_text, visible

ANY_TEXT = st.text(st.characters(), max_size=60)  # surrogates included


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, as it was", "plain, as it was"),
        ("\x1b[31mred", "␛[31mred"),
        ("two\nlines\tand a tab\x00", "two␊lines␉and a tab␀"),
        ("\u202ecod.exe", "⟨U+202E⟩cod.exe"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("\ud800 lone", "⟨U+D800⟩ lone"),
        ("\x7f\x9b", "⟨U+007F⟩⟨U+009B⟩"),
        ("\u2028\u2029", "⟨U+2028⟩⟨U+2029⟩"),
        ("no\u00a0break", "no break"),
        ("tag\U000e0041", "tag⟨U+E0041⟩"),
        ("é ü 漢字 😀 e\u0301", "é ü 漢字 😀 e\u0301"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY_TEXT)
def test_what_is_left_is_printable_valid_xml_and_stable(text: str) -> None:
    shown = visible(text)
    assert all(c.isprintable() for c in shown)
    assert visible(shown) == shown
    element = ElementTree.Element("a")
    element.text = shown
    assert (ElementTree.fromstring(ElementTree.tostring(element)).text or "") == shown


@given(ANY_TEXT, st.integers(1, 40))
def test_a_limit_holds_after_spelling_out(text: str, limit: int) -> None:
    shown = visible(text, limit)
    assert len(shown) <= limit
    if len(visible(text)) > limit:
        assert shown.endswith("…")


def test_marks_do_not_pile_up() -> None:
    assert visible("a" + "\u0301" * 50).count("\u0301") == 4


def test_newlines_can_be_kept() -> None:
    assert visible("a\nb\x07", keep="\n") == "a\nb␇"


def test_values() -> None:
    assert value_text(None) == "null"
    assert value_text("") == "(empty)"
    assert value_text(True) == "True"
    assert pairs_text({"id": 7, "n": None}) == "id=7, n=null"


@given(ANY_TEXT, st.sampled_from(["ascii", "latin-1", "utf-8", "cp437", None, "no-such-encoding"]))
def test_any_text_can_be_written_to_any_stream(text: str, encoding: str | None) -> None:
    usable = "ascii" if encoding in (None, "no-such-encoding") else encoding
    encodable(visible(text), encoding).encode(usable)


def test_stand_ins_are_readable() -> None:
    assert encodable("65–99 % ≥ 90 % → ✓", "ascii") == "65-99 % >= 90 % -> +"
    assert encodable("65–99 %", "utf-8") == "65–99 %"

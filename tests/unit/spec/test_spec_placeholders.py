"""Placeholders: found, filled in once, and refused when they are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.errors import SpecError
from podctl.spec.placeholders import expand, names

VALUES = {"python": "/usr/bin/python3", "shop-db.url": "postgresql://u@shop-db:5432/shop", "odd.host": "${python}"}


@pytest.mark.parametrize(
    ("text", "found", "expanded"),
    [
        ("", [], ""),
        ("$HOME $ $$ {x} }", [], "$HOME $ $$ {x} }"),
        ("${python}", ["python"], "/usr/bin/python3"),
        ("a${python}b${shop-db.url}", ["python", "shop-db.url"], "a/usr/bin/python3bpostgresql://u@shop-db:5432/shop"),
        ("$${python}", [], "${python}"),
        ("$$${python}", [], "$${python}"),
        ("${odd.host}", ["odd.host"], "${python}"),
    ],
)
def test_placeholders(text: str, found: list[str], expanded: str) -> None:
    assert names(text) == found
    assert expand(text, VALUES) == expanded


@pytest.mark.parametrize("text", ["${", "${}", "${a b}", "${A}", "x${python", "${a.b.c}", "${${python}}", "${.url}", "${a\n}"])
def test_what_is_no_placeholder_is_refused(text: str) -> None:
    for function in (names, lambda text: expand(text, VALUES)):
        with pytest.raises(SpecError, match="is not a placeholder"):
            function(text)


def test_an_unknown_one_is_refused_with_the_known() -> None:
    with pytest.raises(SpecError) as caught:
        expand("${shop-db.uri}", VALUES)
    assert "${shop-db.uri} names nothing here" in caught.value.render()
    assert "shop-db.url" in caught.value.render()


@given(st.text())
def test_plain_text_survives(text: str) -> None:
    assert expand(text.replace("${", "$${"), {}) == text

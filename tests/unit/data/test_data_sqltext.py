from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.data.sqltext import SqlTextProblem, bind_names, split_statements


def texts(script: str) -> list[str]:
    return [statement.text for statement in split_statements(script)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT E'\\';'", ["SELECT ';'", "SELECT E'\\';'"]),
        ("SELECT 'a\\'; SELECT 2", ["SELECT 'a\\'", "SELECT 2"]),
        ('SELECT ";" ; SELECT 2', ['SELECT ";"', "SELECT 2"]),
        ("-- a; b\nSELECT 1 /* ; /* ; */ ; */ ; SELECT 2", ["SELECT 1 /* ; /* ; */ ; */", "SELECT 2"]),
        ("DO $$ BEGIN x; END $$; SELECT 2", ["DO $$ BEGIN x; END $$", "SELECT 2"]),
        ("DO $a$ $$;$$; $a$; SELECT $1", ["DO $a$ $$;$$; $a$", "SELECT $1"]),
        ("SELECT a$b$c; SELECT d$b$e", ["SELECT a$b$c", "SELECT d$b$e"]),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3",
            ["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END", "SELECT 3"],
        ),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3",
         ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"]),
        ("BEGIN; SELECT 1; END;", ["BEGIN", "SELECT 1", "END"]),
        (" ;; -- nothing\n", []),
        ("\\restrict abc\nSELECT 1;\n\\unrestrict abc\n", ["SELECT 1"]),
    ],
)  # fmt: skip
def test_statements_end_where_psql_ends_them(script: str, expected: list[str]) -> None:
    assert texts(script) == expected


def test_lines_are_those_of_the_first_word() -> None:
    script = "-- one\n\nSELECT\n 1;\r\n/* a\n b */ SELECT 2;\nSELECT 3"
    assert [statement.line for statement in split_statements(script)] == [3, 6, 7]


def test_inline_rows_of_copy_are_kept_verbatim() -> None:
    script = "COPY t (a) FROM stdin;\n1;'\n\\N\n\\.\n\nSELECT 1;"
    copy, select = split_statements(script)
    assert (copy.text, copy.copy_data) == ("COPY t (a) FROM stdin", "1;'\n\\N\n")
    assert (select.text, select.line) == ("SELECT 1", 6)


@pytest.mark.parametrize(
    ("script", "line", "word"),
    [
        ("SELECT 1;\nSELECT 'x", 2, "never closed"),
        ("\n/* x", 2, "never closed"),
        ("DO $x$ \n", 1, "never closed"),
        ("SELECT 1;\n\\copy t from 'x'\n", 2, "psql command"),
        ("SELECT 1;\nCOPY t FROM stdin;\n1\n", 2, "do not end"),
    ],
)
def test_what_cannot_be_split_names_its_line(script: str, line: int, word: str) -> None:
    with pytest.raises(SqlTextProblem, match=word) as caught:
        list(split_statements(script))
    assert caught.value.line == line


def test_names_are_bound_outside_quotes_only() -> None:
    query = "SELECT ':ticket', x::text, 5 % 2, a[1:ticket] FROM t -- :ticket\nWHERE id = :ticket AND k LIKE 'a%' AND y = :other"
    assert bind_names(query, ["ticket"]) == (
        "SELECT ':ticket', x::text, 5 %% 2, a[1%(ticket)s] FROM t -- :ticket\n"
        "WHERE id = %(ticket)s AND k LIKE 'a%%' AND y = :other"
    )


PIECES = [
    "SELECT 1",
    "SELECT ';'",
    "DO $$ ; $$",
    'SELECT ";"',
    "SELECT /* ; */ 2",
    "SELECT E'\\';'",
    "INSERT INTO t VALUES (1)",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_joining_and_splitting_give_the_pieces_back(pieces: list[str]) -> None:
    assert texts(";\n".join(pieces)) == pieces


@given(st.text(alphabet="aE'\"$;-/*\\\n :(", max_size=60))
def test_no_text_breaks_the_splitter(script: str) -> None:
    try:
        assert all(text.strip() for text in texts(script))
    except SqlTextProblem as problem:
        assert problem.line <= script.count("\n") + 1

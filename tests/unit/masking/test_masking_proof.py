"""Leaks that were planted are found wherever they are; what is clean is signed; what was changed afterwards is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from masking import KEY, masking

from podctl.masking.canaries import Canary, canaries, forms
from podctl.masking.problems import MaskingProblem
from podctl.masking.proof import attest
from podctl.masking.scan import Scanner, refuse_findings
from podctl.masking.statement import verify
from podctl.masking.table import Column, Watch, table_masker
from podctl.masking.values import ValueMasks
from podctl.signing import SigningKey

SIGNING = SigningKey(bytes(range(32, 64)))
COLUMNS = [Column("id", "integer"), Column("email", "text"), Column("name", "text"), Column("note", "text")]
RULES = {"id": "keep", "email": "email", "name": "name", "note": "keep"}
ROWS = [(n, f"zoe{n}@corp-raw.example", f"Zoë{chr(97 + n % 26)} Quartermaine{n}", "") for n in range(500)]


def rows(notes: dict[int, str] | None = None) -> bytes:
    return "".join(f"{n}\t{email}\t{name}\t{(notes or {}).get(n, note)}\n" for n, email, name, note in ROWS).encode()


def captured(tmp_path: Path, notes: dict[int, str] | None = None, rules: dict[str, Any] = RULES) -> tuple[Path, Watch]:
    seed, watch = tmp_path / "seed", Watch()
    (seed / "tables").mkdir(parents=True)
    mask = table_masker(masking(rules), KEY, "shop", "people", COLUMNS, watch)
    (seed / "tables" / "0001.copy").write_bytes(mask(rows(notes)))
    return seed, watch


def test_a_clean_seed_is_signed_and_any_change_afterwards_is_said(tmp_path: Path) -> None:
    seed, watch = captured(tmp_path)
    statement = attest(seed, masking(RULES), KEY, SIGNING, watch, facts={"source": "shop, PostgreSQL 18"})
    said = statement["statement"]
    assert said["masking"]["key"] == KEY.id and said["masking"]["masked"] == {"email": 500, "name": 500}
    assert said["search"]["values"] > 200 and said["search"]["findings"] == 0
    text = (seed / "statement.json").read_text()
    assert "Quartermaine" not in text and "corp-raw" not in text and KEY.secret.hex() not in text
    assert verify(seed, [SIGNING.id]).differences == ()
    assert "none of the keys" in verify(seed, []).differences[0]

    table = seed / "tables" / "0001.copy"
    whole = table.read_bytes()
    table.write_bytes(whole.replace(b"example.com", b"example.org", 1))
    assert verify(seed, [SIGNING.id]).differences == ("tables/0001.copy: its content differs",)
    table.unlink()
    (seed / "more.sql").write_text("select 1")
    assert verify(seed, [SIGNING.id]).differences == ("more.sql: was added", "tables/0001.copy: is not there")
    (seed / "more.sql").unlink()
    table.write_bytes(whole)
    changed = json.loads(text)
    changed["statement"]["search"]["findings"] = -1
    (seed / "statement.json").write_text(json.dumps(changed))
    assert verify(seed, [SIGNING.id]).differences == ("the signature does not belong to the statement",)
    changed["public_key"] = SigningKey(bytes(32)).public.raw.hex()
    (seed / "statement.json").write_text(json.dumps(changed))
    assert len(verify(seed, [SIGNING.id]).differences) == 2
    for broken in ("", "{}", "[]", '{"statement": 3}'):
        (seed / "statement.json").write_text(broken)
        with pytest.raises(MaskingProblem, match="no statement"):
            verify(seed, [])


def test_the_same_rows_policy_and_keys_give_the_same_statement(tmp_path: Path) -> None:
    statements = []
    for name in ("one", "other"):
        seed, watch = captured(tmp_path / name)
        statements.append(attest(seed, masking(RULES), KEY, SIGNING, watch))
    assert statements[0] == statements[1]


def test_a_copy_of_a_value_in_a_column_that_is_kept_is_found_and_not_told(tmp_path: Path) -> None:
    """A policy that leaks: an audit column has what another column masks."""
    seed, watch = captured(tmp_path, {n: f"changed by {ROWS[n][1].upper()}" for n in range(500)})
    with pytest.raises(MaskingProblem, match="raw values are in what was to be masked") as caught:
        attest(seed, masking(RULES), KEY, SIGNING, watch)
    said = caught.value.render()
    assert "0001.copy, byte" in said and "a value of shop.people.email (email)" in said and "corp-raw" not in said.lower()
    assert not (seed / "statement.json").exists()


def test_text_that_is_masked_does_not_leak(tmp_path: Path) -> None:
    rules = {**RULES, "note": "text"}
    notes = {n: f"changed by {ROWS[n][1].upper()}, told {ROWS[(n + 1) % 500][1]}" for n in range(500)}
    seed, watch = captured(tmp_path, notes, rules)
    attest(seed, masking(rules), KEY, SIGNING, watch)


@pytest.mark.parametrize(
    "form",
    [
        lambda value: value.encode(),
        lambda value: value.upper().encode() if value.isascii() else value.encode(),
        lambda value: value.encode("utf-16-le"),
        lambda value: value.encode("utf-16-be"),
        lambda value: json.dumps({"v": value}).encode(),
        lambda value: json.dumps({"v": value}, ensure_ascii=False).encode(),
        lambda value: json.dumps({"v": value}).replace("\\", "\\\\").encode(),  # JSON in COPY text
    ],
)
@pytest.mark.parametrize(
    "value", ["Zoë\tQuartermaine", 'say "Quartermaine" twice', "back\\slashed Quartermaine", "日本太郎さま"]
)
@pytest.mark.parametrize("piece", [7, 64, 1 << 20])
def test_every_form_is_found_across_the_borders_of_pieces(tmp_path: Path, form: Any, value: str, piece: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * 61 + form(value) + b"y" * 100)
    found = Scanner([Canary(1, "here", "name", forms(value))]).scan([tmp_path], piece).findings
    assert [one.where for one in found] == ["here"]
    clean = tmp_path / "clean"
    clean.write_bytes(b"x" * 61 + form(value[:-1]) + b"y" * 100)
    assert Scanner([Canary(1, "here", "name", forms(value))]).scan([clean], piece).findings == ()


def test_the_place_of_a_finding_is_right_and_one_is_enough_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"." * 100 + b"needle-value" + b"." * 50 + b"needle-value")
    (found,) = Scanner([Canary(1, "here", "token", forms("needle-value"))]).scan([tmp_path], 37).findings
    assert found.offset == 100 and "needle" not in repr(found)


def test_a_file_that_cannot_be_searched_is_no_clean_file(tmp_path: Path) -> None:
    with pytest.raises(MaskingProblem, match="could not be searched"):
        Scanner([]).scan([tmp_path / "missing"])


def test_values_that_say_nothing_when_found_are_counted_and_not_searched() -> None:
    watch = Watch()
    for mask, value in (
        ("email", "a@b.c"),
        ("id", "12345678"),
        ("id", "AB-00042"),
        ("id", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("phone", "+1 273 555 0187"),
        ("phone", "+1 273 867 5309"),
        ("card", "9999303830050284"),
        ("name", "Anna Okonkwo-Brandt"),
        ("name", "Judith Dunmont"),
        ("username", "administrator"),
        ("username", "zquartermaine7"),
        ("date", "1980-05-06"),
        ("city", "Vladivostok"),
    ):
        watch.column("shop.people", mask, mask).masked(value, "")
    found = canaries(watch, ValueMasks(KEY.secret))
    assert found.searched == {"id": 1, "phone": 1, "name": 1, "username": 1}
    assert found.left_out == {"email": 1, "id": 2, "phone": 1, "card": 1, "name": 1, "username": 1, "date": 1, "city": 1}
    assert set(found.why) == set(found.left_out)
    shown = repr(found)
    assert "Okonkwo" not in shown


def test_the_sample_is_bounded_and_spread_over_all_values() -> None:
    watch = Watch()
    mask = table_masker(masking({"email": "email"}), KEY, "shop", "people", [Column("email", "text")], watch)
    for start in range(0, 200_000, 1000):
        mask("".join(f"zoe{n}@corp-raw.example\n" for n in range(start, start + 1000)).encode())
    ((_, _, sample),) = [found for found in watch.samples() if found[1] == "email"]
    numbers = [int(value[3:].split("@")[0]) for value in sample]
    assert 128 <= len(sample) <= 256 and max(numbers) > 180_000 and min(numbers) < 20_000
    assert watch.counts() == {"email": 200_000}


def test_what_postgresql_compresses_is_searched_where_it_is_not(tmp_path: Path, server: str) -> None:
    """Pages of long values are compressed: the bytes of a database's files do not show them, the seed's COPY files do."""
    secret = "Zoë Quartermaine of Nowhere"
    looked_for = Scanner([Canary(1, "notes.text", "name", forms(secret))])
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS notes; CREATE TABLE notes (id int, text text)")
        filler = "the quick brown fox jumps over the lazy dog " * 400
        connection.execute("INSERT INTO notes VALUES (1, %s)", (filler + secret + filler,))
        connection.execute("CHECKPOINT")
        (place,) = connection.execute("SELECT current_setting('data_directory') || '/base'").fetchone() or ("",)
        with connection.cursor().copy("COPY notes TO STDOUT") as copy:
            (tmp_path / "0001.copy").write_bytes(b"".join(bytes(piece) for piece in copy))
        in_pages = looked_for.scan([Path(place)]).findings
        connection.execute("DROP TABLE notes")
    assert in_pages == ()
    with pytest.raises(MaskingProblem):
        refuse_findings(looked_for.scan([tmp_path]))

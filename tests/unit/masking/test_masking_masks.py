"""What each mask keeps, and what it never lets through."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from masking import KEY, masked, masker

from podctl.masking.codes import Ids, is_card, is_iban, luhn, shaped
from podctl.masking.copytext import escape
from podctl.masking.keys import MaskingKey
from podctl.masking.prf import Keyed, normalised
from podctl.masking.values import LENGTHS, ValueMasks
from podctl.masking.words import FIRST_NAMES, LAST_NAMES

OTHER = MaskingKey(bytes(32))
MASKS = ValueMasks(KEY.secret)
WORDY = (
    "email",
    "name",
    "first-name",
    "last-name",
    "username",
    "address",
    "city",
    "company",
    "url",
    "token",
    "phone",
    "card",
    "ip",
)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


@pytest.mark.parametrize("mask", WORDY)
def test_the_same_value_has_the_same_mask_however_it_is_spelled_and_another_under_another_key(mask: str) -> None:
    value = {"phone": "+1 415 867 5309", "card": "4111111111111111", "ip": "10.1.2.3"}.get(mask, "Zoë Quartermaine")
    spellings = [value, f" {value} "]
    if mask not in ("name", "first-name", "last-name"):  # names follow the case they were written in
        spellings += [value.upper(), value.lower()]
    first, *others = masked(mask, *spellings)
    assert {other.strip() for other in others} == {first}
    assert masked(mask, value, key=OTHER) != [first]
    assert masked(mask, value) == [first]


def test_unicode_forms_of_one_value_have_one_mask() -> None:
    composed, decomposed, full_width = "zo\u00eb@corp.example", "zoe\u0308@corp.example", "ｚｏë@corp.example"
    assert len(set(masked("email", composed, decomposed, full_width))) == 1


def test_types_of_value_are_kept_apart() -> None:
    tokens = {
        masked(mask, "zoe")[0].removeprefix(prefix)[:13]
        for mask, prefix in (("email", ""), ("username", "u"), ("token", "masked-"))
    }
    assert len(tokens) == 3


@pytest.mark.parametrize("mask", sorted({*WORDY, "id", "iban", "text", "erase", "number"}))
def test_nulls_and_empty_text_stay(mask: str) -> None:
    assert masked(mask, "\\N", "", type="numeric" if mask == "number" else "text") == ["\\N", ""]


@given(text)
@pytest.mark.parametrize("mask", WORDY)
def test_no_word_of_a_value_is_in_its_mask(mask: str, value: str) -> None:
    result = MASKS.simple(mask)(value)
    assert result is not None
    raw = set(re.findall(r"[^\W\d_]{3,}", value.lower()))
    allowed = re.findall(r"[^\W\d_]{3,}", " ".join([*FIRST_NAMES, *LAST_NAMES]).lower()) if mask not in ("email", "url") else []
    assume(
        not raw & {*allowed, "example", "com", "https", "masked"}
        and not any(word in result.lower() and len(word) < 5 for word in raw)
    )
    assert not any(word in result.lower() for word in raw)


@given(text)
def test_masks_of_a_fixed_length_have_it(value: str) -> None:
    for mask in ("email", "username", "url", "token"):
        assert len(MASKS.simple(mask)(value) or "") == LENGTHS[mask]
    assert re.fullmatch(r"[a-z0-9]{13}@example\.com", MASKS.simple("email")(value) or "")


# ---- names ----


def test_names_agree_between_columns_and_orders() -> None:
    full, reversed_, first, last, upper = (
        masked("name", "Anna Quill-Perez")[0],
        masked("name", "Quill-Perez, Anna")[0],
        masked("first-name", "Anna")[0],
        masked("last-name", "Quill-Perez")[0],
        masked("name", "ANNA QUILL-PEREZ")[0],
    )
    assert full == f"{first} {last}" and reversed_ == f"{last}, {first}" and upper == full.upper()
    assert first in FIRST_NAMES and last in LAST_NAMES
    particle = masked("name", "Dr. Anna van der Quill-Perez")[0]
    assert particle == f"Dr. {first} van der {last}"


# ---- telephone numbers ----


@pytest.mark.parametrize(
    ("number", "reserved"),
    [
        ("+1 (415) 867-5309", r"\+1 \([2-9]\d\d\) 555-01\d\d"),
        ("415.867.5309", r"[2-9]\d\d\.555\.01\d\d"),
        ("14158675309", r"1[2-9]\d\d55501\d\d"),
        ("+44 7911 123456", r"\+44 7700 900\d\d\d"),
        ("+44 20 7123 4567", r"\+44 (20 7946 0|16 3296 0|11 3496 0|12 1496 0|16 1496 0)\d\d\d"),
        ("+33 6 12 34 56 78", r"\+33 6 39 98 \d\d \d\d"),
        ("+33 1 42 34 56 78", r"\+33 1 99 00 \d\d \d\d"),
        ("+49 30 9018201", r"\+49 00 0\d+"),  # none of this length is reserved
        ("+49 30 90182010", r"\+49 30 23125\d\d\d|\+49 (69|40|89|22|17) \d+"),
        ("+61 2 9876 5432", r"\+61 2 (5550|7010) \d{4}"),
        ("+353 1 234 5678", r"\+353 0 00\d \d{4}"),
        ("07911 123456", r"000\d\d \d{6}"),
        ("0049 30 90182010", r"0049 30 23125\d\d\d|0049 (69|40|89|22|17) \d+"),
    ],
)
def test_telephone_numbers_keep_their_shape_and_country_and_are_nobodys(number: str, reserved: str) -> None:
    (result,) = masked("phone", number)
    assert re.fullmatch(reserved, result), result
    assert re.sub(r"\d", "0", result) == re.sub(r"\d", "0", number)


def test_a_north_american_number_is_the_same_subscriber_with_and_without_its_country() -> None:
    results = masked("phone", "+1 (415) 867-5309", "415-867-5309", "14158675309")
    assert len({re.sub(r"\D", "", result)[-10:] for result in results}) == 1


# ---- cards and accounts ----


@given(st.integers(12, 19).flatmap(lambda length: st.text("0123456789", min_size=length, max_size=length)))
def test_cards_keep_luhn_and_belong_to_no_issuer(digits: str) -> None:
    card = digits[:-1] + str(luhn(digits[:-1]))
    result = MASKS.simple("card")(card) or ""
    assert is_card(result) and result.startswith("9999") and len(result) == len(card) and result != card


@given(st.sampled_from(["DE", "GB", "FR", "NL"]), st.text("ABCDEFGHIJ0123456789", min_size=11, max_size=28))
def test_accounts_keep_country_length_and_checksum_one_to_one(country: str, account: str) -> None:
    from podctl.masking.codes import iban_check

    iban = country + iban_check(country, account) + account
    result = MASKS.simple("iban")(iban) or ""
    assert is_iban(result) and result[:2] == country and len(result) == len(iban)
    assert [c.isdigit() for c in result[4:]] == [c.isdigit() for c in iban[4:]]


def test_an_account_is_recognised_by_its_checksum() -> None:
    assert is_iban("DE89 3704 0044 0532 0130 00") and is_iban("GB82WEST12345698765432")
    assert not is_iban("DE88 3704 0044 0532 0130 00")


# ---- ids ----


@given(st.integers(1, 2**80), st.integers(1, 2**80))
def test_numbers_are_permuted_within_what_their_types_hold(left: int, right: int) -> None:
    ids = Ids(KEY.secret)
    one, other = ids.integer(left), ids.integer(right)
    assert (one == other) == (left == right)
    for bound in (2**15, 2**31, 2**53, 2**63):
        assert (left < bound) == (one < bound)
    assert one >= 1


def test_every_small_number_has_a_mask_of_its_own() -> None:
    ids = Ids(KEY.secret)
    assert {ids.integer(number) for number in range(1, 2**15)} == set(range(1, 2**15))


@given(st.text("abcXYZ0189-_/ ", min_size=1, max_size=30), st.text("abcXYZ0189-_/ ", min_size=1, max_size=30))
def test_ids_keep_their_shape_one_to_one(left: str, right: str) -> None:
    ids = MASKS.simple("id")
    one, other = ids(left) or "", ids(right) or ""
    assert (one == other) == (left == right)
    if not left.strip().removeprefix("-").isdigit():  # a number is one in a text, too
        assert re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub(r"\d", "0", one))) == re.sub(
            "[a-z]", "a", re.sub("[A-Z]", "A", re.sub(r"\d", "0", left))
        )


def test_all_texts_of_a_shape_are_permuted() -> None:
    keyed = Keyed(KEY.secret, "test")
    texts = [f"{letter}{number:02d}" for letter in "abcdefghijklmnopqrstuvwxyz" for number in range(100)]
    assert sorted(shaped(keyed, text) for text in texts) == texts
    assert sorted(shaped(keyed, f"{number:03d}") for number in range(1000)) == [f"{number:03d}" for number in range(1000)]


@given(st.uuids(), st.uuids())
def test_uuids_keep_version_and_variant_one_to_one(left: object, right: object) -> None:
    ids = MASKS.simple("id")
    one, other = ids(str(left)) or "", ids(str(right)) or ""
    assert (one == other) == (left == right)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one)
    assert one[14] == str(left)[14] and one[19] == str(left)[19]
    assert ids(str(left).upper()) == one.upper()


def test_an_id_joins_as_number_and_as_text() -> None:
    assert masked("id", "4711", type="integer") == masked("id", "4711", type="bigint") == masked("id", "4711", type="text")


@given(st.integers(2, 10**40), st.data())
def test_a_permutation_can_be_made_of_any_size(size: int, data: st.DataObject) -> None:
    keyed = Keyed(KEY.secret, "test")
    left, right = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    one, other = keyed.permuted(left, size), keyed.permuted(right, size)
    assert 0 <= one < size and (one == other) == (left == right)


# ---- dates and numbers ----


def test_a_subject_moves_all_its_dates_by_the_same_days_and_no_other_does() -> None:
    from datetime import date, datetime

    rules = {"id": "id", "born": {"mask": "date", "subject": "id"}, "seen": {"mask": "date", "subject": "id"}}
    types = {"id": "integer", "born": "date", "seen": "timestamp with time zone"}
    rows = "".join(f"{n}\t2000-02-29\t2020-06-01 10:11:12.5+00\n" for n in range(1, 200)).encode()
    shifts = set()
    for line in masker(rules, types)(rows).decode().splitlines():
        _, born, seen = line.split("\t")
        days = (date.fromisoformat(born) - date(2000, 2, 29)).days
        assert (datetime.fromisoformat(seen) - datetime.fromisoformat("2020-06-01 10:11:12.5+00:00")).days == days
        assert days != 0 and abs(days) <= 730 and seen.endswith("10:11:12.5+00")
        shifts.add(days)
    assert len(shifts) > 150


@given(st.dates(), st.integers(0, 1000))
def test_dates_are_right_dates(day: object, subject: int) -> None:
    from datetime import date

    result = MASKS.date(str(day), str(subject).encode())
    assert result is not None
    if len(result) == 10 and result > "0001":
        date.fromisoformat(result)


def test_what_is_endless_stays_and_before_christ_is_counted() -> None:
    assert MASKS.date("infinity", b"1") == "infinity"
    assert MASKS.date("no date", b"1") is None
    assert (MASKS.date("0044-03-15 BC", b"1") or "").endswith(" BC")


@given(st.decimals(-(10**9), 10**9, places=2), st.sampled_from([None, "1000"]))
def test_numbers_of_a_bucket_have_one_mask_of_the_same_scale(value: Decimal, width: str | None) -> None:
    from podctl.spec.masking import ColumnRule

    mask = MASKS.number(ColumnRule(mask="number", bucket=Decimal(width) if width else None))
    assume(value != 0)
    result = Decimal(mask(str(value)) or "")
    bucket = Decimal(width) if width else max(Decimal(1).scaleb(value.adjusted() - 1), Decimal("0.1"))
    assert abs(result) // bucket == abs(value) // bucket and (result == 0 or (result > 0) == (value > 0))
    assert result.as_tuple().exponent == -2
    assert mask(str(result)) == str(result)  # every number of the bucket has this one


def test_normalising_folds_case_forms_and_space() -> None:
    assert normalised(" Straße ") == normalised("STRASSE") == normalised("strasse")


FIELDS = {
    "name": st.sampled_from(["Zoe Quill", "zoe quill", "ZOE QUILL", "Dr Zoe", "Zoe van", "Z Quill", "van Quill", "Zoë Quill", "Quill, Zoe", "Zoe  Quill", "Zoe", "\x0bZoe Quill", "McZoe O Quill"]) | text,
    "email": st.sampled_from(["a@b.c", " A@B.C", "ä@b.c", "\x1ca@b.c\x1f"]) | text,
    "phone": st.from_regex(r"\+?[0-9() .-]{1,20}", fullmatch=True) | text,
    "id": st.integers(-(2**63), 2**63 - 1).map(str) | st.integers(-50, 50).map(str),
}  # fmt: skip


@given(
    st.sampled_from(sorted(FIELDS)).flatmap(
        lambda mask: st.tuples(st.just(mask), st.lists(FIELDS[mask] | st.just("\\N"), min_size=1, max_size=20))
    )
)
def test_a_column_at_once_gives_what_its_values_give_alone(given_: tuple[str, list[str]]) -> None:
    mask, values = given_
    kind = "bigint" if mask == "id" else "text"
    fields = [value if value == "\\N" else escape(value.encode()).decode() for value in values]
    alone = [
        field if field in ("\\N", "") else escape((MASKS.simple(mask)(value) or "").encode()).decode()
        for field, value in zip(fields, values, strict=True)
    ]
    rows = "".join(f"{field}\n" for field in fields).encode()
    assert masker({"value": mask}, {"value": kind})(rows).decode().split("\n")[:-1] == alone


@pytest.mark.parametrize("size", [1, 2, 9, 100, 2**15 - 1, 10**7, 2**31, 2**53, 2**63 - 1, 2**63])
def test_many_numbers_are_permuted_as_each_alone(size: int) -> None:
    import random

    keyed = Keyed(KEY.secret, "test")
    numbers = sorted({random.Random(size).randrange(size) for _ in range(200)} | {0, size - 1})
    assert keyed.permuted_all(np.array(numbers, np.uint64), size).tolist() == [
        keyed.permuted(number, size) for number in numbers
    ]

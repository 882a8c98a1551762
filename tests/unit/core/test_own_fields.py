"""Own fields: keys from labels, choices, and the values that each kind takes."""

from datetime import date
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.own_fields import (
    MOST_CHOICES,
    FieldKind,
    OwnField,
    Value,
    choice_names,
    field_key,
    field_label,
    read_value,
    still_valid,
    suggested_key,
    value_of,
    write_value,
)

TEXT = OwnField("allergies", "Allergies", FieldKind.TEXT)
NUMBER = OwnField("shoe_size", "Shoe size", FieldKind.NUMBER)
DAY = OwnField("birthday", "Birthday", FieldKind.DATE)
CHOICE = OwnField("skin", "Skin type", FieldKind.CHOICE, ("Dry", "Oily, no", "Größe"))


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("Shoe size", "shoe_size"),
        ("  Größe (EU) ", "groe_eu"),
        ("Élodie's", "elodie_s"),
        ("2nd name", "field_2nd_name"),
        ("誕生日", "field"),
        ("x" * 60, "x" * 40),
    ],
)
def test_a_key_is_made_of_the_label(label: str, key: str) -> None:
    assert suggested_key(label) == key
    assert field_key(key) == key


@pytest.mark.parametrize("key", ["", "Size", "1st", "_a", "a-b", "a b", "é", "a" * 41, "a\n"])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="begin with a letter"):
        field_key(key)


@given(st.text())
def test_whatever_the_label_its_key_is_one(label: str) -> None:
    assert field_key(suggested_key(label))


@pytest.mark.parametrize(
    ("label", "why"),
    [(" ", "blank"), ("x" * 61, "60"), ("a\x00", "control"), ("\ud800", "control")],
)
def test_a_text_that_is_no_label_is_refused(label: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        field_label(label)
    assert field_label(" Shoe \n size") == "Shoe size"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ([], "at least one"),
        (["a,b"], "comma"),
        (["a", " A "], "twice"),
        ([""], "blank"),
        ([str(n) for n in range(MOST_CHOICES + 1)], "50"),
    ],
)
def test_choices_that_cannot_be_told_apart_are_refused(written: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        choice_names(written)
    assert choice_names([" Dry  skin ", "Oily"]) == ("Dry skin", "Oily")


@pytest.mark.parametrize(
    ("field", "given", "stored"),
    [
        (TEXT, " nuts \n and milk ", "nuts and milk"),
        (TEXT, "42", "42"),
        (NUMBER, 42, 42),
        (NUMBER, 42.0, 42),
        (NUMBER, -0.0, 0),
        (NUMBER, 42.5, 42.5),
        (NUMBER, 0.000001, 0.000001),
        (NUMBER, 999_999_999_999_999, 999_999_999_999_999),
        (DAY, "1990-04-01", "1990-04-01"),
        (CHOICE, "dry", "Dry"),
        (CHOICE, "GRÖSSE", "Größe"),
    ],
)
def test_a_value_is_stored_in_one_form(field: OwnField, given: object, stored: Value) -> None:
    assert value_of(field, given) == stored
    assert type(value_of(field, given)) is type(stored)


@pytest.mark.parametrize(
    ("field", "given", "why"),
    [
        (TEXT, 42, "quotes, because this field is a text"),
        (TEXT, "x" * 1001, "1,000"),
        (TEXT, "a\x00b", "control"),
        (NUMBER, "42", "without quotes"),
        (NUMBER, True, "number"),
        (NUMBER, float("nan"), "number"),
        (NUMBER, 0.0000001, "6 decimals"),
        (NUMBER, 10**15, "15 digits"),
        (NUMBER, 10**400, "15 digits"),
        (NUMBER, 1e300, "15 digits"),
        (NUMBER, 1234567890.1234567, "digits|decimals"),
        (DAY, "01.04.1990", "such as 2026-11-28"),
        (DAY, "1990-02-30", "such as 2026-11-28"),
        (DAY, "1990-W01-1", "such as 2026-11-28"),
        (DAY, 19900401, "quotes, because this field is a date"),
        (CHOICE, "Wet", "one of Dry"),
        (CHOICE, 1, "quotes, because this field is a choice"),
    ],
)
def test_another_value_is_refused_and_told_why(field: OwnField, given: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        value_of(field, given)


@pytest.mark.parametrize("written", ["1,5", "1e3", "1_000", "٣", "NaN", "0x1", "4 2", "--1", ""])
def test_a_text_that_is_no_number_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="number"):
        read_value(NUMBER, written)


def values(field: OwnField) -> st.SearchStrategy[object]:
    """Return values that a field may be given."""
    return {
        FieldKind.TEXT: st.text(),
        FieldKind.NUMBER: st.integers() | st.floats() | st.decimals(places=3).map(float),
        FieldKind.DATE: st.dates(date(1, 1, 1)).map(str),
        FieldKind.CHOICE: st.sampled_from(CHOICE.choices),
    }[field.kind]


@given(st.data(), st.sampled_from([TEXT, NUMBER, DAY, CHOICE]))
def test_what_is_stored_survives_json_text_and_being_stored_again(
    data: st.DataObject, field: OwnField
) -> None:
    try:
        stored = value_of(field, data.draw(values(field)))
    except ValueError:
        return
    assert value_of(field, stored) == stored
    assert read_value(field, write_value(stored)) == stored
    assert value_of(field, orjson.loads(orjson.dumps(stored))) == stored
    if field is NUMBER:
        assert "e" not in write_value(stored).lower()
        assert Decimal(write_value(stored)) == Decimal(repr(stored))


def test_values_of_fields_that_changed_are_left_out() -> None:
    former = {"shoe_size": 4, "birthday": 4, "skin": "Wet", "gone": "x", "allergies": "nuts"}
    assert still_valid([TEXT, NUMBER, DAY, CHOICE], former) == {"shoe_size": 4, "allergies": "nuts"}

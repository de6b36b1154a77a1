"""Values: exact numbers, types that never mix, text that can't hide anything."""

from __future__ import annotations

import json
import unicodedata
from decimal import Decimal

import pytest

from sessauth.errors import ScopeError
from sessauth.scopes.value import Number, quoted, shows, value_from_record, value_of, value_to_record
from tests.support.hidden import hides


@pytest.mark.parametrize(
    ("value", "units", "nanos", "text"),
    [
        (0, 0, 0, "0"),
        (Decimal("-0"), 0, 0, "0"),
        (Decimal("-0.5"), -1, 500_000_000, "-0.5"),
        (Decimal("1e3"), 1000, 0, "1000"),
        (Decimal("0.000000001"), 0, 1, "0.000000001"),
        (Decimal("1." + "0" * 5000), 1, 0, "1"),
        (-(2**63), -(2**63), 0, "-9223372036854775808"),
        (Decimal("9223372036854775807.999999999"), 2**63 - 1, 999_999_999, "9223372036854775807.999999999"),
    ],
)
def test_a_number_is_held_exactly(value: int | Decimal, units: int, nanos: int, text: str) -> None:
    """The floor and the billionths of a number, and its shortest plain form."""
    number = Number.of(value)

    assert (number.units, number.nanos, str(number)) == (units, nanos, text)
    assert number.to_decimal() == value


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        Decimal("1e-10"),
        Decimal("1e999999999"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
    ],
)
def test_a_number_beyond_the_format_is_refused(value: int | Decimal) -> None:
    """A number beyond int64 or 9 places, or no number, raises ScopeError."""
    with pytest.raises(ScopeError):
        Number.of(value)


def test_a_truth_is_not_a_number() -> None:
    """True and 1 are equal in Python and different values here."""
    assert value_of(True) is True
    assert value_of(1) == Number(1)
    assert value_to_record(True) == {"truth": True}
    assert value_to_record(1) == {"number": {"units": 1, "nanos": 0}}


def test_a_float_is_refused_with_the_way_out() -> None:
    """A float is not exact, and the error says what to pass instead."""
    with pytest.raises(ScopeError, match=r"decimal\.Decimal"):
        value_of(0.1)  # type: ignore[arg-type]


@pytest.mark.skipif(
    int(unicodedata.unidata_version.split(".")[0]) > 15, reason="later versions of Unicode may add to these"
)
def test_what_hides_is_escaped_and_nothing_that_shows() -> None:
    """The format escapes every control, format, private and space character of this Python's Unicode.

    Beside them only the variation selectors of plane 14, which show nothing of themselves.
    """
    every = [chr(code) for code in range(0x110000)]

    assert [char for char in every if hides(char) and shows(char)] == []
    extra = [
        char for char in every if unicodedata.category(char) != "Cn" and not hides(char) and not shows(char)
    ]
    assert extra == [chr(code) for code in range(0xE0100, 0xE01F0)]


def test_an_escape_does_not_depend_on_the_version_of_unicode() -> None:
    """A character that Python 3.11 does not know, and 3.14 does, is printed as it is by both."""
    assert quoted("\u1c89 \U00018d09") == '"\u1c89 \U00018d09"'


def test_a_record_without_a_member_is_refused() -> None:
    """A wire Value with no member stands for nothing."""
    with pytest.raises(ScopeError):
        value_from_record({"text": None, "number": None, "truth": None})


@pytest.mark.parametrize("text", ["\u202eg", "\x1b[2J", "a\u200bb", "\x85", "\u2028", 'a"b\\c', "\U000e0001"])
def test_quoted_text_shows_every_character(text: str) -> None:
    """Characters that reorder, hide or erase are escaped, and the escape reads back."""
    shown = quoted(text)

    assert shown.isprintable()
    assert json.loads(shown) == text


def test_quoted_text_shows_nothing_that_does_not_show() -> None:
    """Each control character is written out, U+007F too, which JSON would leave."""
    hidden = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x202E]))

    assert quoted(hidden).isascii()
    assert quoted(hidden).isprintable()
    assert json.loads(quoted(hidden)) == hidden

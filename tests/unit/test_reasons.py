"""The words of decisions as they are printed."""

from __future__ import annotations

import json

import pytest

from sessauth.reasons import Level, Reason, Stage, SurveyVerdict, Word


@pytest.mark.parametrize("word", [*Stage, *Level, *SurveyVerdict, *Reason])
def test_a_word_prints_itself(word: Word) -> None:
    """Every way to make text of a stage, level, verdict or reason gives its word, padded as asked."""
    assert f"{word}" == str(word) == "%s" % word == format(word) == word.name  # noqa: UP031
    assert f"{word:>24}" == word.name.rjust(24)


@pytest.mark.parametrize("word", [Stage.SCOPE, SurveyVerdict.NO, Reason.OUT_OF_SCOPE])
def test_a_word_is_still_its_number(word: Word) -> None:
    """It equals the number, which integer formats, ``int`` and JSON give."""
    number = word.value
    assert word == int(word) == number
    assert f"{word:d}" == "%d" % word == json.dumps(word) == str(number)  # noqa: UP031
    assert f"{word:04x}" == f"{number:04x}"

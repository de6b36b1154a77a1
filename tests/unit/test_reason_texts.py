from __future__ import annotations

import re

from sessauth.decisions.decision import REASON_TEXTS
from sessauth.reasons import Reason
from tests.support.markdown import Document
from tests.support.tree import ROOT


def test_a_meaning_is_the_first_sentence_of_its_paragraph() -> None:
    """The text of a reason, before its remedy, begins the paragraph of docs/reasons.md."""
    sections = Document(ROOT / "docs" / "reasons.md").sections(3)
    expected = {}
    for reason in Reason:
        text = " ".join(sections[reason.name].split())
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        found = re.search(r"Means (?:that )?(.*?\.)(?= [A-Z]|$)", text)
        assert found is not None, reason.name
        expected[reason] = found[1]

    assert expected == {reason: text.partition("; ")[0] + "." for reason, text in REASON_TEXTS.items()}

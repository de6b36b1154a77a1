from __future__ import annotations

import re

from sessauth.decisions.reason_texts import MEANINGS
from sessauth.reasons import Reason
from tests.support.markdown import Document
from tests.support.tree import ROOT


def test_a_meaning_is_the_first_sentence_of_its_paragraph() -> None:
    """What a decision's story says of a reason is what docs/reasons.md begins with, for each reason."""
    sections = Document(ROOT / "docs" / "reasons.md").sections(3)
    expected = {}
    for reason in Reason:
        text = " ".join(sections[reason.name].split())
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        found = re.search(r"Means (?:that )?(.*?\.)(?= [A-Z]|$)", text)
        assert found is not None, reason.name
        expected[reason] = found[1]

    assert expected == MEANINGS

"""Surveys come to the verdicts of the vectors."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth.decisions.tool_catalog import Candidate
from sessauth.verifier.verifier import Verifier
from tests.support.commit_id_source import CommitIdSource
from tests.support.vector_files import load, read_bytes, read_request, read_view

CONTENT = load("survey.json")


def _candidate(record: dict[str, Any]) -> Candidate:
    arguments = read_bytes(record, "arguments") if "arguments" in record else None
    return Candidate(read_bytes(record, "action"), read_bytes(record, "resource"), arguments, b"")


@pytest.mark.parametrize("vector", CONTENT["vectors"], ids=lambda vector: vector["name"])
def test_verdicts_are_as_stated(vector: dict[str, Any]) -> None:
    """The token's reason and stage, and a verdict for each candidate, alone and among all."""
    source = CommitIdSource()
    source.load(*read_view(CONTENT["views"][vector["view"]]))
    verifier, request = Verifier(source), read_request(vector["request"])
    candidates = [_candidate(record) for record in vector["candidates"]]
    token, expected = bytes.fromhex(vector["token_hex"]), vector["expected"]

    for asked in (candidates, *([each] for each in candidates)):
        found = verifier.list_allowed(token, asked, audience=request.audience, now_ms=vector["now_ms"])
        assert (found.reason.name, found.stage.name) == (expected["reason"], expected["stage"])
        if asked is candidates:
            assert [verdict.name for verdict in found] == expected["verdicts"]
        else:
            assert found[0].name == expected["verdicts"][candidates.index(asked[0])]

from __future__ import annotations

import pytest

from sessauth.audit.read.query import FolderReader, load_context
from sessauth.errors import NotFound
from sessauth.reasons import Reason

from .conftest import SampleLog


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_a_denial_by_a_block_is_explained_by_its_scope(sample: SampleLog) -> None:
    """The explanation has the block's label, its scope and the condition, out of the chain record."""
    story = load_context(FolderReader(sample.folder), _id(6))

    assert not story.decision
    assert story.decision.reason is Reason.CONDITION_FAILED
    assert story.meaning.startswith("action and resource matched a scope here")
    assert "label 'sub-agent'" in story.explanation
    assert 'read:mcp/github/issues where repo == "web"' in story.explanation
    assert "condition 0 on argument `repo`" in story.explanation
    assert [block.block_id for block in story.blocks] == list(sample.token.block_ids)


def test_a_denial_by_the_ceiling_is_explained_by_its_layers(sample: SampleLog) -> None:
    """The layers of that time come from the log's changes: the session's, then its parent's."""
    story = load_context(FolderReader(sample.folder), _id(7))

    assert [[str(scope) for scope in layer] for layer in story.ceilings] == [
        ["*:mcp/**"],
        ["read:mcp/**"],
        ["*:**"],
    ]
    assert "ceiling layer 1" in story.explanation
    assert "`read:mcp/**`" in story.explanation


def test_changes_stand_around_the_decision(sample: SampleLog) -> None:
    """Changes of the session before and after, rejected ones too."""
    story = load_context(FolderReader(sample.folder), _id(5))

    assert [entry.record["id"] for entry in story.changes] == ["open", "narrow", "suspend", "revoke", "end"]
    assert story.explanation == 'ALLOWED by block 0, scope 0 `read:mcp/github/* where repo == "web"`'


def test_a_forged_token_is_told_without_what_it_says(sample: SampleLog) -> None:
    """Without a valid signature there are no blocks and no ceilings, only changes of the claimed session."""
    story = load_context(FolderReader(sample.folder), _id(8))

    assert (story.blocks, story.ceilings, story.decision.session_id) == ((), [], b"")
    assert story.decision.reason is Reason.BAD_SIGNATURE
    assert len(story.changes) == 5


def test_what_the_log_does_not_have_is_not_found(sample: SampleLog) -> None:
    """An id of no decision is NotFound."""
    with pytest.raises(NotFound):
        load_context(FolderReader(sample.folder), bytes(16))

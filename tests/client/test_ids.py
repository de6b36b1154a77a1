"""Ids and values as callers state them and read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sessauth.client._live_state import LiveState
from sessauth.client._requests import sessions, tokens
from sessauth.client._results import CheckItem
from sessauth.errors import UsageError
from sessauth.model.receipt import SignedReceipt
from sessauth.model.session import EndCause, Session, SessionStatus
from sessauth.scopes.scope import Scope

HEX = "42c28f013e133dc2d7c12483d8dc23cf"
SESSION = Session(
    id=bytes.fromhex(HEX),
    subject="agent:one",
    purpose="ticket 12",
    owner="operator",
    parent_id=b"",
    status=SessionStatus.ACTIVE,
    epoch=1,
    ceilings=((Scope.parse("read:files/** free *").to_record(),),),
    facts=(),
    labels={},
    opened_at_ms=1,
    expires_at_ms=2,
    lease_ms=0,
    issuer_key_ids=(),
    revoked_count=0,
    ended_at_ms=0,
    end_cause=EndCause.UNSPECIFIED,
    reason="",
    revision=1,
)
TOKEN: Any = b"token"
TERMS: Any = {"subject": "s", "ceiling": ["read:**"]}
BYTES: Any = bytes.fromhex(HEX)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sessions.get_session("agent:one"), "session_id: must be 16 bytes, or 32 hex digits"),
        (lambda: sessions.get_session(HEX[:8]), "session_id: must be 16 bytes, or 32 hex digits"),
        (lambda: sessions.get_session(BYTES[:8]), "session_id: must be 16 bytes, or 32 hex digits"),
        (lambda: tokens.revoke(HEX, [HEX], "", ""), "block_ids: must be 32 bytes, or 64 hex digits"),
        (lambda: sessions.suspend(BYTES, "", 0, BYTES), "request_id: must be text; of bytes, their hex"),
        (
            lambda: tokens.item_message(CheckItem(TOKEN, "read", "a", retry_id="é" * 33)),
            "retry_id: at most 64 bytes, not 66",
        ),
    ],
)
def test_an_id_that_is_none_is_refused_in_words(call: Callable[[], object], said: str) -> None:
    """The error names the parameter, and the forms that it takes."""
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        call()


def test_ids_are_bytes_or_their_hex() -> None:
    """Each form asks the same, in upper case too."""
    for each in (BYTES, HEX, HEX.upper()):
        assert sessions.get_session(each).request.session_id == BYTES
        assert sessions.open_session("", {**TERMS, "parent_id": each}).request.parent_id == BYTES
        item = CheckItem(TOKEN, "read", "a", session=each, retry_id="attempt")
        assert tokens.item_message(item).session_id == BYTES
        assert tokens.item_message(item).retry_id == b"attempt"
    assert tokens.revoke(HEX, [HEX * 2], "", "").request.block_ids == [BYTES * 2]


def test_values_are_shown_in_one_line() -> None:
    """Ids are hex and scopes are text; of a receipt nothing is shown that is not verified."""
    parties = "subject='agent:one' purpose='ticket 12' owner='operator'"

    assert repr(SESSION) == f"<Session {HEX} ACTIVE {parties} ceiling=[['read:files/** free *']]>"
    assert repr(LiveState(SESSION)) == f"<LiveSession {HEX}>"
    assert (
        repr(SignedReceipt(b"payload", b"key", b"sig"))
        == "<SignedReceipt of 7 bytes, unverified, by key 6b6579>"
    )

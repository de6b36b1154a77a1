"""The outside of decisions: what agents learn, for every reason."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sessauth import Reason, Stage
from sessauth.decisions.outward import Outward, outward

# The stage at which each block of ten reasons is found.
STAGES = {
    0: Stage.NONE,
    1: Stage.DECODE,
    2: Stage.SESSION,
    3: Stage.ISSUER,
    4: Stage.SIGNATURE,
    5: Stage.TIME,
    6: Stage.AUDIENCE,
    7: Stage.REVOCATION,
    8: Stage.SCOPE,
    9: Stage.PROOF,
    10: Stage.NEEDS,
}
UNAVAILABLE = {
    "UNSPECIFIED",
    "INTERNAL_ERROR",
    "AUDIT_UNAVAILABLE",
    "STALE_STATE",
    "STATE_BRAKED",
    "CLOCK_SUSPECT",
    "PROOF_UNAVAILABLE",
    "NEEDS_SERVER",
}


class _Decided(SimpleNamespace):
    def __bool__(self) -> bool:
        return self.reason is Reason.ALLOWED


def decided(reason: Reason) -> Any:
    """Return a decision with a reason at its stage."""
    return _Decided(reason=reason, stage=STAGES[reason // 10])


def test_only_allowed_is_allowed() -> None:
    """No other reason looks like an allow, and no decision at all does not either."""
    assert [reason for reason in Reason if outward(decided(reason)) is Outward.ALLOWED] == [Reason.ALLOWED]
    assert outward(None) is Outward.UNAVAILABLE


def test_a_decision_that_only_calls_itself_allowed_is_none() -> None:
    """The word alone is not enough: the decision must be true as well."""
    lying = type("Lying", (), {"reason": Reason.ALLOWED, "stage": Stage.NONE, "__bool__": lambda _: False})()

    assert outward(lying) is Outward.DENIED


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.ALLOWED], ids=str)
def test_each_reason_has_one_outside(reason: Reason) -> None:
    """Faults of the host are UNAVAILABLE, those of the token UNAUTHENTICATED, all else DENIED."""
    expected = Outward.DENIED
    if reason.name in UNAVAILABLE:
        expected = Outward.UNAVAILABLE
    elif reason is Reason.APPROVAL_REQUIRED:
        expected = Outward.APPROVAL
    elif STAGES[reason // 10] <= Stage.TIME or reason is Reason.REVOKED:
        expected = Outward.UNAUTHENTICATED

    assert outward(decided(reason)) is expected


def test_sessions_that_are_over_look_alike() -> None:
    """An agent can't tell an unknown session from one that ended, lapsed or is suspended."""
    words = ("UNKNOWN_SESSION", "SESSION_ENDED", "SESSION_SUSPENDED", "LEASE_LAPSED", "SESSION_EXPIRED")

    assert {outward(decided(Reason[word])) for word in words} == {Outward.UNAUTHENTICATED}


def test_texts_name_no_reason() -> None:
    """No text holds the name of a reason or a stage."""
    words = {each.name.lower() for each in (*Reason, *Stage)} - {"allowed", "none", "time", "needs"}

    for each in Outward:
        assert not [word for word in words if word in each.text.lower()]


def test_codes_are_free_for_applications() -> None:
    """JSON-RPC reserves -32768 to -32000 (section 5.1)."""
    codes = [each.jsonrpc for each in Outward if each is not Outward.ALLOWED]

    assert len(set(codes)) == len(codes)
    assert not [code for code in codes if -32768 <= code <= -32000]

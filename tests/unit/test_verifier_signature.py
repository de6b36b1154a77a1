"""The options that a verifier's calls show: a gateway's, and none of the kernel's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from sessauth.verifier.verifier import ServerBackedVerifier, Verifier

CALL = ["self", "token", "action", "resource", "arguments"]
OF_A_CALL = ["tool", "session", "source", "peer", "audience", "at_least_revision", "proof"]
PAID = ["approvals", "retry_id", "permit_ms"]
BATCH = ["self", "calls", "audience", "at_least_revision"]
INTERNAL = {
    "now_ms": 1,
    "clock_suspect": True,
    "verify_new_signatures": False,
    "consume_nonce": False,
    "skip_proof": True,
    "cost_handler": None,
    "record_needs": False,
}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Verifier.check, CALL + OF_A_CALL),
        (ServerBackedVerifier.check, CALL + PAID + OF_A_CALL),
        (Verifier.check_batch, BATCH),
        (ServerBackedVerifier.check_batch, BATCH),
    ],
)
def test_a_call_shows_the_users_options_alone(method: Callable[..., Any], expected: list[str]) -> None:
    """Completion and ``help`` list the options that a gateway may state for a call."""
    assert list(inspect.signature(method).parameters) == expected


@pytest.mark.parametrize("option", INTERNAL)
@pytest.mark.parametrize("kind", [Verifier, ServerBackedVerifier])
def test_the_kernels_own_options_are_refused(kind: type[Verifier], option: str) -> None:
    """An option that would judge by another time, or take no nonce, is a TypeError for a gateway."""
    verifier = kind(_Nothing())
    given = {option: INTERNAL[option]}
    with pytest.raises(TypeError, match=option):
        verifier.check(b"", "read", "a", **given)
    with pytest.raises(TypeError, match=option):
        verifier.check_batch([(b"", "read", "a")], **given)


class _Nothing:
    """A source that nothing is read from."""

    brake = bytes(1)
    commit_id = None

    def begin(self) -> None:
        """Refuse."""
        raise AssertionError

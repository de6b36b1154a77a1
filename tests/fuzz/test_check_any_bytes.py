"""A short run of the harness, and that it would notice."""

from __future__ import annotations

import pytest

from sessauth.reasons import Reason
from tests.fuzz import check_any_bytes as harness
from tests.support import bulk_sessions
from tests.support.cases import examples
from tests.vectors.world import root, token

ROUNDS = examples(50_000)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 20260711])
def test_the_invariant_holds(seed: int) -> None:
    """All calls of each seed hold it by every way, and come out in many ways, allowed among them."""
    found = harness.run(seed, ROUNDS, 900.0)

    # Of a quarter, which are changed requests, some are still requests.
    assert ROUNDS // 50 < found.pop("requests") < ROUNDS // 50 * 12
    assert found.total() == ROUNDS
    assert found["ALLOWED"] > ROUNDS // 100 * 1.6
    assert len(found) >= 10
    assert found["INTERNAL_ERROR"] == 0


def test_the_harness_notices() -> None:
    """An allow of a token that was not among the signed, or of more than it may permit, is broken."""
    checker = bulk_sessions.checker()
    everything = token(root("*:**"))
    call = harness.Call(everything, b"read", b"files/a", b"", b"")
    with pytest.raises(harness.Broken):
        harness.check(checker, call, False)
    with pytest.raises(harness.Broken):
        harness.check(checker, harness.Call(everything, b"write", b"files/a", b"", b""), True)

    assert harness.check(checker, call, True) is Reason.ALLOWED

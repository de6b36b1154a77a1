"""Leases as a view sees them: a renewal counts also when nothing was committed since it was looked past."""

from __future__ import annotations

from pathlib import Path

from sessauth.reasons import Reason
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import id16
from tests.vectors.world import NOW, root, token


def test_a_renewal_that_no_check_needed_yet_counts_later(tmp_path: Path) -> None:
    """Renewed at 6 s and looked at in 7 s, the session lives in 11 s without a commit, and lapses at 16 s."""
    state = StateFixture(tmp_path / "state")
    state.open("leased", lease_ms=10_000)
    presented = token(root("*:**", root_fields={"session_id": id16("leased")}))

    assert state.reason(presented, now_ms=NOW + 1000) is Reason.ALLOWED
    state.clock.advance(6000)
    assert state.writer.keep_alive(id16("leased")).result(10) == NOW + 16_000
    assert state.reason(presented, now_ms=NOW + 7000) is Reason.ALLOWED
    assert state.reason(presented, now_ms=NOW + 11_000) is Reason.ALLOWED
    assert state.reason(presented, now_ms=NOW + 16_000) is Reason.LEASE_LAPSED
    state.close()

"""Time at its boundaries: no leeway where there is none, no wrap, no belief in a clock that stepped."""

from __future__ import annotations

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import Checker, View
from sessauth.reasons import Reason
from tests.support import bulk_sessions
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import make
from tests.support.view_source import MemorySource
from tests.vectors.world import ISSUER, NOW, SESSION, child, link, root, token

READ = "read:files/**"
_LAST = 2**53 - 1


def far_session(source: MemorySource) -> None:
    """Let the session live until the end of what times can state."""
    record = kernel.decode_message("SessionRecord", source.sessions[SESSION])
    source.sessions[SESSION] = kernel.encode_message("SessionRecord", {**record, "expires_at_ms": 2**64 - 1})


def timed(issued: int, expires: int, **fields: int) -> bytes:
    """A sealed root with these times."""
    return make(link(root(READ, issued_at_ms=issued, expires_at_ms=expires, **fields)), [ISSUER])


@pytest.mark.parametrize(
    "year_ms",
    [1, 4_294_967_295_000, 4_294_967_296_000, 2**31, 2**32, 2**41, _LAST - 1],
    ids=["1970", "2106", "past 2106", "2^31", "2^32", "2^41", "the last"],
)
def test_exact_ends(year_ms: int) -> None:
    """A token lives up to, not at, its expiry, and from its not_before on, in every epoch."""
    source = bulk_sessions.source()
    far_session(source)
    checker = Checker(View(source))
    ends = timed(1, year_ms + 1)
    begins = timed(1, _LAST, not_before_ms=year_ms)

    for _ in range(2):
        assert bulk_sessions.judge(checker, ends, now_ms=year_ms).reason == Reason.ALLOWED
        assert bulk_sessions.judge(checker, ends, now_ms=year_ms + 1).reason == Reason.EXPIRED
        assert bulk_sessions.judge(checker, ends, now_ms=2**63 - 1).reason == Reason.EXPIRED
        assert bulk_sessions.judge(checker, begins, now_ms=year_ms).reason == Reason.ALLOWED
        assert bulk_sessions.judge(checker, begins, now_ms=year_ms - 1).reason == Reason.NOT_YET_VALID


def test_the_clock_goes_back_and_forth(state: StateFixture) -> None:
    """Each check is judged by its own time: nothing that expired is remembered, nor that it lived."""
    chain = token(root(READ), child(expires_at_ms=NOW + 10), child(expires_at_ms=NOW + 5))
    for now, expected in ((NOW, 0), (NOW + 5, 2), (NOW + 10, 1), (NOW + 5, 2), (NOW - 10, 0), (NOW + 4, 0)):
        decision = state.check(chain, now_ms=now)
        assert (decision.reason, decision.index) == (
            (Reason.EXPIRED, expected) if expected else (Reason.ALLOWED, -1)
        )


def test_a_lease_at_its_deadline(fresh_state: StateFixture) -> None:
    """A lease lapses at its deadline, and a renewal that became durable counts at once."""
    session_id = fresh_state.open("leased", lease_ms=10_000)
    held = make(link(root(READ, root_fields={"session_id": session_id})), [ISSUER])

    assert fresh_state.reason(held, now_ms=NOW + 9999) is Reason.ALLOWED
    assert fresh_state.reason(held, now_ms=NOW + 10_000) is Reason.LEASE_LAPSED
    fresh_state.clock.advance(9000)
    deadline = fresh_state.writer.keep_alive(session_id).result(10)
    assert deadline > NOW + 10_000
    assert fresh_state.reason(held, now_ms=deadline - 1) is Reason.ALLOWED
    assert fresh_state.reason(held, now_ms=deadline) is Reason.LEASE_LAPSED


def test_a_clock_that_is_suspect() -> None:
    """A verifier whose clock stepped believes no time, and says so before it looks at the token's."""
    checker = bulk_sessions.checker()
    for chain in (token(root(READ)), token(root(READ, expires_at_ms=NOW))):
        assert bulk_sessions.judge(checker, chain, clock_suspect=True).reason == Reason.CLOCK_SUSPECT

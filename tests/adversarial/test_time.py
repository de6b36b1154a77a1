"""Time at its boundaries: no leeway where there is none, no wrap, no belief in a clock that stepped."""

from __future__ import annotations

import time

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import Checker, View
from sessauth.limits import CLOCK_STEP_MS, ISSUED_AT_LEEWAY_MS
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


def test_times_beyond_what_can_be_stated() -> None:
    """A time of 2^53 is malformed in each field, the one below is not."""
    checker = bulk_sessions.checker()
    for field in ("expires_at_ms", "not_before_ms", "issued_at_ms"):
        for value, form in ((_LAST + 1, False), (2**64 - 1, False), (_LAST, True)):
            stated = {"issued_at_ms": 1, "expires_at_ms": _LAST, field: value}
            if field == "issued_at_ms":
                stated["issued_at_ms"] = value - 1 if form else value
            reason = bulk_sessions.judge(checker, make(link(root(READ, **stated)), [ISSUER])).reason
            assert (reason != Reason.MALFORMED_TOKEN) is form, (field, value)


def test_an_issuer_whose_clock_is_ahead(state: StateFixture) -> None:
    """An issue up to 30 s ahead is forgiven, one ms more is not yet valid; nothing is forgiven on expiry."""
    within, beyond = (
        timed(NOW + ISSUED_AT_LEEWAY_MS + more, NOW + 10 * ISSUED_AT_LEEWAY_MS) for more in (0, 1)
    )

    assert state.reason(within) is Reason.ALLOWED
    assert state.reason(beyond) is Reason.NOT_YET_VALID
    assert state.reason(beyond, now_ms=NOW + 1) is Reason.ALLOWED


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


@pytest.mark.parametrize(
    ("floor_ahead_ms", "expected"),
    [
        (0, Reason.ALLOWED),
        (CLOCK_STEP_MS // 2, Reason.EXPIRED),
        (CLOCK_STEP_MS * 2, Reason.CLOCK_SUSPECT),
    ],
)
def test_a_clock_behind_the_floor(floor_ahead_ms: int, expected: Reason) -> None:
    """A clock behind the last change judges by that change's time; more than 60 s behind it is suspect."""
    now = time.time_ns() // 1_000_000
    source = bulk_sessions.source()
    far_session(source)
    head = kernel.decode_message("Head", source.meta[b"head"])
    source.meta[b"head"] = kernel.encode_message("Head", {**head, "clock_floor_ms": now + floor_ahead_ms})
    checker = Checker(View(source))
    chain = timed(now - 1000, now + CLOCK_STEP_MS // 4)

    assert bulk_sessions.judge(checker, chain, now_ms=-1).reason == expected

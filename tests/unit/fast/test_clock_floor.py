"""The clock's own time, by every way: never before the last change, and suspect when far behind it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._codec import CheckMessage
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support.commit_id_source import CommitIdSource, with_commit_id
from tests.support.token_forger import make
from tests.support.vector_files import read_view
from tests.vectors.world import AUDIENCE, ISSUER, SESSION, VIEWS, link, root

DAY = 86_400_000
BEGUN = time.time_ns() // 1_000_000
VALID = make(link(root("read:files/**", issued_at_ms=BEGUN - DAY, expires_at_ms=BEGUN + DAY)), [ISSUER])


def source() -> CommitIdSource:
    """A source whose session lives now."""
    made = CommitIdSource()
    made.load(*read_view(VIEWS["plain"]))
    record = kernel.decode_message("SessionRecord", made.sessions[SESSION])
    made.sessions[SESSION] = kernel.encode_message("SessionRecord", {**record, "expires_at_ms": BEGUN + DAY})
    return made


def floor(of: CommitIdSource, at_ms: int) -> None:
    """Commit a change that was made at a time."""
    head = kernel.decode_message("Head", of.meta[b"head"])
    of.meta[b"head"] = kernel.encode_message("Head", {**head, "clock_floor_ms": at_ms})
    of.touch()


def now_ms() -> int:
    """The wall clock's time, in ms since 1970."""
    return time.time_ns() // 1_000_000


def by_check(verifier: Verifier, **options: Any) -> Any:
    """One check."""
    return verifier._check(VALID, "read", "files/a", audience=AUDIENCE, **options)


def by_handle(verifier: Verifier, **options: Any) -> Any:
    """One check by a handle."""
    return verifier._check(verifier.prepare(VALID), "read", "files/a", audience=AUDIENCE, **options)


def by_batch(verifier: Verifier, **options: Any) -> Any:
    """The last of a batch."""
    calls = [(VALID, "read", "files/a"), (VALID, "read", "files/b", b"", b"", SESSION)]
    batch = verifier._check_batch(calls * 2, audience=AUDIENCE, **options)
    assert len({decision.checked_at_ms for decision in batch}) == 1
    return batch[-1]


def by_request(verifier: Verifier, **options: Any) -> Any:
    """A request in wire form."""
    item = pb.CheckItem(token=VALID, action=b"read", resource=b"files/a")
    asking = CheckMessage(verifier, pb.CheckRequest(item=item).SerializeToString(), "check")
    asking.judge(AUDIENCE, **options)
    return asking[0]


WAYS = (by_check, by_handle, by_batch, by_request)


@pytest.mark.parametrize("commit_id", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_clock_behind_the_last_change(way: Callable[..., Any], commit_id: bool) -> None:
    """It judges by that change's time, by a minute at most; a clock further behind is believed no time."""
    state = source()
    verifier = Verifier(state if commit_id else with_commit_id(state, None))
    for ahead in (0, 20_000, 40_000):
        at = now_ms() + ahead
        floor(state, at)
        for _ in range(2):
            decision = way(verifier)
            assert decision.allowed
            assert at <= decision.checked_at_ms <= at + (10_000 if ahead == 0 else 0)
    for _ in range(2):
        floor(state, now_ms() + 90_000)
        decision = way(verifier)
        assert (decision.reason, decision.allowed) == (Reason.CLOCK_SUSPECT, False)
        assert decision.checked_at_ms > now_ms() + 60_000
    floor(state, now_ms() - 5000)
    before = now_ms()
    decision = way(verifier)
    assert decision.allowed
    assert before <= decision.checked_at_ms <= now_ms()


@pytest.mark.parametrize("way", WAYS)
def test_a_time_that_is_given(way: Callable[..., Any]) -> None:
    """A time of the caller's is what is judged by, whatever the floor and the clock are."""
    state = source()
    verifier = Verifier(state)
    floor(state, now_ms() + 30 * DAY)
    for at, reason in (
        (BEGUN - 1, Reason.ALLOWED),
        (BEGUN + DAY - 1, Reason.ALLOWED),
        (BEGUN + DAY, Reason.SESSION_EXPIRED),
        (BEGUN - 2 * DAY, Reason.NOT_YET_VALID),
        (0, Reason.NOT_YET_VALID),
    ):
        decision = way(verifier, now_ms=at)
        assert (decision.reason, decision.checked_at_ms) == (reason, at)


@pytest.mark.parametrize("way", WAYS)
def test_a_floor_that_comes_during_the_check(way: Callable[..., Any]) -> None:
    """A row that is not mirrored is judged by the time of the state that it is read in."""
    state = source()
    verifier = Verifier(state)
    assert by_check(verifier).allowed
    state.commit_id.close()
    for ahead, reason in ((30_000, Reason.ALLOWED), (200_000, Reason.CLOCK_SUSPECT)):
        at = now_ms() + ahead

        def commit(of: CommitIdSource = state, later: int = at) -> None:
            of.on_begin = lambda: None
            floor(of, later)

        state.on_begin = commit
        decision = way(verifier)
        assert (decision.reason, decision.checked_at_ms) == (reason, at)

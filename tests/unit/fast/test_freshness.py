"""The freshness bound of a host: once it passed, every way to judge denies STALE_STATE, by the page alone."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from sessauth import limits
from sessauth._fast._check import Checker, FreshnessBound, View
from sessauth._fast._codec import DirectCaller, DirectMethod, Survey
from sessauth._fast.base import boot
from sessauth.clock import SystemClock
from sessauth.errors import StateError
from sessauth.reasons import Reason, Stage
from sessauth.state.host import brake
from sessauth.state.host.brake import Brake
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.check_entry_points import PATHS, TimedCall
from tests.support.commit_id_source import CommitIdSource
from tests.support.vector_files import read_view
from tests.vectors.world import AUDIENCE, NOW, VIEWS, ask, root, token

VALID = token(root("read:files/**"))
WORD = slice(4048, 4056)


def now_ms() -> int:
    """The steady time."""
    return SystemClock().steady_ms()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A released page without a bound."""
    brake.create(tmp_path / "brake")
    return tmp_path / "brake"


@pytest.fixture
def follower(path: Path) -> Iterator[Brake]:
    """The page as its follower holds it."""
    made = Brake(path)
    yield made
    made.close()


@pytest.fixture
def source(path: Path) -> CommitIdSource:
    """The vectors' state behind that page, as every reader maps it."""
    made = CommitIdSource()
    made.load(*read_view(VIEWS["plain"]))
    made.brake = brake.reader_page(path)  # type: ignore[assignment]
    return made


@pytest.fixture
def checker(source: CommitIdSource) -> Checker:
    """A checker of that state."""
    return Checker(View(source))


def reason(checker: Checker) -> Reason:
    """Return the reason of a good call."""
    decision = bulk_sessions.judge(checker, VALID)
    assert decision.allowed is (decision.reason is Reason.ALLOWED)
    assert decision.stage == (Stage.NONE if decision.allowed else Stage.SESSION)
    return decision.reason


def test_no_bound_is_as_before(follower: Brake, checker: Checker) -> None:
    """A page of zeros, as every folder had it, never passes."""
    page = checker.view
    assert reason(checker) is Reason.ALLOWED and page.current
    follower.call_anew(2**64 - 1)
    follower.engage("x" * 3000, by_hand=True)
    follower.release(by_hand=True)
    assert reason(checker) is Reason.ALLOWED and page.current


def test_it_passes_and_is_set_anew(follower: Brake, checker: Checker, path: Path) -> None:
    """No message and no commit: the page's word and the clock decide, for the readers of Python too."""
    page = brake.reader_page(path)
    bound = now_ms() + 150
    follower.fresh_until(bound)
    assert reason(checker) is Reason.ALLOWED and checker.view.current
    assert (brake.fresh_until_of(page), brake.is_stale(page)) == (bound, False)
    while now_ms() < bound:
        pass
    assert reason(checker) is Reason.STALE_STATE and not checker.view.current
    assert (brake.fresh_until_of(page), brake.is_stale(page)) == (bound, True)
    follower.fresh_until(now_ms() + 30_000)
    assert reason(checker) is Reason.ALLOWED and checker.view.current
    follower.deny_now()
    assert reason(checker) is Reason.STALE_STATE
    follower.fresh_until(now_ms() + 30_000)
    assert reason(checker) is Reason.ALLOWED


def test_it_never_goes_back_but_by_deny_now(follower: Brake, path: Path) -> None:
    """An older answer of a server takes away nothing, and no call leads back to no bound."""
    page = brake.reader_page(path)
    later = now_ms() + 30_000
    follower.fresh_until(later)
    for earlier in (later - 1, 1, 0):
        follower.fresh_until(earlier)
        assert brake.fresh_until_of(page) == later
    follower.deny_now()
    assert brake.fresh_until_of(page) == 1
    follower.fresh_until(0)
    assert brake.fresh_until_of(page) == 1


def test_a_first_time_of_zero_denies(follower: Brake, checker: Checker) -> None:
    """Stating anything sets a bound."""
    follower.fresh_until(0)
    assert reason(checker) is Reason.STALE_STATE


def test_the_brake_and_the_bound_are_of_one_another_independent(follower: Brake, checker: Checker) -> None:
    """The brake is the first reason; its release leaves the bound as it was."""
    follower.deny_now()
    follower.engage("drill", by_hand=True)
    assert reason(checker) is Reason.STATE_BRAKED
    follower.release(by_hand=True)
    assert reason(checker) is Reason.STALE_STATE


def test_the_earlier_of_two_bounds_counts(follower: Brake, checker: Checker) -> None:
    """A registered verifier's own, and its host's."""
    follower.fresh_until(now_ms() + 30_000)
    checker.view.stale_at(now_ms())
    assert reason(checker) is Reason.STALE_STATE
    checker.view.stale_at(now_ms() + 30_000)
    assert reason(checker) is Reason.ALLOWED
    follower.deny_now()
    assert reason(checker) is Reason.STALE_STATE
    checker.view.stale_at(0)
    assert reason(checker) is Reason.STALE_STATE


@pytest.mark.parametrize(
    "word", [1, 2**63 - 1, 2**63, 2**64 - 1, *(pytest.param(at, id=f"now+{at}") for at in (-60_000, 61_000))]
)
def test_a_word_that_no_follower_wrote_denies(
    follower: Brake, checker: Checker, path: Path, word: int
) -> None:
    """Past, or further ahead than any bound reaches: denied, whatever the number."""
    follower.fresh_until(now_ms() + 30_000)
    assert reason(checker) is Reason.ALLOWED
    value = word if abs(word) in (1, 2**63 - 1, 2**63, 2**64 - 1) else now_ms() + word
    with path.open("r+b") as file:
        file.seek(WORD.start)
        file.write(struct.pack("=Q", value))
    assert reason(checker) is Reason.STALE_STATE


def test_the_farthest_bound_is_the_farthest_of_a_registration(follower: Brake, checker: Checker) -> None:
    """60 s ahead is believed, and more becomes so when it is near enough."""
    follower.fresh_until(now_ms() + limits.MAX_STALENESS_MS)
    assert reason(checker) is Reason.ALLOWED


def test_a_bound_of_another_clock_denies(
    follower: Brake, source: CommitIdSource, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of an earlier boot, whose times may lie ahead, until a follower of this boot states one."""
    ahead = now_ms() + 30_000
    follower.fresh_until(ahead)
    before = Checker(View(source))
    later = b"another clock id"
    monkeypatch.setattr("sessauth._fast._check.clock_id", lambda: later)
    monkeypatch.setattr(brake, "clock_id", lambda: later)
    now = Checker(View(source))
    assert (reason(before), reason(now)) == (Reason.ALLOWED, Reason.STALE_STATE)

    restarted = Brake(path)
    restarted.fresh_until(ahead - 1)

    page = brake.reader_page(path)
    assert brake.fresh_until_of(page) == ahead - 1
    assert (reason(before), reason(now)) == (Reason.STALE_STATE, Reason.ALLOWED)
    restarted.close()


def test_a_clock_is_of_a_boot_and_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 bytes, the same each time, and not those of another boot or time namespace."""
    own = boot.clock_id()
    assert len(own) == 16 and any(own) and boot.clock_id() == own
    found = {own}
    for name, value in (("boot_id", lambda: bytes(16)), ("_TIME_NAMESPACE", "/nowhere")):
        with monkeypatch.context() as patched:
            patched.setattr(boot, name, value)
            found.add(boot.clock_id.__wrapped__())
    assert len(found) == 3


def test_a_page_that_can_not_be_made_durable_has_no_bound_ahead(
    follower: Brake, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power must not bring back a page without a bound: the first one needs a durable page."""

    class Full:
        """A page on a full disk."""

        def __init__(self, page: object) -> None:
            self._page = page

        def __getitem__(self, at: slice) -> bytes:
            return self._page[at]  # type: ignore[index,no-any-return]

        def __setitem__(self, at: slice, data: bytes) -> None:
            self._page[at] = data  # type: ignore[index]

        def flush(self) -> None:
            raise OSError(28, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(follower, "_page", Full(follower._page))
        with pytest.raises(StateError, match="no space"):
            follower.fresh_until(now_ms() + 30_000)
        follower.deny_now()
        assert reason(checker) is Reason.STALE_STATE
    follower.fresh_until(now_ms() + 30_000)
    assert reason(checker) is Reason.ALLOWED


def test_a_short_page_has_no_bound_and_a_crooked_one_is_refused(source: CommitIdSource) -> None:
    """Sources in memory have a few bytes; a word that is not at a multiple of 8 could be read by halves."""
    for size in (1, 64, 4056, 4095):
        assert not FreshnessBound(b"\xff" * size).passed
    assert not FreshnessBound(bytes(4096)).passed
    assert FreshnessBound(b"\xff" * 4096).passed
    with pytest.raises(ValueError, match="multiple of 8"):
        FreshnessBound(memoryview(bytearray(4100))[1:4097])


@pytest.mark.parametrize("name", PATHS)
def test_every_path_denies(follower: Brake, source: CommitIdSource, name: str) -> None:
    """Handles, batches, messages, warm and cold: none forgets the bound, and none keeps its denial."""
    way = PATHS[name](source, Random(1))
    if hasattr(way, "prepare"):
        way.prepare(())
    calls = [TimedCall(VALID, ask(), NOW)] * 8

    def reasons() -> set[Reason]:
        return {Reason(each.outcome.reason) for each in way.judge(calls) if each is not None}

    for _ in range(2):
        follower.fresh_until(now_ms() + 30_000)
        assert reasons() == {Reason.ALLOWED}
        follower.deny_now()
        assert reasons() == {Reason.STALE_STATE}


def test_surveys_the_token_alone_and_direct_answers_deny(follower: Brake, source: CommitIdSource) -> None:
    """A survey, a token alone, and an answer of the native server on its loop."""
    verifier = Verifier(source, audience=AUDIENCE)
    method = DirectMethod("check", verifier, lambda decision, token: "no")
    direct = DirectCaller(method, (AUDIENCE,), None)
    request = pb.CheckRequest(item=pb.CheckItem(token=VALID, action=b"read", resource=b"files/a"))

    def reasons() -> list[int]:
        survey = Survey(verifier, VALID, audience=AUDIENCE, now_ms=NOW)
        possible = survey.verdicts([("read", "files/a")])
        assert possible == ([1] if survey.reason == Reason.ALLOWED else [2])
        alone = verifier._check(VALID, b"", b"", token_only=True, now_ms=NOW)
        return [survey.reason, alone.reason]

    def direct_reason() -> int:
        answer = direct.answer_bytes(request.SerializeToString())
        assert answer is not None
        return pb.CheckResponse.FromString(answer).decision.reason

    follower.fresh_until(now_ms() + 30_000)
    assert reasons() == [Reason.ALLOWED] * 2
    # The vectors' tokens are of another year.
    assert direct_reason() not in (Reason.ALLOWED, Reason.STALE_STATE)
    follower.deny_now()
    assert reasons() == [Reason.STALE_STATE] * 2
    assert direct_reason() == Reason.STALE_STATE

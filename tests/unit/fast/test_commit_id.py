"""The commit id: two words of a buffer, of which the larger counts, until it is closed."""

from __future__ import annotations

import mmap
import random
import sys
from pathlib import Path

import pytest

from sessauth._fast._check import Checker, CommitId, View
from sessauth.reasons import Reason
from tests.support import bulk_sessions
from tests.support.commit_id_source import LARGEST, WORD, CommitIdSource, of_view, set_word, with_commit_id
from tests.support.vector_files import read_view
from tests.vectors.world import VIEWS, root, token

VALID = token(root("read:files/**"))


@pytest.mark.parametrize(("first", "second"), [(0, 8), (8, 0), (0, 64), (56, 8), (24, 24)])
def test_the_larger_word_counts(first: int, second: int) -> None:
    """The number is the larger of the two, whichever that is, as 64 bits without a sign, and of now."""
    words = bytearray(72)
    commit_id = CommitId(words, first, second)
    rng = random.Random(1)
    for _ in range(100):
        a, b = (rng.choice((0, 1, 2**32, 2**63, LARGEST, rng.getrandbits(64))) for _ in range(2))
        words[first : first + WORD] = a.to_bytes(WORD, sys.byteorder)
        words[second : second + WORD] = b.to_bytes(WORD, sys.byteorder)
        assert commit_id.number == (b if first == second else max(a, b))


@pytest.mark.parametrize("size", [0, 7, 8, 15, 16, 24])
def test_words_lie_inside_the_buffer(size: int) -> None:
    """Offsets other than multiples of 8 inside the buffer are refused."""
    offsets = (0, 1, 4, 7, 8, 9, 12, 16, 17, 24, 2**31, 2**32, 2**63, 2**63 - 8, 2**64 - 16, 2**64 - 8)
    for first in offsets:
        for second in offsets:
            inside = all(at % 8 == 0 and at + 8 <= size for at in (first, second))
            if inside:
                assert CommitId(bytearray(size), first, second).number == 0
                continue
            with pytest.raises(ValueError, match="inside the buffer"):
                CommitId(bytearray(size), first, second)


def test_offsets_that_are_no_sizes() -> None:
    """Negative offsets, larger ones than an address, and no numbers raise; so does no buffer."""
    for wrong, kind in ((-1, OverflowError), (2**64, OverflowError), ("0", TypeError)):
        with pytest.raises(kind):
            CommitId(bytearray(16), wrong, 0)  # type: ignore[arg-type]
        with pytest.raises(kind):
            CommitId(bytearray(16), 0, wrong)  # type: ignore[arg-type]
    for nothing in (None, "text", 7):
        with pytest.raises(TypeError):
            CommitId(nothing, 0, 8)  # type: ignore[arg-type]


def test_a_buffer_that_lies_between_words() -> None:
    """A buffer whose own place is no multiple of 8 has no words, however its offsets look."""
    whole = memoryview(bytearray(64))
    for skip in range(1, 8):
        with pytest.raises(ValueError, match="multiples of 8"):
            CommitId(whole[skip : skip + 48], 0, 8)
    assert CommitId(whole[8:56], 0, 8).number == 0
    with pytest.raises(BufferError):
        CommitId(whole[::2], 0, 8)


def test_the_buffer_stays() -> None:
    """A buffer can neither shrink nor be closed under a commit id, and is let go with it."""
    words, pages = bytearray(16), mmap.mmap(-1, mmap.PAGESIZE)
    commit_ids = [CommitId(words, 0, 8), CommitId(pages, 0, 8)]
    with pytest.raises(BufferError):
        words.clear()
    with pytest.raises(BufferError):
        pages.close()
    assert [commit_id.number for commit_id in commit_ids] == [0, 0]
    for commit_id in commit_ids:
        commit_id.close()
    with pytest.raises(BufferError):
        words.clear()
    del commit_id
    commit_ids.clear()
    words.clear()
    pages.close()


def test_a_closed_pulse_says_nothing() -> None:
    """Closed, once or twice, it says 0 whatever the words say."""
    words = bytearray(16)
    commit_id = CommitId(words, 0, 8)
    set_word(words, 1, 7)
    assert commit_id.number == 7
    for _ in range(2):
        commit_id.close()
        assert commit_id.number == 0
        set_word(words, 0, LARGEST)


def test_a_mapped_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """A write through another mapping of the file is the next commit id."""
    file = tmp_path / "words"
    file.write_bytes(bytes(mmap.PAGESIZE))
    with file.open("r+b", buffering=0) as writer, file.open("rb") as reader:
        pages = mmap.mmap(reader.fileno(), mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        commit_id = CommitId(pages, 8, 16)
        for number in range(1, 500):
            writer.seek(8 + 8 * (number % 2))
            writer.write(number.to_bytes(WORD, sys.byteorder))
            assert commit_id.number == number


def test_while_it_stands_no_transaction_is_begun() -> None:
    """One transaction for each state that checks met, none for further checks of what they met."""
    source = of_view()
    checker = Checker(View(source))
    for commits in range(1, 6):
        for _ in range(4):
            assert bulk_sessions.judge(checker, VALID).allowed
        assert source.begun == commits
        source.touch()


def test_a_change_is_seen_by_the_next_check() -> None:
    """Each load is seen by the next check, and no check begins a needless transaction."""
    source = of_view()
    checker = Checker(View(source))
    for view, reason in (
        ("plain", Reason.ALLOWED),
        ("suspended", Reason.SESSION_SUSPENDED),
        ("key_distrusted", Reason.ISSUER_DISTRUSTED),
        ("plain", Reason.ALLOWED),
    ) * 3:
        source.load(*read_view(VIEWS[view]))
        begun = source.begun
        assert [bulk_sessions.judge(checker, VALID).reason for _ in range(3)] == [reason] * 3
        assert source.begun == begun + 1


def test_what_was_not_met_yet_is_asked_for() -> None:
    """A session that no check met is read in a transaction though the commit id stands."""
    source = of_view()
    checker = Checker(View(source))
    assert bulk_sessions.judge(checker, VALID).allowed
    unknown = next(bulk_sessions.tokens(bulk_sessions.name(1), 1))
    for begun in (2, 3, 4):
        assert bulk_sessions.judge(checker, unknown).reason == Reason.UNKNOWN_SESSION
        assert source.begun == begun
    assert bulk_sessions.judge(checker, VALID).allowed
    assert source.begun == 4


@pytest.mark.parametrize("said", [5, 2**40, LARGEST])
def test_a_number_that_is_ahead_only_costs_a_transaction(said: int) -> None:
    """A commit id that says more than the mirror's number is asked no more of than to be wrong."""
    source = of_view()
    for _ in range(3):
        source.touch()
    words = bytearray(16)
    set_word(words, 0, said)
    checker = Checker(View(with_commit_id(source, words)))
    for begun in range(1, 5):
        assert bulk_sessions.judge(checker, VALID).allowed
        assert source.begun == begun


@pytest.mark.parametrize("said", [0, 1, 2, 3])
def test_a_number_that_is_behind_denies(said: int) -> None:
    """A commit id below the transaction's is an older file's: this call is denied, and all after."""
    source = of_view()
    for _ in range(3):
        source.touch()
    words = bytearray(16)
    set_word(words, 0, said)
    checker = Checker(View(with_commit_id(source, words)))
    assert bulk_sessions.judge(checker, VALID).reason == Reason.STALE_STATE
    set_word(words, 0, LARGEST)
    assert bulk_sessions.judge(checker, VALID).reason == Reason.STALE_STATE


def test_a_closed_pulse_leaves_the_answer_to_the_source() -> None:
    """Checks after the close ask the source each time, and deny when it refuses."""
    source = of_view()
    checker = Checker(View(source))
    assert bulk_sessions.judge(checker, VALID).allowed
    source.commit_id.close()
    assert bulk_sessions.judge(checker, VALID).allowed
    assert source.begun == 2

    def refuse() -> None:
        raise OSError("closed")

    source.on_begin = refuse
    assert bulk_sessions.judge(checker, VALID).reason == Reason.INTERNAL_ERROR


def test_the_brake_needs_no_commit() -> None:
    """The brake page denies though the commit id stands still, and its release allows."""
    source = of_view()
    checker = Checker(View(source))
    for value, reason in ((0, Reason.ALLOWED), (1, Reason.STATE_BRAKED), (0, Reason.ALLOWED)):
        source.brake[0] = value
        assert bulk_sessions.judge(checker, VALID).reason == reason
    assert source.begun == 1


def test_a_lease_is_asked_for_once_its_deadline_is_reached() -> None:
    """A deadline that was read before is believed until it is reached; then a later one is looked for."""
    record = {**VIEWS["plain"]}
    session = {**record["sessions"][0]}
    now = int(session["expires_at_ms"]) - 10_000
    record["sessions"] = [{**session, "lease_deadline_ms": now}]
    source = CommitIdSource()
    source.load(*read_view(record))
    checker = Checker(View(source))
    early, late = (
        lambda at=at: bulk_sessions.judge(checker, VALID, now_ms=at).reason for at in (now - 1, now)
    )
    assert [early(), early(), late()] == [Reason.ALLOWED, Reason.ALLOWED, Reason.LEASE_LAPSED]
    source.leases[next(iter(source.leases))] = (now + 1).to_bytes(8, "big")
    source.touch()
    assert late() == Reason.ALLOWED

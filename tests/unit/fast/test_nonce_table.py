"""The replay table: a nonce is taken once, nothing that counts is displaced, and a bad file is refused."""

from __future__ import annotations

import os
import stat
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sessauth._fast._check import ReplayTable, TableError
from sessauth._fast.nonces import table_file
from sessauth.limits import PROOF_WINDOW_MS
from sessauth.reasons import Reason

NOW = 1_800_000_000_000
SIGNATURE = b"s" * 64
HOLDER = b"k" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a test's table."""
    return tmp_path / "replay"


@pytest.fixture
def table(path: Path) -> ReplayTable:
    """A table of 4,096 slots in 256 buckets, made a minute ago."""
    return ReplayTable.create(path, 4096, NOW - 60_000)


def take(
    table: ReplayTable, once: bytes, time_ms: int = NOW, now_ms: int = NOW, *, holder: bytes = HOLDER
) -> Reason:
    """Take a nonce."""
    return Reason(table.insert(SIGNATURE, once, holder, time_ms, now_ms))


def nonce(number: int) -> bytes:
    """The nonce of a number."""
    return number.to_bytes(16, "big")


def holder(number: int) -> bytes:
    """The key of a holder."""
    return number.to_bytes(32, "big")


def test_a_nonce_is_taken_once(table: ReplayTable, path: Path) -> None:
    """The second time is a replay, by every opening of the file; of another chain it is another nonce."""
    other = ReplayTable.open(path)

    assert take(table, nonce(1)) is Reason.ALLOWED
    assert take(table, nonce(1)) is take(other, nonce(1)) is Reason.REPLAYED
    assert take(other, nonce(2)) is Reason.ALLOWED
    assert take(table, nonce(2)) is Reason.REPLAYED
    assert Reason(table.insert(b"t" * 64, nonce(1), HOLDER, NOW, NOW)) is Reason.ALLOWED


def test_it_counts_for_the_whole_window(table: ReplayTable) -> None:
    """A proof from the future is remembered for 60 s: as long as its time is taken."""
    ahead = NOW + PROOF_WINDOW_MS
    assert take(table, nonce(1), ahead) is Reason.ALLOWED

    for later in (1, 999, 30_000, 59_000, 60_000):
        assert take(table, nonce(1), ahead, NOW + later) is Reason.REPLAYED
    assert take(table, nonce(1), ahead, NOW + 60_001) is Reason.STALE_PROOF
    # What is over makes room: a new proof may have the old nonce.
    assert take(table, nonce(1), NOW + 62_000, NOW + 62_000) is Reason.ALLOWED


@pytest.mark.parametrize(
    ("time_ms", "expected"),
    [
        (NOW - PROOF_WINDOW_MS, Reason.ALLOWED),
        (NOW - PROOF_WINDOW_MS - 1, Reason.STALE_PROOF),
        (NOW + PROOF_WINDOW_MS, Reason.ALLOWED),
        (NOW + PROOF_WINDOW_MS + 1, Reason.STALE_PROOF),
        (0, Reason.STALE_PROOF),
        (2**53 - 1, Reason.STALE_PROOF),
    ],
)
def test_times_far_from_now_are_stale(table: ReplayTable, time_ms: int, expected: Reason) -> None:
    """30 s either way, and not a millisecond more."""
    assert take(table, nonce(1), time_ms) is expected


def test_what_was_before_the_table_is_stale(path: Path) -> None:
    """A new table can't tell what its predecessor saw."""
    table = ReplayTable.create(path, 256, NOW)

    assert take(table, nonce(1), NOW - 1) is Reason.STALE_PROOF
    assert take(table, nonce(1), NOW) is Reason.ALLOWED


def test_a_table_in_place_of_another_waits_for_clocks_that_are_ahead(path: Path) -> None:
    """A new table does not accept a proof from the future that the old one accepted."""
    old = ReplayTable.create(path, 256, NOW - 60_000)
    assert take(old, nonce(1), NOW + PROOF_WINDOW_MS - 1) is Reason.ALLOWED
    new = ReplayTable.create(path, 256, NOW)

    counts_from = NOW + PROOF_WINDOW_MS + 1000
    assert new.made_at_ms == counts_from
    assert take(new, nonce(1), NOW + PROOF_WINDOW_MS - 1) is Reason.STALE_PROOF
    assert take(new, nonce(1), counts_from - 1, counts_from) is Reason.STALE_PROOF
    assert take(new, nonce(1), counts_from, counts_from) is Reason.ALLOWED
    time.sleep(0.005)
    # Who still has the old one open can't go on with it.
    assert take(old, nonce(2)) is Reason.PROOF_UNAVAILABLE
    assert not old.intact


def test_a_lost_table_is_told(path: Path) -> None:
    """Without a file only the caller knows of a lost table."""
    assert ReplayTable.create(path, 256, NOW, proofs_before=True).made_at_ms == NOW + PROOF_WINDOW_MS + 1000
    assert ReplayTable.create(path.with_name("other"), 256, NOW).made_at_ms == NOW


def test_time_never_goes_back(table: ReplayTable) -> None:
    """A displaced entry's nonce is not accepted again after the clock was set back."""
    assert take(table, nonce(1)) is Reason.ALLOWED
    assert table.latest_ms == NOW
    later = NOW + PROOF_WINDOW_MS + 2000
    for number in range(2, 20_000):
        take(table, nonce(number), later, later, holder=holder(number))

    assert table.latest_ms == later
    # Every bucket was filled, so the entry is gone.
    assert take(table, nonce(1), NOW, NOW) is Reason.STALE_PROOF
    assert take(ReplayTable.open(table.path), nonce(1), NOW, NOW) is Reason.STALE_PROOF


def test_a_full_table_refuses_and_keeps(table: ReplayTable) -> None:
    """Without room the answer is no; everything that was taken is still there, until it is over."""
    found = {number: take(table, nonce(number), holder=holder(number)) for number in range(20_000)}
    taken = [number for number, reason in found.items() if reason is Reason.ALLOWED]

    assert Counter(found.values()) == {Reason.ALLOWED: 256 * 15, Reason.PROOF_UNAVAILABLE: 20_000 - 256 * 15}
    assert {take(table, nonce(number)) for number in taken} == {Reason.REPLAYED}
    later = NOW + PROOF_WINDOW_MS + 1000
    assert take(table, nonce(30_000), later, later) is Reason.ALLOWED


def test_a_holder_has_a_share(table: ReplayTable) -> None:
    """One holder takes a thirty-second of the table in a minute; others go on, and so does it later."""
    found = Counter(take(table, nonce(number)) for number in range(300))

    assert found == {Reason.ALLOWED: 128, Reason.PROOF_UNAVAILABLE: 172}
    assert take(table, nonce(1)) is Reason.REPLAYED
    # The table's random key may put one of 256 holders on the counter of the first; of 16 hardly five.
    others = Counter(take(table, nonce(1000 + number), holder=holder(number)) for number in range(1, 17))
    assert others[Reason.ALLOWED] >= 12
    later = NOW + 64_000
    assert take(table, nonce(2000), later, later) is Reason.ALLOWED


def test_a_replay_costs_nobody_a_share(table: ReplayTable) -> None:
    """A thousand replays of a proof use none of the holder's quota."""
    take(table, nonce(0))
    for _ in range(1000):
        assert take(table, nonce(0)) is Reason.REPLAYED

    assert Counter(take(table, nonce(number)) for number in range(1, 128)) == {Reason.ALLOWED: 127}


def test_the_file_has_its_mode_and_size(path: Path) -> None:
    """Mode 0660 whatever the umask, all of it allocated: a full disk is met when the table is made."""
    before = os.umask(0o077)
    try:
        table = ReplayTable.create(path, 1 << 16, NOW)
    finally:
        os.umask(before)
    found = path.stat()

    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_size == 4096 + (1 << 16) * 8 + (1 << 12) * 8
    assert found.st_blocks * 512 >= found.st_size
    assert (table.slots, table.path) == (1 << 16, str(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["replay"]


@pytest.mark.parametrize("slots", [0, 1, 128, 255, 257, 3000, 1 << 29, -256])
def test_slots_are_a_power_of_two(path: Path, slots: int) -> None:
    """Another size is the caller's mistake."""
    with pytest.raises(ValueError, match="power of two"):
        ReplayTable.create(path, slots, NOW)


def _header(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "can't be opened"),
    "empty": (lambda path: path.write_bytes(b""), "no replay table"),
    "foreign": (lambda path: path.write_bytes(b"x" * 40_000), "no replay table"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "can't be opened"),
    "a link": (lambda path: path.rename(path.with_name("a")) and path.symlink_to("a"), "can't be opened"),
    "cut": (lambda path: os.truncate(path, 8192), "was cut"),
    "grown": (lambda path: os.truncate(path, 1 << 20), "was cut"),
    "another format": (lambda path: _header(path, 16, struct.pack("=I", 2)), "format 2"),
    "other slots": (lambda path: _header(path, 24, struct.pack("=Q", 256)), "damaged"),
    "another secret": (lambda path: _header(path, 64, bytes(32)), "damaged"),
    "open to everybody": (lambda path: path.chmod(0o666), "0660"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_bad_file_is_refused(table: ReplayTable, path: Path, how: str) -> None:
    """It is said what is wrong, and nothing is read as an empty table."""
    breaks, message = BROKEN[how]
    breaks(path)

    with pytest.raises(TableError, match=message):
        ReplayTable.open(path)


@pytest.mark.parametrize("how", ["missing", "cut", "grown"])
def test_a_file_that_breaks_while_open_is_unavailable(table: ReplayTable, path: Path, how: str) -> None:
    """A table that was cut or removed under a process denies, and does not kill it."""
    assert take(table, nonce(1)) is Reason.ALLOWED
    BROKEN[how][0](path)
    # It is looked at once in a millisecond.
    time.sleep(0.005)

    assert take(table, nonce(2)) is take(table, nonce(1)) is Reason.PROOF_UNAVAILABLE


def test_a_table_counts_for_one_start_of_the_machine(
    path: Path, table: ReplayTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of an earlier boot is refused, since a crash loses entries."""
    monkeypatch.setattr(table_file.boot, "boot_id", lambda: b"another boot id ")

    with pytest.raises(TableError, match="earlier start"):
        ReplayTable.open(path)


def test_both_halves_of_the_table_have_one_window() -> None:
    """The file's creator and the table have the same constants."""
    assert table_file.PROOF_WINDOW_MS == PROOF_WINDOW_MS
    assert (table_file.HEADER_BYTES, table_file.LATEST_AT, table_file.BUCKET_SLOTS) == (4096, 40, 16)


def test_it_is_made_only_by_its_makers() -> None:
    """There is no table without a file."""
    with pytest.raises(TypeError):
        ReplayTable()


@pytest.mark.parametrize(
    "parts",
    [(b"s" * 63, b"n" * 16, HOLDER), (SIGNATURE, b"n" * 15, HOLDER), (SIGNATURE, b"n" * 16, b"")],
)
def test_parts_have_their_lengths(table: ReplayTable, parts: tuple[bytes, bytes, bytes]) -> None:
    """The table reads fixed lengths, whatever there are."""
    with pytest.raises(ValueError, match="64 bytes"):
        table.insert(*parts, NOW, NOW)

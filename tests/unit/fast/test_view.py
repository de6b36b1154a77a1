"""The view: rows that are missing, foreign or wrong deny, and no check reads another's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import Checker, View
from sessauth.reasons import Reason
from sessauth.state import layout
from tests.support import bulk_sessions
from tests.support.token_forger import make
from tests.support.vector_files import read_view
from tests.support.view_source import MemorySource
from tests.vectors.world import EXPIRES, ISSUER, NOW, SESSION, VIEWS, child, link, root, signers, token

READ = "read:files/**"
VALID = token(root(READ))


class CountedSource(MemorySource):
    """Counts transactions that are open, and lets a test break or interrupt any step."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.ended = 0
        self.on_get: Callable[[bytes], None] = lambda key: None
        self.on_abort: Callable[[], None] = lambda: None
        self.on_look: Callable[[], bool] = lambda: True
        self.broken = False

    def begin(self) -> Any:
        """Begin a read transaction, or fail."""
        if self.broken:
            raise OSError("the disk is gone")
        inner = super().begin()
        self.opened += 1
        source = self

        class Watched:
            """A transaction whose calls can be broken."""

            def id(self) -> int:
                return inner.id()

            def get(self, key: bytes, default: None, db: Any) -> bytes | None:
                source.on_get(bytes(key))
                return inner.get(key, None, db)

            def abort(self) -> None:
                source.ended += 1
                source.on_abort()

        return Watched()

    def files_unchanged(self) -> bool:
        """Return True while the files are the same."""
        return self.on_look()

    def touch(self) -> None:
        """Be a later commit with the same rows."""
        self._number += 1


def counted(view: str = "plain") -> CountedSource:
    """A source with one of the vectors' views."""
    source = CountedSource()
    source.load(*read_view(VIEWS[view]))
    return source


def session_row(**fields: Any) -> bytes:
    """A session's row."""
    return kernel.encode_message(
        "SessionRecord", {"id": SESSION, "status": 1, "epoch": 1, "expires_at_ms": EXPIRES, **fields}
    )


_BAD_ROWS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda row: b"",
    "cut": lambda row: row[:-1],
    "unknown field": lambda row: row + b"\xfa\x7f\x00",
    "text": lambda row: b"not a record",
    "zeros": lambda row: bytes(len(row)),
    "ones": lambda row: b"\xff" * len(row),
    "doubled": lambda row: row * 2,
}


@pytest.mark.parametrize("how", _BAD_ROWS)
@pytest.mark.parametrize("table", ["sessions", "keys", "meta"])
@pytest.mark.parametrize("warm", [False, True])
def test_rows_that_cannot_be_read(how: str, table: str, warm: bool) -> None:
    """A row that is no record denies as if it were not there; a head denies everything. Then it recovers."""
    source = counted()
    checker = Checker(View(source))
    if warm:
        assert bulk_sessions.judge(checker, VALID).allowed
    rows = getattr(source, table)
    key, good = next(iter(rows.items()))
    rows[key] = _BAD_ROWS[how](good)
    source.touch()
    if table == "keys" and warm:
        # The view believes a key until the head says that keys moved.
        head = kernel.decode_message("Head", source.meta[b"head"])
        source.meta[b"head"] = kernel.encode_message("Head", {**head, "keys_generation": 77})

    outcome = bulk_sessions.judge(checker, VALID)

    expected = {
        "sessions": Reason.UNKNOWN_SESSION,
        "keys": Reason.UNKNOWN_ISSUER,
        "meta": Reason.INTERNAL_ERROR,
    }
    # No bytes at all are a record of defaults: a session that expired in 1970, a key of no length.
    if how == "empty" and table != "keys":
        expected = {"sessions": Reason.SESSION_EXPIRED, "meta": Reason.ALLOWED}
    assert outcome.reason == expected[table]
    assert source.opened == source.ended
    rows[key] = good
    source.load(*read_view(VIEWS["plain"]))
    assert bulk_sessions.judge(checker, VALID).allowed


def test_a_missing_head() -> None:
    """A state without a head is no state: nothing is allowed, and the fault says so."""
    source = counted()
    del source.meta[b"head"]

    outcome = bulk_sessions.judge(Checker(View(source)), VALID)

    assert (outcome.allowed, outcome.reason) == (False, Reason.INTERNAL_ERROR)
    assert "head" in str(outcome.fault)


def test_a_state_for_newer_readers() -> None:
    """A state that wants a newer reader is not judged by, also when it becomes so later."""
    source = counted()
    checker = Checker(View(source))
    assert bulk_sessions.judge(checker, VALID).allowed
    head = kernel.decode_message("Head", source.meta[b"head"])
    source.meta[b"head"] = kernel.encode_message(
        "Head", {**head, "min_reader_format": layout.OBSERVE_FORMAT + 1}
    )
    source.touch()

    for _ in range(2):
        outcome = bulk_sessions.judge(checker, VALID)
        assert (outcome.allowed, outcome.reason) == (False, Reason.INTERNAL_ERROR)
        assert "upgrade" in str(outcome.fault)


def test_keys_of_another_incarnation() -> None:
    """A restored history may have other keys under a generation that was seen before: they are read again."""
    source = counted()
    checker = Checker(View(source))
    assert bulk_sessions.judge(checker, VALID).allowed
    key = kernel.decode_message("KeyRecord", source.keys[ISSUER.id])
    source.keys[ISSUER.id] = kernel.encode_message("KeyRecord", {**key, "status": 4})
    head = kernel.decode_message("Head", source.meta[b"head"])
    source.meta[b"head"] = kernel.encode_message("Head", {**head, "incarnation_revision": 5})
    source.sessions[SESSION] = session_row(revision=6)
    source.touch()

    assert bulk_sessions.judge(checker, VALID).reason == Reason.ISSUER_DISTRUSTED


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_key_row_with_a_key_of_another_length(length: int) -> None:
    """A key that is not 32 bytes is no key; none of it is given to the signature library."""
    source = counted()
    record = {"id": ISSUER.id, "public_key": bytes(length), "status": 2}
    source.keys[ISSUER.id] = kernel.encode_message("KeyRecord", record)
    checker = Checker(View(source))

    assert bulk_sessions.judge(checker, VALID).reason == Reason.UNKNOWN_ISSUER
    assert checker.signatures == 0


@pytest.mark.parametrize("length", [0, 1, 7, 8])
def test_a_lease_that_ran_out_in_1970(length: int) -> None:
    """A lease row that is short or absent has lapsed."""
    source = counted()
    source.sessions[SESSION] = session_row(lease_ms=1000)
    if length:
        source.leases[SESSION] = bytes(length)

    assert bulk_sessions.judge(Checker(View(source)), VALID).reason == Reason.LEASE_LAPSED


def test_an_empty_brake_page() -> None:
    """A source without a brake page is refused."""
    source = counted()
    source.brake = bytearray()
    with pytest.raises(ValueError, match="brake"):
        View(source)


def test_a_folder_that_was_swapped() -> None:
    """Once the files are others than those that were opened, every check is stale, for good."""
    source = counted("plain")
    for rows in (source.sessions, source.keys):
        assert rows
    checker = Checker(View(source))
    now = time.time_ns() // 1_000_000
    lives = make(link(root(READ, issued_at_ms=now, expires_at_ms=now + 10**8)), [ISSUER])
    source.sessions[SESSION] = session_row(expires_at_ms=now + 10**9)
    assert bulk_sessions.judge(checker, lives, now_ms=-1).allowed
    source.on_look = lambda: False
    time.sleep(0.11)
    assert bulk_sessions.judge(checker, lives, now_ms=-1).reason == Reason.STALE_STATE
    source.on_look = lambda: True
    time.sleep(0.11)
    assert bulk_sessions.judge(checker, lives, now_ms=-1).reason == Reason.STALE_STATE


def test_a_swapped_source_is_noticed_whoever_gives_the_time() -> None:
    """A caller with a clock of its own is not shown a folder that nobody writes any more."""
    source = counted()
    checker = Checker(View(source))
    assert bulk_sessions.judge(checker, VALID, now_ms=NOW).allowed
    source.on_look = lambda: False
    time.sleep(0.11)
    assert bulk_sessions.judge(checker, VALID, now_ms=NOW).reason == Reason.STALE_STATE


def _raise(*_: object) -> Any:
    raise OSError("broken")


@pytest.mark.parametrize("step", ["begin", "get", "abort", "look"])
@pytest.mark.parametrize("warm", [False, True])
def test_a_source_that_raises(step: str, warm: bool) -> None:
    """An exception of the source is the denial's fault, leaks no transaction, and affects no later check."""
    source = counted()
    checker = Checker(View(source))
    if warm:
        assert bulk_sessions.judge(checker, VALID).allowed
        source.touch()
    if step == "begin":
        source.broken = True
        # A view takes the method once, as the source gives it.
        checker = Checker(View(source))
    elif step == "look":
        source.on_look = _raise
        time.sleep(0.11)
    else:
        setattr(source, f"on_{step}", _raise)
    outcome = bulk_sessions.judge(checker, VALID, now_ms=-1 if step == "look" else NOW)

    assert (outcome.allowed, bool(outcome), outcome.reason) == (False, False, Reason.INTERNAL_ERROR)
    assert isinstance(outcome.fault, OSError)
    assert (outcome.matched_index, outcome.matched_scope, outcome.expires_at_ms) == (-1, -1, 0)
    assert source.opened == source.ended
    source.broken, source.on_get, source.on_abort = False, lambda key: None, lambda: None
    source.on_look = lambda: True
    assert bulk_sessions.judge(checker, VALID).allowed


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_every_transaction_ends(view: str) -> None:
    """However a check comes out, it leaves no transaction open, and reads nothing twice in one state."""
    source = counted(view)
    checker = Checker(View(source))
    asked: list[bytes] = []
    source.on_get = asked.append
    for _ in range(3):
        bulk_sessions.judge(checker, VALID)
        bulk_sessions.judge(checker, VALID[:-1])

    assert source.opened == source.ended > 0
    found = bulk_sessions.judge(checker, VALID).reason in (Reason.ALLOWED, Reason.OUT_OF_SCOPE)
    if found:
        count = len(asked)
        assert bulk_sessions.judge(checker, VALID).reason in (Reason.ALLOWED, Reason.OUT_OF_SCOPE)
        assert len(asked) == count


def test_an_ended_session_says_nothing_of_another() -> None:
    """Rows of one session are never used for another, in any order of checks."""
    source = bulk_sessions.source(extra=20)
    checker = Checker(View(source, max_sessions=5))
    presented = {i: next(bulk_sessions.tokens(bulk_sessions.name(i), 1)) for i in range(20)}
    ended = {i for i in range(20) if i % 3 == 0}
    for i in ended:
        record = kernel.decode_message("SessionRecord", source.sessions[bulk_sessions.name(i)])
        source.sessions[bulk_sessions.name(i)] = kernel.encode_message(
            "SessionRecord", {**record, "status": 3, "end_cause": 1}
        )

    for i in [*range(20), *reversed(range(20)), *range(0, 20, 7)]:
        expected = Reason.SESSION_ENDED if i in ended else Reason.ALLOWED
        assert bulk_sessions.judge(checker, presented[i]).reason == expected


def test_a_revocation_of_another_session_stops_nothing() -> None:
    """A block id revoked under another session is not; under its own it is, also for a known chain."""
    source = bulk_sessions.source(extra=1)
    checker = Checker(View(source))
    chain = make(link(root(READ), child()), signers(2))
    first = bulk_sessions.judge(checker, chain)
    assert first.allowed
    row = kernel.decode_message("SessionRecord", source.sessions[SESSION])
    for owner, count, expected in (
        (bulk_sessions.name(0), 1, Reason.ALLOWED),
        (SESSION, 2, Reason.REVOKED),
        (SESSION, 3, Reason.REVOKED),
    ):
        source.revoked[owner + first.block_ids[1]] = bytes(8)
        source.sessions[SESSION] = kernel.encode_message("SessionRecord", {**row, "revoked_count": count})
        source._number += 1
        outcome = bulk_sessions.judge(checker, chain)
        assert outcome.reason == expected
        assert outcome.index == (-1 if expected is Reason.ALLOWED else 1)

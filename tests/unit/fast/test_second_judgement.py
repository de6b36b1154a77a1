"""Repeated judgement, judgement after a fault and in many copies; and misuse by callers."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest

from sessauth._fast._check import Checker, CommitId, View
from sessauth._fast._codec import CheckMessage
from sessauth.limits import MAX_BATCH_ITEMS
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support import bulk_sessions
from tests.support.token_forger import key, make
from tests.support.view_source import MemorySource
from tests.vectors.world import AUDIENCE, ISSUER, NOW, link, root

READ = "read:files/**"
GOOD = make(link(root(READ)), [ISSUER])
FORGED = make(link(root(READ)), [key("nobody")])


def asking(checker: Checker, *tokens: bytes) -> CheckMessage:
    """A batch in wire form that asks to read a file with each token."""
    items = [pb.CheckItem(token=token, action=b"read", resource=b"files/a.txt") for token in tokens]
    return CheckMessage(checker, pb.CheckBatchRequest(items=items).SerializeToString(), "batch")


class Failing(MemorySource):
    """A source that fails when a row of a session is asked for, for as long as ``broken``."""

    broken = False

    def begin(self) -> Any:
        """Begin a transaction, or a broken one."""
        transaction = super().begin()
        if self.broken:
            transaction.get = _fail  # type: ignore[method-assign]
        return transaction


def _fail(*_: object, **__: object) -> bytes:
    raise OSError("the disk is on fire")


class Counting:
    """A gate that lets everything be looked at and counts what failed."""

    def __init__(self) -> None:
        self.failures = 0

    def may_fail(self, source: str) -> bool:
        """Return the gate's answer."""
        return True

    def failed(self, source: str) -> None:
        """Count one."""
        self.failures += 1


def test_a_second_look_forgets_the_first() -> None:
    """An allowed batch that is judged again under a brake is denied, on the wire too."""
    source = bulk_sessions.source()
    checker = Checker(View(source))
    batch = asking(checker, GOOD)
    # The vectors' time is not the clock's: what counts is that both looks are told apart.
    first = checker._check_batch([(GOOD, "read", "files/a.txt")], audience=AUDIENCE, now_ms=NOW)
    assert first.all_allowed
    batch.judge(AUDIENCE)
    source.brake[0] = 1
    batch.judge(AUDIENCE)

    assert batch[0].reason == Reason.STATE_BRAKED
    assert not batch[0].allowed and not batch.all_allowed
    answer = pb.CheckBatchResponse.FromString(batch.answer(lambda decision, token: ""))
    assert not answer.decisions[0].allowed


def test_faults_leave_nothing_behind() -> None:
    """A batch that is judged again and again while the state fails denies each time, and keeps the fault."""
    source = Failing()
    source.load(*bulk_sessions.read_view(bulk_sessions.VIEWS["plain"]))
    checker = Checker(View(source))
    batch = asking(checker, GOOD, GOOD, make(link(root(READ, label="other")), [ISSUER]))
    for turn in range(40):
        source.broken = turn % 2 == 1
        source._number += 1
        batch.judge(AUDIENCE)
        if source.broken:
            assert {decision.reason for decision in batch} == {Reason.INTERNAL_ERROR}
            assert all(isinstance(decision.fault, OSError) for decision in batch)
            assert batch[0].session_id == b"" and batch[0].index == -1
        else:
            assert Reason.INTERNAL_ERROR not in {decision.reason for decision in batch}


def test_too_many_items_are_counted_and_not_read() -> None:
    """A message of 100,000 empty items is told from a batch without room for any of them."""
    checker = Checker(View(bulk_sessions.source()))
    data = b"\x0a\x00" * 100_000

    many = CheckMessage(checker, data, "batch")

    assert (many.stated, len(many)) == (100_000, 0)
    assert len(CheckMessage(checker, b"\x0a\x00" * MAX_BATCH_ITEMS, "batch")) == MAX_BATCH_ITEMS


def test_a_failure_is_charged_once() -> None:
    """A forged token before one whose session is not mirrored costs one signature and one failure."""
    source = bulk_sessions.source()
    word = bytearray((1).to_bytes(8, "little") + bytes(8))
    source.commit_id = CommitId(word, 0, 8)  # type: ignore[attr-defined]
    source._number = 1
    checker = Checker(View(source))
    asking(checker, GOOD).judge(AUDIENCE)
    gate = Counting()
    elsewhere = make(link(root(READ, root_fields={"session_id": bytes(16)})), [ISSUER])
    batch = asking(checker, FORGED, elsewhere)

    batch.judge(AUDIENCE, gate)

    assert (batch[0].reason, batch[0].index) == (Reason.BAD_SIGNATURE, 0)
    assert batch[1].reason == Reason.UNKNOWN_SESSION
    assert gate.failures == checker.bad_signatures == 1


def test_copies_of_a_forged_token_cost_one_signature() -> None:
    """Two forged tokens in turns, each copy an object of its own, are looked at once each."""
    checker = Checker(View(bulk_sessions.source()))
    other = make(link(root(READ, label="other")), [key("nobody")])
    calls = [(bytes(memoryview(token)), "read", "files/a.txt") for token in (FORGED, other)] * 50

    decisions = checker._check_batch(calls, audience=AUDIENCE, now_ms=NOW)

    assert {decision.reason for decision in decisions} == {Reason.BAD_SIGNATURE}
    assert checker.signatures == 2


def test_what_callers_may_pass() -> None:
    """Subclasses of tuple and bytes are what they are; one identity in place of several is an error."""
    checker = Checker(View(bulk_sessions.source()))
    call = namedtuple("call", ("token", "action", "resource"))
    token = type("Token", (bytes,), {})(GOOD)

    assert checker._check_batch(
        [call(token, "read", "files/a.txt")], audience=AUDIENCE, now_ms=NOW
    ).all_allowed
    assert checker._check(token, "read", "files/a.txt", audience=AUDIENCE, now_ms=NOW)
    with pytest.raises(TypeError, match="identities"):
        checker.check(GOOD, "read", "files/a.txt", peer="sha256:aa")
    with pytest.raises(TypeError):
        Checker(View(bulk_sessions.source()), cache=1)  # type: ignore[call-arg]

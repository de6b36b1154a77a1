"""The decision queue: one record a decision, nothing unverified is disclosed, nothing retained for long."""

from __future__ import annotations

import gc
import sys
from hashlib import blake2b

import pytest

from sessauth._fast._check import Chain, Checker, DecisionQueue, DecisionRecord
from sessauth.crypto.armor import presented_text
from sessauth.decisions.decision import Decision
from sessauth.reasons import Reason, Stage
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.vectors.world import AUDIENCE, NOW, SESSION, child, root, token

READ = "read:files/**"
VALID = token(root(READ), child("*:**"))
_SIGNATURES = Chain.parse(VALID).signatures
FORGED = VALID.replace(
    _SIGNATURES[1], _SIGNATURES[1][:40] + bytes([_SIGNATURES[1][40] ^ 1]) + _SIGNATURES[1][41:]
)
ROOM = 1 << 16


def tapped(room: int = ROOM) -> tuple[Checker, DecisionQueue]:
    """A checker with a queue."""
    checker, queue = bulk_sessions.checker(), DecisionQueue(room)
    checker.decision_queue = queue
    return checker, queue


def check(
    checker: Checker, presented: object = VALID, resource: str = "files/a", **options: object
) -> Decision:
    """Judge a call of the vectors' world."""
    given = {"audience": AUDIENCE, "now_ms": NOW, **options}
    return checker._check(presented, "read", resource, **given)  # type: ignore[arg-type]


def noted(queue: DecisionQueue) -> DecisionRecord:
    """The one note that waits."""
    (note,) = queue.drain()
    return note


def test_what_a_note_of_an_allow_tells() -> None:
    """A note has what the decision has, and what was asked."""
    checker, queue = tapped()
    decision = check(checker, arguments=b'{"a":1}', source="192.0.2.1")
    note = noted(queue)

    assert decision.allowed
    assert (note.allowed, note.reason, note.stage, note.signature_valid, note.watched) == (
        True,
        1,
        0,
        True,
        False,
    )
    assert (note.decision_id, note.at_ms) == (decision.decision_id, NOW)
    assert (note.session_id, note.claimed_session, note.epoch) == (SESSION, b"", 1)
    assert (note.revision, note.expires_at_ms) == (100, decision.expires_at_ms)
    assert note.block_ids == decision.block_ids
    assert (note.action, note.resource, note.arguments) == ("read", "files/a", b'{"a":1}')
    assert (note.audience, note.source) == (AUDIENCE, "192.0.2.1")
    assert (note.level, note.index, note.scope, note.clause, note.argument) == (0, -1, -1, -1, "")
    assert (note.matched_index, note.matched_scope) == (decision.matched_index, decision.matched_scope)
    assert note.token_digest == blake2b(VALID, digest_size=32).digest()
    assert note.payloads == Chain.parse(VALID).payloads


def test_what_a_note_of_a_denial_tells() -> None:
    """A record has the refused position and the name of the argument at fault."""
    checker, queue = tapped()
    presented = token(root('read:files/** where path == "x"'))
    decision = check(checker, presented, arguments=b'{"path":"y"}')
    note = noted(queue)

    assert (note.allowed, note.reason, note.stage) == (False, Reason.CONDITION_FAILED, Stage.SCOPE)
    assert (note.level, note.index, note.scope, note.clause) == (2, 0, 0, 0)
    assert note.argument == decision.argument == "path"
    assert note.signature_valid
    assert note.expires_at_ms == 0


@pytest.mark.parametrize(
    ("presented", "options", "reason", "claims"),
    [
        (b"", {}, Reason.MALFORMED_TOKEN, False),
        (b"x" * 9000, {}, Reason.TOKEN_TOO_LARGE, False),
        ("sessauth_t1_damaged", {}, Reason.MALFORMED_TOKEN, False),
        (FORGED, {}, Reason.BAD_SIGNATURE, True),
        (VALID, {"session": bytes(16)}, Reason.WRONG_SESSION, True),
        (VALID, {"at_least_revision": 1 << 60}, Reason.STALE_STATE, True),
    ],
)
def test_nothing_of_a_token_before_its_signature_stands(
    presented: bytes | str, options: dict[str, object], reason: Reason, claims: bool
) -> None:
    """Only a digest of what was presented, and the session that it claims, are told of what is unverified."""
    verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    verifier.decision_queue = queue = DecisionQueue(ROOM)
    decision = check(verifier, presented, **options)
    note = noted(queue)
    data = presented.encode() if isinstance(presented, str) else presented

    assert decision.reason is reason
    assert (note.reason, note.signature_valid, note.allowed) == (reason, False, False)
    assert (note.session_id, note.epoch, note.block_ids, note.payloads) == (b"", 0, (), ())
    assert note.claimed_session == (SESSION if claims else b"")
    assert note.token_digest == blake2b(data[:8192], digest_size=32).digest()
    assert note.action == "read"


def test_every_path_notes_once() -> None:
    """A check, a handle, a text, each item of a batch and a held back refusal: one note each, in order."""
    verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    verifier.decision_queue = queue = DecisionQueue(ROOM)
    text = presented_text(VALID)
    refused = verifier.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL)
    made = [check(verifier), check(verifier, verifier.prepare(VALID)), check(verifier, text)]
    made += list(
        verifier._check_batch(
            [(VALID, "read", "files/b"), (b"none", "read", "files/c"), ("sessauth_t1_x", "read", "files/d")],
            audience=AUDIENCE,
            now_ms=NOW,
        )
    )
    verifier.record_decision(refused, text, "read", "files/e")
    notes = queue.drain()

    assert [note.decision_id for note in notes] == [each.decision_id for each in [*made, refused]]
    assert [note.resource for note in notes] == [f"files/{end}" for end in "aaabcde"]
    assert [note.allowed for note in notes] == [True, True, True, True, False, False, False]
    assert notes[-1].token_digest == notes[0].token_digest
    assert notes[-2].token_digest == blake2b(b"sessauth_t1_x", digest_size=32).digest()
    assert queue.drain() == []
    assert (queue.queued, queue.lost) == (7, 0)


def test_who_asks_on_notes_what_comes_of_it() -> None:
    """``record_needs=False`` leaves out denials at stage needs and no others."""
    checker, queue = tapped()
    costly = token(root("read:files/** needs uses(3)"))
    for presented in (costly, VALID, b""):
        check(checker, presented, record_needs=False)
        checker._check_batch(
            [(presented, "read", "files/b")], audience=AUDIENCE, now_ms=NOW, record_needs=False
        )
    assert [note.stage for note in queue.drain()] == [0, 0, Stage.DECODE, Stage.DECODE]

    decision = check(checker, costly, record_needs=False)
    checker.record_decision(decision, costly, "read", "files/a", audience=AUDIENCE)
    note = noted(queue)
    assert (note.stage, note.reason, note.signature_valid) == (Stage.NEEDS, Reason.NEEDS_SERVER, True)
    assert note.session_id == SESSION


def test_a_batch_that_is_watched_is_noted_when_it_withdraws() -> None:
    """Only ``record_batch_item`` records after ``record=False``, and marks a withdrawn allow."""
    checker, queue = tapped()
    batch = checker._check_batch([(VALID, "read", "x"), (VALID, "read", "files/a")], now_ms=NOW, record=False)
    assert queue.drain() == []
    checker.record_batch_item(batch, 0, watched=True)
    note = noted(queue)

    assert note.watched
    assert note.decision_id == batch[0].decision_id
    with pytest.raises(IndexError):
        checker.record_batch_item(batch, 2)


def test_payloads_are_given_once_for_a_chain() -> None:
    """The first note of a chain has its blocks, and again the first since they were forgotten."""
    checker, queue = tapped()
    blocks = Chain.parse(VALID).payloads
    for _ in range(2):
        check(checker)
    assert [note.payloads for note in queue.drain()] == [blocks, ()]
    check(checker)
    assert noted(queue).payloads == ()
    queue.forget_chains()
    check(checker)
    assert noted(queue).payloads == blocks


def test_a_full_tap_loses_and_counts() -> None:
    """A record without room is counted as lost and denies nothing. A drain makes room again."""
    called: list[int] = []
    checker, queue = tapped(4096)
    queue.on_half_full = lambda: called.append(queue.queued)
    answers = [check(checker).allowed for _ in range(100)]
    kept = queue.drain()

    assert all(answers)
    assert 1 <= len(kept) == queue.queued == 100 - queue.lost < 100
    assert called == [called[0]]
    assert check(checker).allowed
    assert noted(queue).allowed
    # What one note can't have whole finds no room either.
    assert check(checker, arguments=b'{"a":"' + b"x" * 5000 + b'"}').allowed
    assert queue.drain() == []


def test_what_is_called_at_half_may_fail() -> None:
    """An exception of ``on_half_full`` can't make a call fail."""

    def fail() -> None:
        raise RuntimeError

    checker, queue = tapped(4096)
    queue.on_half_full = fail
    assert all(check(checker).allowed for _ in range(20))


def test_long_texts_are_cut() -> None:
    """A record has a KiB of an invalid action or resource. Invalid UTF-8 is replaced."""
    checker, queue = tapped()
    checker._check(VALID, "\ud800" * 5000, b"\xff" * 5000, audience=AUDIENCE, now_ms=NOW)
    note = noted(queue)

    assert len(note.action) == len(note.resource) == 1024
    assert set(note.resource) == {"\N{REPLACEMENT CHARACTER}"}


def test_refusing_denies_every_call() -> None:
    """While the queue refuses, no call is judged, whichever way it comes; what is decided is noted still."""
    checker, queue = tapped()
    handle = checker.prepare(VALID)
    queue.refusing = True
    made = [check(checker), check(checker, handle), check(checker, b"")]
    made += list(checker._check_batch([(VALID, "read", "files/a")], audience=AUDIENCE, now_ms=NOW))

    assert [(each.allowed, each.reason, each.stage) for each in made] == [
        (False, Reason.AUDIT_UNAVAILABLE, Stage.NONE)
    ] * 4
    assert [note.reason for note in queue.drain()] == [Reason.AUDIT_UNAVAILABLE] * 4
    queue.refusing = False
    assert check(checker).allowed


def test_without_a_tap_nothing_is_noted() -> None:
    """A checker without a queue has none until it is set, and again when it is taken away."""
    checker, queue = tapped()
    checker.decision_queue = None
    check(checker)
    assert bulk_sessions.checker().decision_queue is None
    assert queue.queued == 0


def test_chains_live_as_long_as_their_notes() -> None:
    """A note keeps its chain though the cache does not, and lets go of it when it goes."""
    presented = bytes(bytearray(VALID))
    other = Verifier(bulk_sessions.source(), cache_bytes=0)
    other.decision_queue = DecisionQueue(ROOM << 4)
    before = sys.getrefcount(presented)
    for _ in range(50):
        check(other, presented)
    during = sys.getrefcount(presented)
    notes = other.decision_queue.drain()
    del other
    gc.collect()

    assert during == before + 50
    assert {note.session_id for note in notes} == {SESSION}
    assert len({note.block_ids for note in notes}) == 1
    del notes
    gc.collect()
    assert sys.getrefcount(presented) == before


def test_a_tap_that_is_dropped_lets_go() -> None:
    """Records that were never drained are freed with the queue."""
    checker = Verifier(bulk_sessions.source(), cache_bytes=0)
    presented = bytes(bytearray(VALID))
    before = sys.getrefcount(presented)
    checker.decision_queue = DecisionQueue(ROOM)
    check(checker, presented)
    assert sys.getrefcount(presented) == before + 1
    checker.decision_queue = None
    assert sys.getrefcount(presented) == before


def test_a_tap_has_room_for_something() -> None:
    """Too little memory is refused at once."""
    with pytest.raises(ValueError, match="capacity_bytes"):
        DecisionQueue(100)


def test_a_note_is_not_made_by_hand() -> None:
    """One that no queue made would be of nothing."""
    with pytest.raises(TypeError, match="drained from a DecisionQueue"):
        DecisionRecord()

"""The tap: each decision is noted once, nothing unverified is told, nothing is held for long."""

from __future__ import annotations

import gc
import sys
from hashlib import blake2b

import pytest

from sessauth._fast.check.checker import Checker
from sessauth._fast.record.note import DecisionRecord
from sessauth._fast.record.queue import DecisionQueue
from sessauth._fast.token.chain import Chain
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
    """A checker with a tap."""
    checker, tap = bulk_sessions.checker(), DecisionQueue(room)
    checker.tap = tap
    return checker, tap


def check(
    checker: Checker, presented: object = VALID, resource: str = "files/a", **options: object
) -> Decision:
    """Judge a call of the vectors' world."""
    given = {"audience": AUDIENCE, "now_ms": NOW, **options}
    return checker._check(presented, "read", resource, **given)  # type: ignore[arg-type]


def noted(tap: DecisionQueue) -> DecisionRecord:
    """The one note that waits."""
    (note,) = tap.drain()
    return note


def test_what_a_note_of_an_allow_tells() -> None:
    """A note has what the decision has, and what was asked."""
    checker, tap = tapped()
    decision = check(checker, arguments=b'{"a":1}', source="192.0.2.1")
    note = noted(tap)

    assert decision.allowed
    assert (note.allowed, note.reason, note.stage, note.named, note.watched) == (True, 1, 0, True, False)
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
    """Where it was refused stands in it, and the name of the argument at fault."""
    checker, tap = tapped()
    presented = token(root('read:files/** where path == "x"'))
    decision = check(checker, presented, arguments=b'{"path":"y"}')
    note = noted(tap)

    assert (note.allowed, note.reason, note.stage) == (False, Reason.CONDITION_FAILED, Stage.SCOPE)
    assert (note.level, note.index, note.scope, note.clause) == (2, 0, 0, 0)
    assert note.argument == decision.argument == "path"
    assert note.named
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
    verifier.tap = tap = DecisionQueue(ROOM)
    decision = check(verifier, presented, **options)
    note = noted(tap)
    data = presented.encode() if isinstance(presented, str) else presented

    assert decision.reason is reason
    assert (note.reason, note.named, note.allowed) == (reason, False, False)
    assert (note.session_id, note.epoch, note.block_ids, note.payloads) == (b"", 0, (), ())
    assert note.claimed_session == (SESSION if claims else b"")
    assert note.token_digest == blake2b(data[:8192], digest_size=32).digest()
    assert note.action == "read"


def test_every_path_notes_once() -> None:
    """A check, a handle, a text, each item of a batch and a held back refusal: one note each, in order."""
    verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    verifier.tap = tap = DecisionQueue(ROOM)
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
    verifier.note(refused, text, "read", "files/e")
    notes = tap.drain()

    assert [note.decision_id for note in notes] == [each.decision_id for each in [*made, refused]]
    assert [note.resource for note in notes] == [f"files/{end}" for end in "aaabcde"]
    assert [note.allowed for note in notes] == [True, True, True, True, False, False, False]
    assert notes[-1].token_digest == notes[0].token_digest
    assert notes[-2].token_digest == blake2b(b"sessauth_t1_x", digest_size=32).digest()
    assert tap.drain() == []
    assert (tap.noted, tap.lost) == (7, 0)


def test_who_asks_on_notes_what_comes_of_it() -> None:
    """With ``note_needs=False`` a denial at stage needs is not noted, and no other is left out."""
    checker, tap = tapped()
    costly = token(root("read:files/** needs uses(3)"))
    for presented in (costly, VALID, b""):
        check(checker, presented, note_needs=False)
        checker._check_batch(
            [(presented, "read", "files/b")], audience=AUDIENCE, now_ms=NOW, note_needs=False
        )
    assert [note.stage for note in tap.drain()] == [0, 0, Stage.DECODE, Stage.DECODE]

    decision = check(checker, costly, note_needs=False)
    checker.note(decision, costly, "read", "files/a", audience=AUDIENCE)
    note = noted(tap)
    assert (note.stage, note.reason, note.named) == (Stage.NEEDS, Reason.NEEDS_SERVER, True)
    assert note.session_id == SESSION


def test_a_batch_that_is_watched_is_noted_when_it_withdraws() -> None:
    """With ``noted=False`` nothing is noted but what is asked for, and that it takes back an allow."""
    checker, tap = tapped()
    batch = checker._check_batch([(VALID, "read", "x"), (VALID, "read", "files/a")], now_ms=NOW, noted=False)
    assert tap.drain() == []
    checker.note_batch_item(batch, 0, watched=True)
    note = noted(tap)

    assert note.watched
    assert note.decision_id == batch[0].decision_id
    with pytest.raises(IndexError):
        checker.note_batch_item(batch, 2)


def test_payloads_are_given_once_for_a_chain() -> None:
    """The first note of a chain has its blocks, and again the first since they were forgotten."""
    checker, tap = tapped()
    blocks = Chain.parse(VALID).payloads
    for _ in range(2):
        check(checker)
    assert [note.payloads for note in tap.drain()] == [blocks, ()]
    check(checker)
    assert noted(tap).payloads == ()
    tap.forget_chains()
    check(checker)
    assert noted(tap).payloads == blocks


def test_a_full_tap_loses_and_counts() -> None:
    """What finds no room is counted and denies nothing; after a drain there is room again."""
    called: list[int] = []
    checker, tap = tapped(4096)
    tap.on_half_full = lambda: called.append(tap.noted)
    answers = [check(checker).allowed for _ in range(100)]
    kept = tap.drain()

    assert all(answers)
    assert 1 <= len(kept) == tap.noted == 100 - tap.lost < 100
    assert called == [called[0]]
    assert check(checker).allowed
    assert noted(tap).allowed
    # What one note can't have whole finds no room either.
    assert check(checker, arguments=b'{"a":"' + b"x" * 5000 + b'"}').allowed
    assert tap.drain() == []


def test_what_is_called_at_half_may_fail() -> None:
    """Whoever is called when the tap fills can't make a call fail."""

    def fail() -> None:
        raise RuntimeError

    checker, tap = tapped(4096)
    tap.on_half_full = fail
    assert all(check(checker).allowed for _ in range(20))


def test_long_texts_are_cut() -> None:
    """Of an action or resource that is none, a KiB is kept; what is not UTF-8 is shown as such."""
    checker, tap = tapped()
    checker._check(VALID, "\ud800" * 5000, b"\xff" * 5000, audience=AUDIENCE, now_ms=NOW)
    note = noted(tap)

    assert len(note.action) == len(note.resource) == 1024
    assert set(note.resource) == {"\N{REPLACEMENT CHARACTER}"}


def test_refusing_denies_every_call() -> None:
    """While the tap refuses, no call is judged, whichever way it comes; what is decided is noted still."""
    checker, tap = tapped()
    handle = checker.prepare(VALID)
    tap.refusing = True
    made = [check(checker), check(checker, handle), check(checker, b"")]
    made += list(checker._check_batch([(VALID, "read", "files/a")], audience=AUDIENCE, now_ms=NOW))

    assert [(each.allowed, each.reason, each.stage) for each in made] == [
        (False, Reason.AUDIT_UNAVAILABLE, Stage.NONE)
    ] * 4
    assert [note.reason for note in tap.drain()] == [Reason.AUDIT_UNAVAILABLE] * 4
    tap.refusing = False
    assert check(checker).allowed


def test_without_a_tap_nothing_is_noted() -> None:
    """A checker without a tap has none until it is set, and again when it is taken away."""
    checker, tap = tapped()
    checker.tap = None
    check(checker)
    assert bulk_sessions.checker().tap is None
    assert tap.noted == 0


def test_chains_live_as_long_as_their_notes() -> None:
    """A note keeps its chain though the cache does not, and lets go of it when it goes."""
    presented = bytes(bytearray(VALID))
    other = Verifier(bulk_sessions.source(), cache_bytes=0)
    other.tap = DecisionQueue(ROOM << 4)
    before = sys.getrefcount(presented)
    for _ in range(50):
        check(other, presented)
    during = sys.getrefcount(presented)
    notes = other.tap.drain()
    del other
    gc.collect()

    assert during == before + 50
    assert {note.session_id for note in notes} == {SESSION}
    assert len({note.block_ids for note in notes}) == 1
    del notes
    gc.collect()
    assert sys.getrefcount(presented) == before


def test_a_tap_that_is_dropped_lets_go() -> None:
    """What was never drained goes with the tap."""
    checker = Verifier(bulk_sessions.source(), cache_bytes=0)
    presented = bytes(bytearray(VALID))
    before = sys.getrefcount(presented)
    checker.tap = DecisionQueue(ROOM)
    check(checker, presented)
    assert sys.getrefcount(presented) == before + 1
    checker.tap = None
    assert sys.getrefcount(presented) == before


def test_a_tap_has_room_for_something() -> None:
    """Too little memory is refused at once."""
    with pytest.raises(ValueError, match="capacity_bytes"):
        DecisionQueue(100)


def test_a_note_is_not_made_by_hand() -> None:
    """One that no tap made would be of nothing."""
    with pytest.raises(TypeError, match="made by a tap"):
        DecisionRecord()

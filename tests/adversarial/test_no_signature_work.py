"""Refusals before any signature is verified, held by the count of signatures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessauth._fast._check import Checker, View
from sessauth.model.change import end_session, suspend_session
from sessauth.reasons import Reason
from tests.oracle.wire import encode, write_varint
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import Record, assemble, id16, key, make
from tests.vectors.world import AUDIENCE, ISSUER, NOW, ask, child, link, root, token

READ = "read:files/**"
_DEEP = 5000


def _nested(depth: int) -> bytes:
    """Messages of field 3 inside each other."""
    data = b""
    for _ in range(depth):
        data = b"\x1a" + write_varint(len(data)) + data
    return data


def _conditions(count: int) -> list[Record]:
    return [{"path": {"source": 1, "segments": ["a"]}, "operator": 14}] * count


def _raw(payload: bytes) -> bytes:
    """A token of one block of these bytes, with a signature of zeros."""
    return assemble([payload], [bytes(64)])


_BIG: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "10,000 blocks": (
        lambda: b"\x08\x01" + b"\x12\x46\x0a\x40" + bytes(64) + (b"\x12\x02\x58\x01" * 10_000),
        Reason.TOKEN_TOO_LARGE,
    ),
    "2,000 empty blocks": (lambda: b"\x08\x01" + b"\x12\x00" * 2000, Reason.MALFORMED_TOKEN),
    "17 blocks": (lambda: _cut_to_17(), Reason.MALFORMED_TOKEN),
    "10,000 caveats": (
        lambda: make(link(root(READ, where=_conditions(10_000))), [ISSUER]),
        Reason.TOKEN_TOO_LARGE,
    ),
    "17 caveats": (lambda: make(link(root(READ, where=_conditions(17))), [ISSUER]), Reason.MALFORMED_TOKEN),
    "65 scopes": (lambda: make(link(root(*["a:b"] * 65)), [ISSUER]), Reason.MALFORMED_TOKEN),
    "1,500 audiences": (
        lambda: make(link(root(READ, audience=[f"{i:x}" for i in range(1500)])), [ISSUER]),
        Reason.MALFORMED_TOKEN,
    ),
    "nesting of 5,000": (lambda: _raw(_nested(_DEEP)), Reason.TOKEN_TOO_LARGE),
    "nesting of 2,000": (lambda: _raw(_nested(2000)), Reason.MALFORMED_TOKEN),
    "8,193 bytes": (
        lambda: _raw(encode("Block", root(READ)) + b"\x7a" + b"\xff" * 9000)[:8193],
        Reason.TOKEN_TOO_LARGE,
    ),
    "16 MB": (lambda: b"\x08\x01" * (8 << 20), Reason.TOKEN_TOO_LARGE),
    "nothing": (lambda: b"", Reason.MALFORMED_TOKEN),
    "a length of 2^64 - 1": (lambda: b"\x08\x01\x12" + b"\xff" * 9 + b"\x01", Reason.MALFORMED_TOKEN),
}


def _cut_to_17() -> bytes:
    blocks = link(root("a:b"), *[child()] * 16)
    return make(blocks, [ISSUER, *(key(f"next {i}") for i in range(16))])


@pytest.mark.parametrize("name", _BIG)
def test_what_counting_refuses(state: StateFixture, name: str) -> None:
    """A token that is too large, too long or too deep is refused by counting alone."""
    build, reason = _BIG[name]
    before = state.verifier.signatures

    assert state.reason(build()) is reason
    assert state.verifier.signatures == before


def forged(session: str = "session", **fields: Record) -> bytes:
    """A well-formed chain of two blocks whose signatures are of nobody."""
    blocks = link(root(READ, root_fields={"session_id": id16(session)}, **fields), child("*:**"))
    return make(blocks, [key("nobody"), key("nobody")])


def test_a_forged_chain_costs_one_signature(state: StateFixture) -> None:
    """A chain of a live session with wrong signatures is given up at the first of them."""
    checker = state.verifier
    signatures, bad = checker.signatures, checker.bad_signatures

    assert state.reason(forged()) is Reason.BAD_SIGNATURE
    assert (checker.signatures - signatures, checker.bad_signatures - bad) == (1, 1)


def test_a_right_chain_costs_its_blocks_once(fresh_state: StateFixture) -> None:
    """Each block of a new chain costs one signature, a known chain none, a sealed root one."""
    checker = fresh_state.verifier
    chain = token(root(READ), child(), child())
    for expected in (3, 3, 3):
        assert fresh_state.reason(chain) is Reason.ALLOWED
        assert checker.signatures == expected
    assert fresh_state.reason(token(root(READ))) is Reason.ALLOWED
    assert checker.signatures == 4


def test_sessions_that_do_not_live_cost_no_signature(fresh_state: StateFixture) -> None:
    """Unknown, ended, suspended, expired and wrong sessions refuse a forged chain unseen."""
    checker = fresh_state.verifier
    for name in ("ended", "suspended", "lapsed"):
        fresh_state.open(name, **({"lease_ms": 1000} if name == "lapsed" else {}))
    fresh_state.do(end_session("end", id16("ended")))
    fresh_state.do(suspend_session("suspend", id16("suspended")))
    expected = {
        "unheard of": Reason.UNKNOWN_SESSION,
        "ended": Reason.SESSION_ENDED,
        "suspended": Reason.SESSION_SUSPENDED,
    }
    for name, reason in expected.items():
        assert fresh_state.reason(forged(name)) is reason
    assert fresh_state.reason(forged("lapsed"), now_ms=NOW + 1000) is Reason.LEASE_LAPSED
    assert fresh_state.reason(forged(), session=id16("other")) is Reason.WRONG_SESSION
    assert fresh_state.reason(forged(), at_least_revision=10**9) is Reason.STALE_STATE
    unknown = {"root_fields": {"session_id": id16("session"), "issuer_key_id": bytes(32)}}
    assert fresh_state.reason(make(link(root(READ, **unknown)), [key("nobody")])) is Reason.UNKNOWN_ISSUER
    assert checker.signatures == checker.bad_signatures == 0


def test_a_flood_of_unknown_keys_and_sessions_keeps_nothing(fresh_state: StateFixture) -> None:
    """100,000 key ids and sessions at random cost no signature and no memory, and known ones go on."""
    checker: Checker = fresh_state.verifier
    assert isinstance(checker.view, View)
    valid = token(root(READ))
    assert fresh_state.reason(valid) is Reason.ALLOWED
    pattern = make(link(root(READ)), [key("nobody")])
    at_key, at_session = pattern.index(ISSUER.id), pattern.index(id16("session"))
    request = ask()
    reasons = set()
    for number in range(100_000):
        name = number.to_bytes(4, "big") * 8
        at, n = (at_key, 32) if number % 2 else (at_session, 16)
        outcome = checker._check(
            pattern[:at] + name[:n] + pattern[at + n :],
            request.action,
            request.resource,
            audience=AUDIENCE,
            now_ms=NOW,
        )
        reasons.add(outcome.reason)

    assert reasons == {Reason.UNKNOWN_ISSUER, Reason.UNKNOWN_SESSION}
    assert checker.signatures == 1
    assert len(checker.cache) == 1
    assert fresh_state.reason(valid) is Reason.ALLOWED
    assert checker.signatures == 1

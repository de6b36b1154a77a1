"""Tokens with bytes changed, cut off or added: each is a typed denial, never an allow, never an exception."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sessauth.reasons import Reason
from tests.support.cases import examples
from tests.support.state_fixture import StateFixture
from tests.vectors.world import ask, child, root, token

_PERMITTED = ("read:files/** where n <= 9 free *", "write:logs/{a,b}")
# Denials that leave no doubt that the bytes were not believed.
_DISBELIEVED = {
    Reason.MALFORMED_TOKEN,
    Reason.UNSUPPORTED_VERSION,
    Reason.OPEN_TOKEN,
    Reason.CHAIN_TOO_LONG,
    Reason.STALE_STATE,
    Reason.UNKNOWN_SESSION,
    Reason.UNKNOWN_ISSUER,
    Reason.BAD_SIGNATURE,
}
_REQUEST = ask(arguments='{"n": 7}', source="10.1.2.3")


def chain(blocks: int) -> bytes:
    """A valid chain whose blocks all say something."""
    narrowing = [child("read:files/*" if i % 2 else "*:**", label=f"holder {i}") for i in range(1, blocks)]
    return token(root(*_PERMITTED, source=["10.0.0.0/8"], label="first"), *narrowing)


def judge_all(state: StateFixture, tokens: list[bytes]) -> Counter[Reason]:
    """Count the reasons; the request would be allowed if the token were believed."""
    return Counter(state.reason(changed, _REQUEST) for changed in tokens)


def test_the_unchanged_tokens_are_allowed(state: StateFixture) -> None:
    """The tokens that the tests below change are allowed unchanged, so a denial is due to the change."""
    plain = [token(root("read:files/**"), *[child("*:**")] * blocks) for blocks in (2, 15)]

    assert judge_all(state, [chain(1), chain(3), *plain]) == {Reason.ALLOWED: 4}


def test_every_other_value_of_every_byte_of_one_block(state: StateFixture) -> None:
    """All 255 other values of each byte of a root block are disbelieved."""
    valid = chain(1)
    changed = [
        valid[:at] + bytes([value]) + valid[at + 1 :]
        for at in range(len(valid))
        for value in range(256)
        if value != valid[at]
    ]

    found = judge_all(state, changed)

    assert sum(found.values()) == 255 * len(valid)
    assert set(found) <= _DISBELIEVED
    # Form, session, issuer and signature each had to refuse some.
    assert {Reason.MALFORMED_TOKEN, Reason.UNKNOWN_SESSION, Reason.UNKNOWN_ISSUER} < set(found)
    assert found[Reason.BAD_SIGNATURE] > 64 * 255


@pytest.mark.parametrize("blocks", [3, 16])
@pytest.mark.parametrize("known", [False, True])
def test_every_bit_of_a_chain(state: StateFixture, blocks: int, known: bool) -> None:
    """Each flipped bit is disbelieved, also where the chain and its prefixes are in the cache."""
    valid = token(root("read:files/**"), *[child("*:**", label=f"holder {i}") for i in range(1, blocks)])
    if known:
        assert state.reason(valid) is Reason.ALLOWED
    step = 1 if known or blocks == 3 else 16
    changed = []
    for bit in range(0, 8 * len(valid), step):
        data = bytearray(valid)
        data[bit // 8] ^= 1 << (bit % 8)
        changed.append(bytes(data))

    found = Counter(state.reason(data) for data in changed)

    assert set(found) <= _DISBELIEVED
    assert found[Reason.BAD_SIGNATURE] >= 64 * 8 * blocks // step - blocks * 16


@pytest.mark.parametrize("blocks", [1, 3, 16])
def test_every_length_a_token_can_be_cut_to(state: StateFixture, blocks: int) -> None:
    """Every truncation is malformed, but where it leaves whole blocks: then the last one is open."""
    valid = token(root("read:files/**"), *[child("*:**")] * (blocks - 1))

    found = [state.reason(valid[:length]) for length in range(len(valid))]

    assert found.count(Reason.OPEN_TOKEN) == blocks - 1
    assert found.count(Reason.MALFORMED_TOKEN) == len(valid) - blocks + 1


@pytest.mark.parametrize("tail", [b"\x00", b"\n", b"\x12\x00", b"\x1a\x00", b"\x08\x01", b"=", b" " * 64])
def test_bytes_behind_a_token(state: StateFixture, tail: bytes) -> None:
    """Nothing may follow a token's last block, nor stand before its version."""
    valid = chain(2)

    assert state.reason(valid + tail) is Reason.MALFORMED_TOKEN
    assert state.reason(tail + valid) in {Reason.MALFORMED_TOKEN, Reason.UNSUPPORTED_VERSION}


@settings(max_examples=examples(400), deadline=None)
@given(st.binary(max_size=600) | st.binary(max_size=200).map(lambda tail: b"\x08\x01\x12" + tail))
def test_any_bytes_at_all(state: StateFixture, data: bytes) -> None:
    """Any bytes as a token are a denial at stage decode."""
    decision = state.check(data)

    assert not decision
    assert decision.fault is None
    assert decision.stage.name == "DECODE"


@settings(max_examples=examples(200), deadline=None)
@given(st.text(max_size=300) | st.text(max_size=40).map(lambda tail: "sessauth_token_" + tail))
def test_any_text_at_all(state: StateFixture, text: str) -> None:
    """Any text as a token is malformed, lone surrogates and control characters included."""
    # What begins like the stored form is open, whatever follows.
    assume(not text.startswith("sessauth_secret_"))
    assert state.reason(text) is Reason.MALFORMED_TOKEN
    # As bytes it may begin like a token of a later version.
    as_bytes = state.reason(text.encode("utf-8", "surrogatepass"))
    assert as_bytes is Reason.MALFORMED_TOKEN or (text[0] == "\b" and as_bytes is Reason.UNSUPPORTED_VERSION)

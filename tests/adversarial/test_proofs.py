"""A captured proof is worth nothing, whichever way it comes again."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sessauth._fast._check import ProofKeys, ReplayTable
from sessauth._fast._codec import CheckMessage
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.oracle.model import OracleRequest
from tests.oracle.wire import decode, encode
from tests.property.mutations import mutate_bytes
from tests.support.proof_forger import ED25519, MAC, agreement, nonce, prove
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import ending, key
from tests.vectors.cases_proofs import HOST, WHO, bound
from tests.vectors.world import AUDIENCE, NOW, ask, child, token

TOKEN = token(bound())
KEYS = [(agreement("verifier").public, agreement("verifier").secret, 0, NOW + 1)]
KINDS = (ED25519, MAC)
_NAMES = (f"attack {number}" for number in itertools.count())


@pytest.fixture
def table(tmp_path: Path) -> ReplayTable:
    """A table of the test's own."""
    return ReplayTable.create(tmp_path / "replay", 1 << 14, NOW - 60_000)


@pytest.fixture
def state(state: StateFixture, table: ReplayTable) -> Iterator[StateFixture]:
    """The state with keys for proofs and the table."""
    state.verifier.proofs = ProofKeys(HOST, KEYS, table)
    yield state
    state.verifier.proofs = None


def proved(kind: int, request: OracleRequest | None = None, **said: Any) -> bytes:
    """A right proof of a request, with a nonce of its own."""
    return prove(
        kind,
        TOKEN,
        request or ask(),
        WHO,
        HOST,
        agreement("verifier").public,
        NOW,
        nonce(next(_NAMES)),
        **said,
    )


def single(verifier: Verifier, proof: Any, presented: Any = TOKEN) -> Reason:
    """Judge by one check."""
    decision = verifier._check(presented, "read", "files/a.txt", now_ms=NOW, proof=proof)
    assert decision.fault is None
    return Reason(decision.reason)


def prepared(verifier: Verifier, proof: bytes) -> Reason:
    """Judge by a handle."""
    return single(verifier, proof, verifier.prepare(TOKEN))


def batched(verifier: Verifier, proof: bytes) -> Reason:
    """Judge by a batch."""
    (decision,) = verifier._check_batch(
        [(TOKEN, "read", "files/a.txt", b"", b"", b"", "", (), proof)], now_ms=NOW
    )
    return Reason(decision.reason)


def on_wire(verifier: Verifier, proof: bytes) -> Reason:
    """Judge by a request in wire form."""
    item = pb.CheckItem(token=TOKEN, action=b"read", resource=b"files/a.txt", proof=proof)
    asking = CheckMessage(verifier, pb.CheckRequest(item=item).SerializeToString(), "check")
    asking.judge(AUDIENCE, now_ms=NOW)
    return Reason(asking[0].reason)


def streamed(verifier: Verifier, proof: bytes) -> Reason:
    """Judge by a message of a stream."""
    item = pb.CheckItem(token=TOKEN, action=b"read", resource=b"files/a.txt", proof=proof)
    asking = CheckMessage(verifier, pb.CheckStreamRequest(id=7, item=item).SerializeToString(), "stream")
    asking.judge(AUDIENCE, now_ms=NOW)
    return Reason(asking[0].reason)


WAYS: dict[str, Callable[[Verifier, bytes], Reason]] = {
    "single": single,
    "prepared": prepared,
    "batch": batched,
    "wire": on_wire,
    "stream": streamed,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_seen_proof_is_worth_nothing_by_any_way(state: StateFixture, way: str, kind: int) -> None:
    """Each way refuses a proof that one way allowed, in another verifier of the host as well."""
    proof = proved(kind)
    assert WAYS[way](state.verifier, proof) is Reason.ALLOWED
    other = Verifier(state.writer.source(), audience=AUDIENCE, proofs=state.verifier.proofs)

    found = [again(verifier, proof) for again in WAYS.values() for verifier in (state.verifier, other)]
    assert found == [Reason.REPLAYED] * (2 * len(WAYS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_proof_twice_in_a_batch_counts_once(state: StateFixture, kind: int) -> None:
    """The first item of a batch has it, in process and on the wire."""
    proof, another = proved(kind), proved(kind)
    calls = [(TOKEN, "read", "files/a.txt", b"", b"", b"", "", (), p) for p in (proof, proof, another)]
    items = [pb.CheckItem(token=TOKEN, action=b"read", resource=b"files/a.txt", proof=proved(kind))] * 2
    asking = CheckMessage(state.verifier, pb.CheckBatchRequest(items=items).SerializeToString(), "batch")
    asking.judge(AUDIENCE, now_ms=NOW)

    decisions = state.verifier._check_batch(calls, now_ms=NOW)
    assert [d.reason for d in decisions] == [Reason.ALLOWED, Reason.REPLAYED, Reason.ALLOWED]
    assert [d.reason for d in asking] == [Reason.ALLOWED, Reason.REPLAYED]


@pytest.mark.parametrize("kind", KINDS)
def test_of_many_checks_with_one_proof_one_is_allowed(state: StateFixture, kind: int) -> None:
    """Threads that check with the same proofs at once: each is good for one of them."""
    made = [proved(kind) for _ in range(40)]
    start, found = threading.Barrier(8), [[] for _ in range(8)]  # type: list[list[Reason]]

    def run(at: int) -> None:
        start.wait()
        found[at] = [list(WAYS.values())[at % len(WAYS)](state.verifier, proof) for proof in made]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))

    for each in zip(*found, strict=True):
        assert sorted(each) == [Reason.ALLOWED, *[Reason.REPLAYED] * 7]


@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_proof_passes(state: StateFixture, kind: int) -> None:
    """Bits flipped, bytes dropped, repeated, added: nothing but the proof itself is one."""
    rng, proof = Random(kind), proved(kind)
    changed = {mutate_bytes(rng, proof) for _ in range(1500)} - {proof}

    assert {single(state.verifier, each) for each in changed} <= {
        Reason.BAD_PROOF,
        Reason.STALE_PROOF,
        Reason.PROOF_REQUIRED,
    }
    assert single(state.verifier, proof) is Reason.ALLOWED


def test_fields_in_another_order_are_no_proof(state: StateFixture) -> None:
    """A protobuf runtime would read them; one meaning has one form here."""
    proof = proved(MAC)
    record = decode("Proof", proof)
    pieces = [encode("Proof", {name: value}) for name, value in record.items()]
    assert b"".join(pieces) == proof

    for order in itertools.permutations(range(6)):
        wanted = Reason.BAD_PROOF if order != tuple(range(6)) else Reason.ALLOWED
        assert single(state.verifier, b"".join(pieces[at] for at in order)) is wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_proof_does_not_move_down_or_up(state: StateFixture, kind: int) -> None:
    """A holder's proof of a chain is none for what was attenuated from it, nor the other way round."""
    below = child(**ending("bound", key("next 1"), agreement("proof 1").public))
    longer = token(bound(), below)
    proof = proved(kind)
    up = prove(kind, longer, ask(), WHO, HOST, agreement("verifier").public, NOW, nonce("up"))

    assert single(state.verifier, proof, longer) is Reason.BAD_PROOF
    assert single(state.verifier, up, longer) is single(state.verifier, up) is Reason.BAD_PROOF
    assert single(state.verifier, proof) is Reason.ALLOWED


def test_a_mac_says_nothing_without_the_chains_keys(state: StateFixture) -> None:
    """A MAC under another chain's agreement with the same verifier key is none for this one."""
    other = bound(next_key=key("next 7").public, proof_key=agreement("proof 7").public)
    for who in ((key("next 7"), agreement("proof 0")), (key("next 0"), agreement("proof 7"))):
        thief = type(WHO)(*who)
        made = prove(MAC, TOKEN, ask(), thief, HOST, agreement("verifier").public, NOW, nonce("t"))
        assert single(state.verifier, made) is Reason.BAD_PROOF
    made = prove(
        MAC, token(other), ask(), type(WHO)(key("next 7"), agreement("proof 7")), HOST,
        agreement("verifier").public, NOW, nonce("t"),
    )  # fmt: skip
    assert single(state.verifier, made, token(other)) is Reason.ALLOWED
    assert single(state.verifier, made) is Reason.BAD_PROOF


@pytest.mark.parametrize("kind", KINDS)
def test_a_proof_is_of_the_very_bytes(state: StateFixture, kind: int) -> None:
    """Arguments that mean the same, or parts that run together otherwise, are another request."""
    spelled = [
        b'{"a":1}',
        b'{"a": 1}',
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"\\u0061":1}',
        b'{"a":1.0}',
        b'{"a":1,"b":2}',
    ]
    calls = [("read", "files/a.txt", each) for each in (*spelled, b"{}", b"{ }")]
    calls += [("read", "files/a.txt/b", b"{}"), ("write", "files/a.txt", b"{}")]

    def judged(call: tuple[str, str, bytes], proof: bytes) -> Reason:
        return Reason(state.verifier._check(TOKEN, *call, now_ms=NOW, proof=proof).reason)

    for made_for in calls[:9]:
        proof = proved(kind, ask(*made_for))
        others = [judged(call, proof) for call in calls if call != made_for]
        assert set(others) <= {Reason.BAD_PROOF, Reason.OUT_OF_SCOPE}
        assert judged(made_for, proof) is Reason.ALLOWED
    # Empty arguments are the empty object, and nothing else is.
    assert judged(("read", "files/a.txt", b""), proved(kind, ask(arguments=b"{}"))) is Reason.ALLOWED
    assert judged(("read", "files/a.txt", b"{}"), proved(kind, ask(arguments=b""))) is Reason.ALLOWED


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_handle_keeps_opens_nothing_elsewhere(
    state: StateFixture, table: ReplayTable, kind: int
) -> None:
    """One handle at several hosts and keys, in turn: each takes proofs for its own key, while it counts."""
    keys = {name: (agreement(name).public, agreement(name).secret) for name in ("verifier", "next")}
    hosts = {
        (name, host): Verifier(
            state.writer.source(),
            audience=AUDIENCE,
            proofs=ProofKeys(host, [(*keys[name], NOW - 10, NOW + 10)], table),
        )
        for name in keys
        for host in (HOST, bytes(16))
    }
    handle = state.verifier.prepare(TOKEN)

    def judged(verifier: Verifier, proof: bytes, now_ms: int = NOW) -> Reason:
        return Reason(verifier._check(handle, "read", "files/a.txt", now_ms=now_ms, proof=proof).reason)

    for _ in range(3):
        for name, host in hosts:
            public = keys[name][0]
            proof = prove(kind, TOKEN, ask(), WHO, host, public, NOW, nonce(next(_NAMES)))
            others = [judged(hosts[other], proof) for other in hosts if other != (name, host)]
            assert others == [Reason.BAD_PROOF] * 3
            for now_ms in (NOW - 11, NOW + 10):
                assert judged(hosts[name, host], proof, now_ms) is Reason.PROOF_UNAVAILABLE
            assert judged(hosts[name, host], proof) is Reason.ALLOWED


def test_a_broken_table_denies(state: StateFixture, table: ReplayTable) -> None:
    """A table that is cut under the verifiers makes every proof unavailable, by every way."""
    Path(table.path).write_bytes(b"")
    # It is looked at once in a millisecond.
    time.sleep(0.005)

    for way in WAYS.values():
        assert way(state.verifier, proved(MAC)) is Reason.PROOF_UNAVAILABLE

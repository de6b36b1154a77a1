"""Proofs of both kinds: what lets a bound token pass, and what does not, with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.oracle import proofs
from tests.oracle.constants import Reason
from tests.oracle.decode import parse_chain
from tests.oracle.model import OracleHost, OracleRequest
from tests.oracle.text import PROOF, to_text
from tests.oracle.wire import encode, write_varint
from tests.support.proof_forger import ED25519, MAC, Holder, agreement, fields, holder, nonce, verifier_key
from tests.support.token_forger import Record, ending, id16, key
from tests.support.vector_files import write_host
from tests.vectors.world import NOW, VIEWS, Case, allowed, ask, at_block, case, child, root, token

READ = "read:files/**"
HOST = id16("host")
WHO = holder("next 0", "proof 0")
_KINDS = (("ed25519", ED25519), ("mac", MAC))
_COUNTS_FROM = NOW - 20_000
_L = 2**252 + 27742317777372353535851937790883648493

HOSTS: dict[str, OracleHost] = {
    "host": OracleHost(
        HOST,
        (verifier_key("verifier", NOW - 1000, NOW + 1000), verifier_key("previous", NOW - 9000, NOW + 1)),
        NOW - 60_000,
    ),
    "host, over": OracleHost(
        HOST, (verifier_key("verifier", NOW - 9000, NOW), verifier_key("next", NOW + 1, NOW + 9000)), 0
    ),
    "host, one counts": OracleHost(
        HOST,
        (verifier_key("verifier", NOW, NOW + 1), verifier_key("previous", NOW - 9000, NOW)),
        NOW - 60_000,
    ),
    "host without keys": OracleHost(HOST, (), NOW - 60_000),
    "host without table": OracleHost(HOST, (verifier_key("verifier", NOW - 1000, NOW + 1000),), None),
    "host with new table": OracleHost(
        HOST, (verifier_key("verifier", NOW - 1000, NOW + 1000),), _COUNTS_FROM
    ),
}


def bound(*scopes: str | Record, **fields: Any) -> Record:
    """A root block that ends bound, with a proof_key."""
    return root(
        *(scopes or (READ,)), **{**ending("bound", key("next 0"), agreement("proof 0").public), **fields}
    )


def given(
    kind: int,
    blocks: tuple[Record, ...],
    request: OracleRequest | None = None,
    who: Holder = WHO,
    **said: Any,
) -> Record:
    """The fields of a proof for a request, made now for the host's current key unless said otherwise."""
    host = said.pop("host", agreement("verifier").public)
    once = said.pop("once", nonce(f"{kind} {said.pop('name', 'plain')}"))
    made = said.pop("host_id", HOST)
    at = said.pop("at_ms", NOW)
    return fields(kind, token(*blocks), request or ask(), who, made, host, at, once, **said)


def _case(
    name: str, comment: str, expected: Any, *blocks: Record, proof: Record | bytes, **parts: Any
) -> Case:
    data = proof if isinstance(proof, bytes) else encode("Proof", proof)
    request = replace(parts.pop("request", ask()), proof=data)
    return case(name, comment, expected, *blocks, request=request, view=parts.pop("view", "host"), **parts)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _good()
    yield from _of_the_host()
    yield from _of_another()
    yield from _form()
    yield from _time()
    yield from _taken()
    yield from _order()


def views() -> dict[str, Record]:
    """The plain view of the vectors beside each host."""
    hosts = {**HOSTS, "host, taken": replace(HOSTS["host"], taken=frozenset([_pair()]))}
    return {name: {**VIEWS["plain"], "host": write_host(host)} for name, host in hosts.items()}


def _pair() -> tuple[bytes, bytes]:
    return parse_chain(token(bound())).blocks[-1].signature, nonce("taken")


def _good() -> Iterator[Case]:
    block = bound()
    for name, kind in _KINDS:
        yield _case(
            f"{name}", "The holder proves this request.", allowed(), block, proof=given(kind, (block,))
        )
        text = to_text(PROOF, encode("Proof", given(kind, (block,), name="text"))).encode()
        yield _case(f"{name} as text", "The text form of a proof.", allowed(), block, proof=text)
        previous = given(kind, (block,), host=agreement("previous").public, name="previous")
        yield _case(f"{name}, previous key", "The key before still counts.", allowed(), block, proof=previous)
        below = child(READ, **ending("bound", key("next 1"), agreement("proof 1").public))
        proof = given(kind, (block, below), who=holder("next 1", "proof 1"), name="below")
        yield _case(f"{name}, below", "The last holder proves.", allowed(1), block, below, proof=proof)
        braces = ask(arguments="{}")
        proof = given(kind, (block,), ask(), name="braces")
        yield _case(
            f"{name}, braces", "Empty arguments count as {}.", allowed(), block, proof=proof, request=braces
        )
        tool = ask(tool=b'{"read_only":true}', source="10.0.0.1", peer=("spiffe://a/b",))
        proof = given(kind, (block,), ask(), name="tool")
        yield _case(
            f"{name}, what a gateway adds", "It is not covered.", allowed(), block, proof=proof, request=tool
        )
    bare = bound(proof_key=None)
    proof = given(ED25519, (bare,))
    yield _case("ed25519 without proof_key", "A signature needs none.", allowed(), bare, proof=proof)
    sealed = root(READ)
    yield _case("sealed", "A proof of a sealed chain is not looked at.", allowed(), sealed, proof=b"any")
    free = bound(may_seal=True)
    comment = "Nor is one of a chain that was sealed."
    yield _case("bound, sealed", comment, allowed(1), free, child(READ), proof=b"any")


def _of_the_host() -> Iterator[Case]:
    block = bound()
    unavailable, bad = at_block(Reason.PROOF_UNAVAILABLE), at_block(Reason.BAD_PROOF)
    proof = given(MAC, (block,))
    yield _case("no proof", "A bound chain needs one.", at_block(Reason.PROOF_REQUIRED), block, proof=b"")
    for view in ("plain", "host without keys", "host without table", "host, over"):
        yield _case(f"{view}", "It can't be judged there.", unavailable, block, proof=proof, view=view)
        yield _case(
            f"{view}, no proof",
            "One is needed.",
            at_block(Reason.PROOF_REQUIRED),
            block,
            proof=b"",
            view=view,
        )
        yield _case(f"{view}, junk", "Nothing is read.", unavailable, block, proof=b"junk", view=view)
    yield _case(
        "key that counts from now", "And for 1 ms.", allowed(), block, proof=proof, view="host, one counts"
    )
    over = given(MAC, (block,), host=agreement("previous").public)
    yield _case("key that is over", "From this moment on.", bad, block, proof=over, view="host, one counts")
    for name, kind in _KINDS:
        strange = given(kind, (block,), host=agreement("a stranger's").public)
        yield _case(f"{name}, another key", "For no key of the host.", bad, block, proof=strange)
        other = given(kind, (block,), host_id=id16("another host"))
        yield _case(f"{name}, another host", "For another verifier id.", bad, block, proof=other)
        moved = {**given(kind, (block,), host_id=id16("another host")), "verifier_id": HOST}
        yield _case(f"{name}, host replaced", "The verifier id is covered.", bad, block, proof=moved)
        moved = {
            **given(kind, (block,), host=agreement("previous").public),
            "key_id": agreement("verifier").id,
        }
        yield _case(f"{name}, key replaced", "The key id is covered.", bad, block, proof=moved)


def _of_another() -> Iterator[Case]:
    block, bad = bound(), at_block(Reason.BAD_PROOF)
    for name, kind in _KINDS:
        for what, request in (
            ("action", ask("write")),
            ("resource", ask(resource="files/b.txt")),
            ("arguments", ask(arguments='{"a":1}')),
            ("white space", ask(arguments="{ }")),
            ("moved border", ask("rea", "dfiles/a.txt")),
        ):
            proof = given(kind, (block,), request)
            yield _case(f"{name}, another {what}", "Made for another request.", bad, block, proof=proof)
        other = bound(label="another")
        proof = given(kind, (other,))
        yield _case(f"{name}, another chain", "Made for a chain with the same keys.", bad, block, proof=proof)
        proof = given(kind, (block,), who=holder("thief", "thief"))
        yield _case(f"{name}, thief", "Made without the secrets.", bad, block, proof=proof)
        below = child(READ, **ending("bound", key("next 1"), agreement("proof 1").public))
        proof = given(kind, (block, below))
        expected = at_block(Reason.BAD_PROOF, 1)
        yield _case(f"{name}, the holder above", "Not the last one.", expected, block, below, proof=proof)
        for part, change in (("time_ms", NOW + 1), ("nonce", nonce("other"))):
            proof = {**given(kind, (block,)), part: change}
            yield _case(f"{name}, {part} replaced", "It is covered.", bad, block, proof=proof)
        last = given(kind, (block,))
        torn = {**last, "tag": last["tag"][:-1] + bytes([last["tag"][-1] ^ 1])}
        yield _case(f"{name}, tag changed", "By one bit.", bad, block, proof=torn)
    signed = given(ED25519, (block,))
    s = int.from_bytes(signed["tag"][32:], "little") + _L
    moved = {**signed, "tag": signed["tag"][:32] + s.to_bytes(32, "little")}
    yield _case("ed25519, S + L", "Section 3.3 refuses it.", bad, block, proof=moved)
    yield from _small_order()


def _small_order() -> Iterator[Case]:
    bad = at_block(Reason.BAD_PROOF)
    bare = bound(proof_key=None)
    proof = given(MAC, (bare,))
    yield _case("mac without proof_key", "The block names no key for it.", bad, bare, proof=proof)
    for name, point in (
        ("zero", bytes(32)),
        ("one", bytes([1]) + bytes(31)),
        ("p", (2**255 - 19).to_bytes(32, "little")),
    ):
        block = bound(proof_key=point)
        made = given(MAC, (block,), tag=bytes(32))
        shared = agreement("verifier").public
        zeros = proofs.mac_key(bytes(32), point, shared, key("next 0").public, HOST)
        made["tag"] = proofs.mac(zeros, _message(block, made))
        yield _case(f"mac, proof_key {name}", "X25519 gives zeros: no key.", bad, block, proof=made)
        proof = given(ED25519, (block,), name=name)
        yield _case(f"ed25519, proof_key {name}", "It plays no part.", allowed(), block, proof=proof)


def _form() -> Iterator[Case]:
    block, bad = bound(), at_block(Reason.BAD_PROOF)
    for name, kind in _KINDS:
        good = given(kind, (block,))
        data = encode("Proof", good)
        swapped = {**good, "kind": MAC if kind == ED25519 else ED25519}
        yield _case(f"{name} as the other kind", "The tag has the wrong length.", bad, block, proof=swapped)
        for what, change in (
            ("kind 3", {"kind": 3}),
            ("no kind", {"kind": 0}),
            ("no verifier id", {"verifier_id": b""}),
            ("verifier id of 15", {"verifier_id": HOST[:15]}),
            ("key id of 31", {"key_id": good["key_id"][:31]}),
            ("nonce of 15", {"nonce": good["nonce"][:15]}),
            ("nonce of 17", {"nonce": good["nonce"] + b"\0"}),
            ("no nonce", {"nonce": b""}),
            ("no tag", {"tag": b""}),
            ("tag cut", {"tag": good["tag"][:-1]}),
            ("tag longer", {"tag": good["tag"] + b"\0"}),
            ("time of 2^53", {"time_ms": 2**53}),
        ):
            yield _case(f"{name}, {what}", "No proof.", bad, block, proof={**good, **change})
        number = write_varint(NOW)
        zero = data.replace(b"\x20" + number, b"\x20\x00")
        long_time = data.replace(number, number[:-1] + bytes([number[-1] | 0x80]) + b"\0")
        for what, torn in (
            ("cut", data[:-1]),
            ("more behind", data + b"\0"),
            ("unknown field", data + b"\x38\x01"),
            ("given twice", data + data),
            ("kind given twice", data[:2] + data),
            ("time of 0 stated", zero),
            ("time not minimal", long_time),
            ("last field first", data[data.rindex(good["tag"]) - 2 :] + data[: data.rindex(good["tag"]) - 2]),
            ("text damaged", to_text(PROOF, data)[:-1].encode() + b"!"),
            ("text of a token", to_text("sessauth_token_", data).encode()),
        ):
            yield _case(f"{name}, {what}", "Not canonical.", bad, block, proof=torn)
    # The kind is covered: what is signed as one is no proof of the other.
    as_mac = {**given(MAC, (block,)), "kind": ED25519}
    as_mac["tag"] = WHO.next.sign(_message(block, {**as_mac, "kind": MAC}))
    yield _case("signature over the other kind", "The kind is covered.", bad, block, proof=as_mac)
    half = {**given(ED25519, (block,)), "kind": MAC}
    half["tag"] = half["tag"][:32]
    yield _case("half a signature as a mac", "Kinds are told apart.", bad, block, proof=half)


def _message(block: Record, made: Record) -> bytes:
    """Return the bytes that a proof of the usual request covers."""
    asked = proofs.request_digest(b"read", b"files/a.txt", b"")
    return proofs.proven(made, parse_chain(token(block)).blocks[-1].signature, asked)


def _time() -> Iterator[Case]:
    block, stale = bound(), at_block(Reason.STALE_PROOF)
    for name, kind in _KINDS:
        for away in (-30_000, 30_000):
            proof = given(kind, (block,), at_ms=NOW + away, name=f"at {away}")
            yield _case(f"{name}, {away} ms away", "At the border.", allowed(), block, proof=proof)
        for away in (-30_001, 30_001):
            proof = given(kind, (block,), at_ms=NOW + away)
            yield _case(f"{name}, {away} ms away", "Beyond it.", stale, block, proof=proof)
        for what, at in (("no time", 0), ("time of 2^53 - 1", 2**53 - 1)):
            yield _case(f"{name}, {what}", "Far away.", stale, block, proof=given(kind, (block,), at_ms=at))
        proof = given(kind, (block,), at_ms=NOW - 30_001, tag=bytes(64 if kind == ED25519 else 32))
        yield _case(f"{name}, stale and wrong", "The time goes first.", stale, block, proof=proof)
        for at, expected in ((_COUNTS_FROM - 1, stale), (_COUNTS_FROM, allowed())):
            proof = given(kind, (block,), at_ms=at)
            yield _case(
                f"{name}, {at - _COUNTS_FROM} ms after the table",
                "What was before the table can't be told from a replay.",
                expected,
                block,
                proof=proof,
                view="host with new table",
            )


def _taken() -> Iterator[Case]:
    block, once = bound(), nonce("taken")
    for name, kind in _KINDS:
        proof = given(kind, (block,), once=once)
        comment = "The nonce was taken."
        replayed = at_block(Reason.REPLAYED)
        yield _case(f"{name}, replayed", comment, replayed, block, proof=proof, view="host, taken")
        proof = given(kind, (block,), once=once, at_ms=NOW - 1)
        comment = "Another proof with its nonce."
        yield _case(f"{name}, nonce again", comment, replayed, block, proof=proof, view="host, taken")
        other = bound(label=name)
        proof = given(kind, (other,), once=once)
        comment = "The nonce of another chain."
        yield _case(f"{name}, another's nonce", comment, allowed(), other, proof=proof, view="host, taken")
        wrong = {**given(kind, (block,), once=once), "tag": bytes(64 if kind == ED25519 else 32)}
        comment = "A wrong proof is not looked up."
        bad = at_block(Reason.BAD_PROOF)
        yield _case(f"{name}, wrong and taken", comment, bad, block, proof=wrong, view="host, taken")


def _order() -> Iterator[Case]:
    elsewhere = bound("read:logs/**")
    comment = "The scopes go first."
    yield _case("scope before proof", comment, at_block(Reason.OUT_OF_SCOPE), elsewhere, proof=b"junk")
    costly = bound(f"{READ} needs uses(3)")
    bad, needs = at_block(Reason.BAD_PROOF), at_block(Reason.NEEDS_SERVER, 0, 0)
    yield _case("proof before needs", "A wrong one is said first.", bad, costly, proof=b"junk")
    proof = given(MAC, (costly,))
    yield _case("needs behind a proof", "A right one goes on to them.", needs, costly, proof=proof)

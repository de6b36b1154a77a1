"""Issuer and holder make of stated secrets the bytes of the vectors."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from sessauth.clock import FixedClock
from sessauth.crypto.keys import HolderPublicKey, IssuerKey, VerifierKey
from sessauth.tokens import prover as holders
from sessauth.tokens import token as issuers
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Issuer, Token
from tests.support.vector_files import load, read_request

CONTENT = load("making.json")
VECTORS = CONTENT["vectors"]
_PLAIN = (
    "scopes",
    "where",
    "audience",
    "source",
    "peer",
    "expires_at_ms",
    "not_before_ms",
    "max_blocks",
    "label",
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes that the library draws at random, in their order."""
    queue: list[bytes] = []

    def take(size: int = 32) -> bytes:
        assert len(queue[0]) == size
        return queue.pop(0)

    for module in (issuers, holders):
        monkeypatch.setattr(module, "secrets", SimpleNamespace(token_bytes=take))
    seeds = SimpleNamespace(**{**vars(kernel), "generate_seed": take})
    monkeypatch.setattr("sessauth.tokens.block_draft.kernel", seeds)
    return queue


def _holder(says: dict[str, Any]) -> HolderKey:
    """The holder of the keys that a block names; without a proof key one that is never used."""
    secret = says.get("proof_secret_hex", "77" * 32)
    return HolderKey(bytes.fromhex(says["next_seed_hex"]), bytes.fromhex(secret))


def _parameters(says: dict[str, Any], drawn: list[bytes]) -> dict[str, Any]:
    """The parameters of ``mint`` and ``attenuate``; what they will draw is queued."""
    out = {name: says[name] for name in _PLAIN if name in says}
    if says["ending"] == "BOUND":
        public = _holder(says).public
        proof_key = public.proof_key if "proof_secret_hex" in says else b""
        out.update(to=HolderPublicKey(public.next_key, proof_key), may_seal=says.get("may_seal", False))
    else:
        out["ending"] = says["ending"].lower()
        if says["ending"] == "OPEN":
            drawn.append(bytes.fromhex(says["next_seed_hex"]))
    return out


def _made(vector: dict[str, Any], drawn: list[bytes]) -> Iterator[Token]:
    """The token after each block."""
    first, *later = (block["says"] for block in vector["blocks"])
    issuer = Issuer(IssuerKey(bytes.fromhex(CONTENT["issuer_seed_hex"])), FixedClock(first["issued_at_ms"]))
    drawn.append(bytes.fromhex(first["token_id_hex"]))
    parameters = {"min_revision": first.get("min_revision", 0), **_parameters(first, drawn)}
    token = issuer.mint(bytes.fromhex(first["session_id_hex"]), parameters.pop("scopes"), **parameters)
    yield token
    above = first
    for says in later:
        key = _holder(above) if above["ending"] == "BOUND" else None
        parameters = _parameters(says, drawn)
        sealed_only = key is None and says == {"ending": "SEALED"}
        token = token.present() if sealed_only else token.attenuate(key=key, **parameters)
        above = says
        yield token


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_tokens_are_made_byte_for_byte(vector: dict[str, Any], drawn: list[bytes]) -> None:
    """Each step gives the payloads, signatures and block ids stated, and the last the text."""
    for count, token in enumerate(_made(vector, drawn), 1):
        blocks = vector["blocks"][:count]
        assert [payload.hex() for payload in token._chain.payloads] == [b["payload_hex"] for b in blocks]
        assert [one.hex() for one in token._chain.signatures] == [b["signature_hex"] for b in blocks]
        assert [one.hex() for one in token.block_ids] == [b["block_id_hex"] for b in blocks]
    assert token.data.hex() == vector["token_hex"]
    assert (token.stored_text() if token.is_open else token.text) == vector["text"]
    assert drawn == []


@pytest.mark.parametrize("vector", [v for v in VECTORS if "proofs" in v], ids=lambda vector: vector["name"])
def test_proofs_are_made_byte_for_byte(vector: dict[str, Any], drawn: list[bytes]) -> None:
    """A holder's proof of each kind has the bytes stated."""
    key = _holder(vector["blocks"][-1]["says"])
    for stated in vector["proofs"]:
        request = read_request(stated["request"])
        host = VerifierKey(
            bytes.fromhex(stated["verifier_id_hex"]),
            bytes.fromhex(stated["verifier_key_hex"]),
            stated["time_ms"] - 1,
            stated["time_ms"] + 1,
            bytes(16),
        )
        drawn.append(bytes.fromhex(stated["nonce_hex"]))
        found = key.prove(
            bytes.fromhex(vector["token_hex"]),
            request.action,
            request.resource,
            request.arguments,
            host,
            kind=stated["kind"].lower(),
            now_ms=stated["time_ms"],
        )
        assert found.hex() == stated["proof_hex"]

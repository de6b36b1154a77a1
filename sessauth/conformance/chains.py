"""Chains made from records, signed by public test keys, and ways to damage them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Final

from .._fast import _check as kernel
from ..tokens.inspection import Ending

Record = dict[str, Any]
_KINDS: Final = (6, 16, 77, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 key with the digest of its name as its seed: for tests only."""

    seed: bytes
    public: bytes
    id: bytes


@cache
def key(name: str) -> Key:
    """Return the key of a name."""
    seed = kernel.digest(b"sessauth conformance key " + name.encode())
    public = kernel.public_key(seed)
    return Key(seed, public, kernel.digest(public))


def name16(name: str) -> bytes:
    """Return the id of a name, 16 bytes."""
    return kernel.digest(b"sessauth conformance id " + name.encode())[:16]


@dataclass(frozen=True, slots=True)
class BuiltChain:
    """A chain with its payloads and signers, to sign it again after a change."""

    blocks: tuple[Record, ...]
    payloads: tuple[bytes, ...]
    signers: tuple[Key, ...]

    @classmethod
    def linked(cls, rng: Random, blocks: Sequence[Record], issuer: Key) -> BuiltChain:
        """Give each block an ending and a key for the next, mostly as the format permits."""
        linked, signers, bound = [], [issuer], False
        for index, block in enumerate(blocks):
            following = key(f"holder {rng.randrange(40)} {index}")
            last = index == len(blocks) - 1
            ending = Ending.SEALED if last and rng.random() < 0.93 else Ending.OPEN
            if bound or rng.random() < 0.03:
                ending, bound = Ending.BOUND, bound or rng.random() < 0.5
            record = {**block, "ending": int(ending)}
            if ending is not Ending.SEALED:
                record["next_key"] = following.public
            if ending is Ending.BOUND and not bound:
                record["may_seal"] = True
            linked.append(record)
            signers.append(following)
        payloads = tuple(kernel.encode_message("Block", record) for record in linked)
        return cls(tuple(linked), payloads, tuple(signers[:-1]))

    @property
    def token(self) -> bytes:
        """The chain, signed."""
        return sign_chain(self.payloads, self.signers)

    @property
    def block_ids(self) -> list[bytes]:
        """The id of each block, 32 bytes."""
        ids, before = [], b""
        for index, (payload, signer) in enumerate(zip(self.payloads, self.signers, strict=True)):
            covered = kernel.signed_bytes(index, before, payload)
            ids.append(kernel.digest(covered))
            before = kernel.sign(signer.seed, covered)
        return ids


def sign_chain(payloads: Sequence[bytes], signers: Sequence[Key]) -> bytes:
    """Return the token of payloads, each signed by its signer."""
    blocks, before = [], b""
    for index, (payload, signer) in enumerate(zip(payloads, signers, strict=True)):
        before = kernel.sign(signer.seed, kernel.signed_bytes(index, before, payload))
        blocks.append({"signature": before, "payload": payload})
    return kernel.encode_message("Token", {"version": 1, "blocks": blocks})


def damage(rng: Random, chain: BuiltChain) -> bytes:
    """Return a token with one fault: in bytes, a kind, a signature or the order of its blocks."""
    return rng.choice(_WAYS)(rng, chain)


def _changed(rng: Random, data: bytes) -> bytes:
    """Return the data with some bytes changed, removed or doubled."""
    at = rng.randrange(len(data))
    return rng.choice(
        (
            data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at] + rng.randbytes(1) + data[at:],
            data[: at + 9] + data[at:],
            data[:at],
        )
    )


def _changed_bytes(rng: Random, chain: BuiltChain) -> bytes:
    return _changed(rng, chain.token)


def _changed_payload(rng: Random, chain: BuiltChain) -> bytes:
    payloads = list(chain.payloads)
    at = rng.randrange(len(payloads))
    payloads[at] = _changed(rng, payloads[at])
    return sign_chain(payloads, chain.signers)


def _forged(rng: Random, chain: BuiltChain) -> bytes:
    signers = list(chain.signers)
    signers[rng.randrange(len(signers))] = key("forger")
    return sign_chain(chain.payloads, signers)


def _unknown_kind(rng: Random, chain: BuiltChain) -> bytes:
    """Return a token with an unknown kind, and right signatures."""
    payloads = list(chain.payloads)
    at = rng.randrange(len(payloads))
    record = kernel.decode_message("Block", payloads[at])
    places = [(segment, "kind") for scope in record["scopes"] for segment in scope["resource"]]
    places += [(path, "source") for scope in record["scopes"] for path in scope["free"]]
    for part in (record, *record["scopes"]):
        for condition in part["where"]:
            places += [(condition, "operator"), (condition, "accessor"), (condition["path"], "source")]
    if places:
        inner, name = rng.choice(places)
        inner[name] = rng.choice(_KINDS)
    payloads[at] = kernel.encode_message("Block", record)
    return sign_chain(payloads, chain.signers)


def _reordered(rng: Random, chain: BuiltChain) -> bytes:
    blocks = kernel.decode_message("Token", chain.token)["blocks"]
    if rng.random() < 0.5:
        blocks.append(rng.choice(blocks))
    else:
        rng.shuffle(blocks)
    return kernel.encode_message("Token", {"version": rng.choice((1, 1, 1, 2)), "blocks": blocks})


_WAYS: Final[tuple[Callable[[Random, BuiltChain], bytes], ...]] = (
    *(_changed_bytes, _changed_payload, _changed_payload, _forged, _unknown_kind, _unknown_kind, _reordered),
)

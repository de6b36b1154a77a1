"""The contents of a token and of its blocks, as read from the bytes. Reading verifies nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .._fast import _check as kernel
from .._fast._check import Chain
from ..scopes.scope import Condition, Scope


class Ending(IntEnum):
    """The ending of a block, which determines the blocks that may follow it; numbers of ``token.proto``."""

    SEALED = 1
    OPEN = 2
    BOUND = 3


_UNCHANGED = (
    *("label", "issued_at_ms", "expires_at_ms", "not_before_ms"),
    *("max_blocks", "next_key", "proof_key", "may_seal"),
)


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One block. Times are ms since 1970, 0 where not stated; ``index`` 0 is the root block."""

    index: int
    block_id: bytes
    ending: Ending
    label: str
    issued_at_ms: int
    expires_at_ms: int
    not_before_ms: int
    audience: tuple[str, ...]
    scopes: tuple[Scope, ...]
    where: tuple[Condition, ...]
    source: tuple[str, ...]
    peer: tuple[str, ...]
    max_blocks: int
    next_key: bytes
    proof_key: bytes
    may_seal: bool

    @classmethod
    def read(cls, index: int, block_id: bytes, payload: bytes) -> BlockInfo:
        """Read the payload of a block of a well-formed chain."""
        record = kernel.decode_message("Block", payload)
        return cls(
            index=index,
            block_id=block_id,
            ending=Ending(record["ending"]),
            audience=tuple(record["audience"]),
            scopes=tuple(map(Scope.from_record, record["scopes"])),
            where=tuple(map(Condition.from_record, record["where"])),
            source=tuple(record["source"]),
            peer=tuple(record["peer"]),
            **{name: record[name] for name in _UNCHANGED},
        )

    @property
    def name(self) -> str:
        """Its name in messages: ``block 1 (label 'sub-agent')``."""
        return f"block {self.index} (label {self.label!a})" if self.label else f"block {self.index}"

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: ids and keys in hex, scopes as text; only fields that are set."""
        stated = {name: _json_value(getattr(self, name)) for name in self.__slots__[3:]}
        return {
            "index": self.index,
            "block_id": self.block_id.hex(),
            "ending": self.ending.name.lower(),
            **{name: value for name, value in stated.items() if value},
        }


def _json_value(value: object) -> object:
    if isinstance(value, tuple):
        return list(map(str, value))
    return value.hex() if isinstance(value, bytes) else value


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """The chain of a token as its bytes state it. No signature and no state was looked at.

    ``expires_at_ms`` is the earliest and ``not_before_ms`` the latest that a block states;
    ``max_blocks`` the smallest.
    """

    issuer_key_id: bytes
    session_id: bytes
    token_id: bytes
    min_revision: int
    expires_at_ms: int
    not_before_ms: int
    max_blocks: int
    size_bytes: int
    blocks: tuple[BlockInfo, ...]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: ids in hex, scopes as text, and ``verified`` false."""
        values = {name: _json_value(getattr(self, name)) for name in self.__slots__ if name != "blocks"}
        return {"verified": False, **values, "blocks": [block.to_dict() for block in self.blocks]}


def read_blocks(chain: Chain) -> tuple[BlockInfo, ...]:
    """Return the contents of each block of a well-formed chain."""
    pairs = zip(chain.block_ids, chain.payloads, strict=True)
    return tuple(BlockInfo.read(index, block_id, payload) for index, (block_id, payload) in enumerate(pairs))


def inspect_chain(chain: Chain) -> TokenInfo:
    """Return the contents of a well-formed chain."""
    return TokenInfo(
        issuer_key_id=chain.issuer_key_id,
        session_id=chain.session_id,
        token_id=chain.token_id,
        min_revision=chain.min_revision,
        expires_at_ms=chain.expires_at_ms,
        not_before_ms=chain.not_before_ms,
        max_blocks=chain.max_blocks,
        size_bytes=len(chain.raw),
        blocks=read_blocks(chain),
    )

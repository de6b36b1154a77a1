"""What one block of a token says, as read from its bytes. Reading verifies nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .._fast.codec import protobuf
from ..scopes.condition import Condition
from ..scopes.scope import Scope


class Ending(IntEnum):
    """How a block ends: what may follow it; the numbers of ``token.proto``."""

    SEALED = 1
    OPEN = 2
    BOUND = 3


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
        """Return what ``payload`` says; it belongs to a chain that the kernel found well-formed."""
        record: dict[str, Any] = protobuf.decode("Block", payload)
        return cls(
            index=index,
            block_id=block_id,
            ending=Ending(record["ending"]),
            label=record["label"],
            issued_at_ms=record["issued_at_ms"],
            expires_at_ms=record["expires_at_ms"],
            not_before_ms=record["not_before_ms"],
            audience=tuple(record["audience"]),
            scopes=tuple(map(Scope.from_record, record["scopes"])),
            where=tuple(map(Condition.from_record, record["where"])),
            source=tuple(record["source"]),
            peer=tuple(record["peer"]),
            max_blocks=record["max_blocks"],
            next_key=record["next_key"],
            proof_key=record["proof_key"],
            may_seal=record["may_seal"],
        )

    @property
    def name(self) -> str:
        """How messages call it: ``block 1 (label 'sub-agent')``."""
        return f"block {self.index} (label {self.label!a})" if self.label else f"block {self.index}"

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: ids and keys in hex, scopes as text; only what is stated."""
        stated = {
            "label": self.label,
            "issued_at_ms": self.issued_at_ms,
            "expires_at_ms": self.expires_at_ms,
            "not_before_ms": self.not_before_ms,
            "audience": list(self.audience),
            "scopes": [str(scope) for scope in self.scopes],
            "where": [str(condition) for condition in self.where],
            "source": list(self.source),
            "peer": list(self.peer),
            "max_blocks": self.max_blocks,
            "next_key": self.next_key.hex(),
            "proof_key": self.proof_key.hex(),
            "may_seal": self.may_seal,
        }
        return {
            "index": self.index,
            "block_id": self.block_id.hex(),
            "ending": self.ending.name.lower(),
            **{name: value for name, value in stated.items() if value},
        }

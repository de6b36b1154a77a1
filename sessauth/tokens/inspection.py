"""What a whole token says, unverified: for people who hold one."""

from __future__ import annotations

from dataclasses import dataclass

from .._fast.token.chain import Chain
from .inspected_block import BlockInfo


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """The chain of a token as its bytes tell it. No signature was looked at, nothing asked of a state.

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
        return {
            "verified": False,
            "session_id": self.session_id.hex(),
            "token_id": self.token_id.hex(),
            "issuer_key_id": self.issuer_key_id.hex(),
            "min_revision": self.min_revision,
            "expires_at_ms": self.expires_at_ms,
            "not_before_ms": self.not_before_ms,
            "max_blocks": self.max_blocks,
            "size_bytes": self.size_bytes,
            "blocks": [block.to_dict() for block in self.blocks],
        }


def read_blocks(chain: Chain) -> tuple[BlockInfo, ...]:
    """Return what each block of a well-formed chain says."""
    pairs = zip(chain.block_ids, chain.payloads, strict=True)
    return tuple(BlockInfo.read(index, block_id, payload) for index, (block_id, payload) in enumerate(pairs))


def inspect_chain(chain: Chain) -> TokenInfo:
    """Return what a well-formed chain says."""
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

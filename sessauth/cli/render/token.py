"""A token as a tree: each block hangs from the one it narrows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ...tokens.inspection import BlockInfo, TokenInfo
from ..output import fields, moment_and_distance, printable


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """Result of verifying a token's signatures, and its source.

    ``checked`` is false if nothing was verified. ``revoked`` holds the indices of revoked blocks, and
    ``session_status`` the session's, if the source knows them.
    """

    checked: bool = False
    verified: bool = False
    by: str = ""
    detail: str = ""
    revoked: Collection[int] = ()
    session_status: str = ""

    @property
    def word(self) -> str:
        """VERIFIED, NOT VERIFIED (a signature is wrong) or UNVERIFIED (not checked)."""
        if not self.checked:
            return "UNVERIFIED"
        return "VERIFIED" if self.verified else "NOT VERIFIED"

    def line(self) -> str:
        """Return the first line of an inspection."""
        if not self.checked:
            return "UNVERIFIED: anybody may have written this; add --server, --issuer-key or --state"
        if not self.verified:
            return f"NOT VERIFIED by {self.by}: {printable(self.detail)}"
        detail = printable(self.detail) or "the signatures stand"
        return f"VERIFIED by {self.by}: {detail}; whether a call is allowed, only a check says"


def to_json(info: TokenInfo, status: SignatureStatus) -> dict[str, object]:
    """Return an inspection as JSON values."""
    return {
        **info.to_dict(),
        "verdict": status.word,
        "verified": status.verified,
        "verified_by": status.by,
        "detail": status.detail,
        "revoked_blocks": sorted(status.revoked),
        "session_status": status.session_status,
    }


def to_lines(info: TokenInfo, status: SignatureStatus, now_ms: int) -> list[str]:
    """Return an inspection as lines."""
    lines = [status.line()]
    lines += fields(
        [
            (
                "session",
                info.session_id.hex() + (f" ({status.session_status})" * bool(status.session_status)),
            ),
            ("token", info.token_id.hex()),
            ("issuer key", info.issuer_key_id.hex()),
            ("not before", moment_and_distance(info.not_before_ms, now_ms)),
            ("expires", moment_and_distance(info.expires_at_ms, now_ms)),
            ("size", f"{info.size_bytes} bytes"),
        ]
    )
    for block in info.blocks:
        lines += _block_lines(block, block is info.blocks[-1], block.index in status.revoked, now_ms)
    return lines


def _block_lines(block: BlockInfo, last: bool, revoked: bool, now_ms: int) -> list[str]:
    name = "root block" if block.index == 0 else f"block {block.index}"
    if block.label:
        name += f" {printable(block.label)!r}"
    branch = "" if block.index == 0 else "   " * (block.index - 1) + "└─ "
    stem = "   " * block.index + ("   " if last else "│  ")
    head = f"{branch}{name}, {block.ending.name.lower()}, {block.block_id.hex()}"
    return [head + (" REVOKED" if revoked else ""), *(stem + line for line in fields(_facts(block, now_ms)))]


def _facts(block: BlockInfo, now_ms: int) -> list[tuple[str, object]]:
    limits: list[tuple[str, object]] = [
        ("issued", moment_and_distance(block.issued_at_ms, now_ms)),
        ("not before", moment_and_distance(block.not_before_ms, now_ms)),
        ("expires", moment_and_distance(block.expires_at_ms, now_ms)),
        ("audience", ", ".join(block.audience)),
    ]
    limits += [(f"scope {number}", scope) for number, scope in enumerate(block.scopes)]
    limits += [(f"where {number}", condition) for number, condition in enumerate(block.where)]
    limits += [
        ("source", ", ".join(block.source)),
        ("peer", ", ".join(block.peer)),
        ("max blocks", block.max_blocks or ""),
    ]
    if not any(value for _, value in limits):
        limits.append(("limits", "none of its own"))
    return limits

"""The tokens that workloads present, and the call that most of them are presented for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sessauth.crypto.keys import HolderPublicKey
from sessauth.tokens.token import Issuer, Token

AUDIENCE: Final = "gateway-1"
HOUR_MS: Final = 3_600_000
TTL_MS: Final = 4 * HOUR_MS
RESOURCE: Final = "mcp/github/list_pull_requests"
ARGUMENTS: Final = b'{"owner":"acme","repo":"web","state":"open","page":3,"per_page":50}'
FOUR_CONDITIONS: Final = 'owner == "acme" and repo == "web" and state in ["open", "closed"] and page <= 10'
FITS: Final = f"read:{RESOURCE} where {FOUR_CONDITIONS} free *"


def other_scopes(count: int, conditions: str = "") -> list[str]:
    """Return scopes of which none fits the call."""
    where = f" where {conditions} free *" if conditions else ""
    return [f"read:mcp/jira/project_{number}/*{where}" for number in range(count)]


def scopes(count: int) -> list[str]:
    """Return that many scopes; the last one fits and has four conditions."""
    return [*other_scopes(count - 1), FITS]


def eight_scopes() -> list[str]:
    """Return the scopes of the row that the budget of a warm check is stated for."""
    return scopes(8)


def mint(
    issuer: Issuer,
    session_id: bytes,
    texts: Sequence[str],
    ending: str = "",
    ttl_ms: int = TTL_MS,
    to: HolderPublicKey | None = None,
) -> Token:
    """Return a root of a session with these scopes, sealed or ``open``, or bound to a holder."""
    return issuer.mint(session_id, texts, [AUDIENCE], ttl_ms=ttl_ms, ending=ending, to=to, label="agent-7")


def chain(issuer: Issuer, session_id: bytes, blocks: int) -> Token:
    """Return a sealed chain: an open root, narrowed by each block behind it, or a sealed root alone."""
    if blocks == 1:
        return mint(issuer, session_id, eight_scopes())
    token = mint(issuer, session_id, eight_scopes(), "open")
    for number in range(1, blocks):
        last = number == blocks - 1
        token = token.attenuate(
            scopes=[FITS] if last else [],
            where=[] if last else [f"per_page <= {100 - number}"],
            ending="sealed" if last else "open",
        )
    return token

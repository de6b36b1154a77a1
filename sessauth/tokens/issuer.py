"""The issuer: signs the root block of each token."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Unpack

from .. import limits
from ..clock import Clock, SystemClock
from ..crypto.keys import IssuerKey
from ..errors import UsageError
from ..scopes.scope import Scope
from .attenuation import warnings_of
from .block_draft import BlockTerms, Draft, check_holder
from .inspection import Ending
from .token import Token


class Issuer:
    """Mints tokens with one key. It reads no state: its caller decides which sessions may have a token."""

    __slots__ = ("_clock", "_key")

    def __init__(self, key: IssuerKey, clock: Clock | None = None) -> None:
        """Sign with ``key``; ``clock`` gives the issue time."""
        self._key = key
        self._clock = clock or SystemClock()

    @property
    def key_id(self) -> bytes:
        """The id that its tokens name its key by, 32 bytes."""
        return self._key.key_id

    def mint(
        self,
        session_id: bytes,
        scopes: Sequence[Scope | str],
        audience: Sequence[str],
        *,
        expires_at_ms: int = 0,
        min_revision: int = 0,
        **terms: Unpack[BlockTerms],
    ) -> Token:
        """Return a new token of a session.

        Args:
            session_id: 16 bytes, as the server gave it.
            scopes: the calls it permits; a call must match one of them.
            audience: the verifiers that may accept it. May be empty where ``to`` is given.
            expires_at_ms: when it ends, in ms since 1970; this or ``ttl_ms`` is required.
            min_revision: a view older than this answers ``STALE_STATE``.
            terms: the other terms of its block.

        Raises:
            ScopeError: if a scope or condition can't be read.
            UsageError: if a parameter is missing, beyond a limit or contradicts another.
        """
        if not isinstance(session_id, bytes) or len(session_id) != 16:
            raise UsageError("session_id is 16 bytes")
        if not scopes:
            raise UsageError("scopes is empty, so the token would permit nothing: give at least one")
        if not audience and terms.get("to") is None:
            raise UsageError("audience is empty: name the verifiers that may accept the token")
        if not 0 <= min_revision < 2**64:
            raise UsageError("min_revision is a revision: 0 to 2^64 - 1")
        draft = Draft.of(
            clock=self._clock, scopes=scopes, audience=audience, expires_at_ms=expires_at_ms, **terms
        )
        issued_at_ms = self._clock.now_ms()
        _check_times(draft, issued_at_ms)
        if draft.to is not None:
            check_holder(draft.to, (), self._key.key_id)
        if draft.max_blocks == 1 and draft.ending is Ending.OPEN:
            raise UsageError("max_blocks 1 leaves no block to present an open token: use 2 or more")
        signed = draft.sign(
            self._key.sign,
            root={
                "issuer_key_id": self._key.key_id,
                "session_id": session_id,
                "token_id": secrets.token_bytes(16),
                "min_revision": min_revision,
            },
            issued_at_ms=issued_at_ms,
        )
        return Token(signed, warnings_of(signed.chain, draft.scopes))


def _check_times(draft: Draft, issued_at_ms: int) -> None:
    if not draft.expires_at_ms:
        raise UsageError("a token ends: give ttl_ms or expires_at_ms")
    if draft.expires_at_ms <= max(issued_at_ms, draft.not_before_ms):
        raise UsageError("the token would never be valid: expires_at_ms is not after its beginning and now")
    if issued_at_ms > limits.MAX_TIME_MS:
        raise UsageError("the clock is beyond the range of the format")

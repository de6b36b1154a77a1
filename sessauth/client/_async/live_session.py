"""A session that lives as long as an ``async with`` block."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Unpack

from ...errors import SessauthError
from ...model.session import Session
from ...scopes.scope import Scope
from ...scopes.value import Plain
from ...tokens.token import Token
from .._live_state import LiveState, end_reason
from .._requests.tokens import MintTerms
from .._tasks.lease import AsyncLeaseRenewal
from .sessions import AsyncSessionCalls


class AsyncLiveSession(LiveState):
    """A session held by an ``async with`` block. Made by :meth:`AsyncClient.session`."""

    def __init__(self, client: AsyncSessionCalls, session: Session) -> None:
        """Start to renew the lease, if there is one."""
        super().__init__(session)
        self._client = client
        self._renewal = AsyncLeaseRenewal(client, self) if session.lease_ms else None

    async def mint(
        self, scopes: Sequence[Scope | str], audience: Sequence[str], **terms: Unpack[MintTerms]
    ) -> Token:
        """Mint a token of this session, as :meth:`AsyncClient.mint` does."""
        self.raise_if_lost()
        return await self._client.mint(self.id, scopes, audience, **terms)

    async def narrow(self, ceiling: Sequence[Scope | str]) -> Session:
        """Add a layer of ceiling, which every call of the session must match."""
        self.raise_if_lost()
        self._session = await self._client.narrow(self.id, ceiling)
        return self._session

    async def update_facts(
        self,
        facts: Mapping[str, Plain] | None = None,
        *,
        visible_facts: Collection[str] = (),
        remove: Collection[str] = (),
    ) -> Session:
        """Set and remove facts; the next check uses them."""
        self.raise_if_lost()
        self._session = await self._client.update_facts(
            self.id, facts, visible_facts=visible_facts, remove=remove
        )
        return self._session

    async def suspend(self, reason: str = "") -> Session:
        """Deny every call of the session until it is resumed."""
        self.raise_if_lost()
        self._session = await self._client.suspend(self.id, reason)
        return self._session

    async def resume(self, reason: str = "") -> Session:
        """Resume the session."""
        self.raise_if_lost()
        self._session = await self._client.resume(self.id, reason)
        return self._session

    async def revoke(self, block_ids: Sequence[bytes], reason: str = "") -> int:
        """Revoke blocks of this session's tokens. Returns the revision from which none is allowed."""
        return await self._client.revoke(self.id, block_ids, reason)

    async def end(self, reason: str = "") -> None:
        """End the session. Ending one that is over already is no error."""
        if self._renewal is not None:
            self._renewal.stop()
        if self._ended:
            return
        try:
            self._session = await self._client.end(self.id, reason)
        except SessauthError as error:
            self._raise_unless_over(error)
        self._ended = True

    async def _leave(self, cause: BaseException) -> None:
        try:
            # Usually this very task was cancelled, and the end must still be sent.  # async only
            await asyncio.shield(self.end(end_reason(cause)))
        except SessauthError as error:
            cause.add_note(self._not_ended_note(error))

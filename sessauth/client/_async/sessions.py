"""Calls about sessions and their tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Unpack

from ...model.session import Session
from ...scopes.scope import Scope
from ...scopes.value import Plain
from ...tokens.token import Token
from .._requests import evidence as evidence_calls
from .._requests import sessions as session_calls
from .._requests import tokens as token_calls
from .._requests.sessions import OpenTerms, SessionFilters
from .._requests.tokens import MintTerms
from .._results import EndedSession, Inspection, SessionPage
from .calls import AsyncCalls


class AsyncSessionCalls(AsyncCalls):
    """Calls of SessionService and TokenService."""

    async def open_session(self, *, request_id: str = "", **terms: Unpack[OpenTerms]) -> Session:
        """Open a session; the terms are those of ``OpenTerms``."""
        return await self._run(session_calls.open_session(request_id, terms))

    async def get_session(self, session_id: bytes) -> Session:
        """Return a session, ended ones included until they are purged."""
        return await self._run(session_calls.get_session(session_id))

    async def list_sessions(
        self, *, page_size: int = 0, page_token: str = "", **filters: Unpack[SessionFilters]
    ) -> SessionPage:
        """Return one page of the sessions that match all ``SessionFilters``, by id.

        A page may have fewer sessions than ``page_size`` (1 to 1000; 0: 100), or none, with others after it:
        ``next_page_token`` is empty on the last one.
        """
        return await self._run(session_calls.list_sessions(page_size, page_token, filters))

    async def keep_alive(self, session_id: bytes) -> int:
        """Renew a lease. Returns its durable deadline, in ms since 1970; a lapsed one stays lapsed."""
        return await self._run(session_calls.keep_alive(session_id))

    async def narrow(
        self,
        session_id: bytes,
        ceiling: Sequence[Scope | str] = (),
        *,
        enforce: bool = False,
        expected_epoch: int = 0,
        request_id: str = "",
    ) -> Session:
        """Add a layer of ceiling, which every call of the session must match, outstanding tokens included.

        ``enforce`` ends observe mode: the whole ceiling is enforced from then on. Then no scopes are needed.
        """
        request = session_calls.narrow(session_id, ceiling, expected_epoch, request_id, enforce)
        return await self._run(request)

    async def update_facts(
        self,
        session_id: bytes,
        facts: Mapping[str, Plain] | None = None,
        *,
        visible_facts: Collection[str] = (),
        remove: Collection[str] = (),
        expected_epoch: int = 0,
        request_id: str = "",
    ) -> Session:
        """Set and remove facts; the next check uses them."""
        return await self._run(
            session_calls.update_facts(
                session_id, facts or {}, visible_facts, remove, expected_epoch, request_id
            )
        )

    async def suspend(
        self, session_id: bytes, reason: str = "", *, expected_epoch: int = 0, request_id: str = ""
    ) -> Session:
        """Deny every call of the session until it is resumed."""
        return await self._run(session_calls.suspend(session_id, reason, expected_epoch, request_id))

    async def resume(
        self, session_id: bytes, reason: str = "", *, expected_epoch: int = 0, request_id: str = ""
    ) -> Session:
        """Resume a suspended session."""
        return await self._run(session_calls.resume(session_id, reason, expected_epoch, request_id))

    async def end(self, session_id: bytes, reason: str = "", *, request_id: str = "") -> EndedSession:
        """End a session for good, with every token and every child of it.

        Its ``receipt`` lists the verifiers that can't allow a token of it any more; ``receipt.verify`` checks
        it against the service's keys. It is None where the server could not make one: the session has ended
        all the same.
        """
        return await self._run(evidence_calls.end(session_id, reason, request_id))

    async def mint(
        self,
        session_id: bytes,
        scopes: Sequence[Scope | str],
        audience: Sequence[str],
        **terms: Unpack[MintTerms],
    ) -> Token:
        """Have the server sign a root block; the terms are those of ``MintTerms``."""
        return await self._run(token_calls.mint(session_id, scopes, audience, terms))

    async def attenuate(
        self,
        token: Token,
        scopes: Sequence[Scope | str] = (),
        *,
        audience: Sequence[str] = (),
        **terms: Unpack[MintTerms],
    ) -> Token:
        """Have the server attenuate an open token, and see its secret; ``Token.attenuate`` needs none."""
        return await self._run(token_calls.attenuate(token, scopes, audience, terms))

    async def inspect(self, token: Token | str) -> Inspection:
        """Return whether the token's signatures are valid and its blocks revoked. Its secret stays here."""
        return await self._run(token_calls.inspect(token))

    async def revoke(
        self, session_id: bytes, block_ids: Sequence[bytes], reason: str = "", *, request_id: str = ""
    ) -> int:
        """Revoke blocks with all below them. Returns the revision from which none is allowed."""
        return await self._run(token_calls.revoke(session_id, block_ids, reason, request_id))

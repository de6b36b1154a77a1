"""A session that lives as long as a ``with`` block, for both clients.

The lease is renewed at a third of its length. A renewal that fails for want of an answer is tried
again until the lease must have lapsed, by this machine's monotonic clock; one that the server
refuses is final. From then on the session is lost, and each further use of it raises.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Protocol, Self, Unpack

from ..errors import NotFound, Rejected, SessauthError, StateError, Unavailable
from ..model.receipt import SignedReceipt
from ..model.session import Session
from ..scopes.scope import Scope
from ..scopes.value import Number, Plain
from ..tokens.token import Token
from ._requests.tokens import MintTerms
from ._results import EndedSession

# Between renewals that failed for want of an answer: soon, but not in a tight loop.
RETRY_S: Final = 0.25
# An end that is refused with one of these finds the session over, which is what it wanted.
_OVER: Final = frozenset({"ALREADY_ENDED", "NOT_FOUND"})


class SessionCalls(Protocol):
    """The calls that a live session makes of its client."""

    def with_timeout(self, timeout_ms: int) -> Self: ...
    def keep_alive(self, *args: Any, **options: Any) -> object: ...
    def mint(self, *args: Any, **options: Any) -> Token: ...
    def narrow(self, *args: Any, **options: Any) -> Session: ...
    def update_facts(self, *args: Any, **options: Any) -> Session: ...
    def suspend(self, *args: Any, **options: Any) -> Session: ...
    def resume(self, *args: Any, **options: Any) -> Session: ...
    def revoke(self, *args: Any, **options: Any) -> int: ...
    def end(self, *args: Any, **options: Any) -> Session: ...


class AsyncSessionCalls(Protocol):
    """The calls that a live session makes of its asynchronous client."""

    def with_timeout(self, timeout_ms: int) -> Self: ...
    async def keep_alive(self, *args: Any, **options: Any) -> object: ...
    async def mint(self, *args: Any, **options: Any) -> Token: ...
    async def narrow(self, *args: Any, **options: Any) -> Session: ...
    async def update_facts(self, *args: Any, **options: Any) -> Session: ...
    async def suspend(self, *args: Any, **options: Any) -> Session: ...
    async def resume(self, *args: Any, **options: Any) -> Session: ...
    async def revoke(self, *args: Any, **options: Any) -> int: ...
    async def end(self, *args: Any, **options: Any) -> Session: ...


class LiveState:
    """The latest known state of a live session, and whether it is lost."""

    def __init__(self, session: Session) -> None:
        """Keep what the open returned."""
        self._session = session
        self._lost: SessauthError | None = None
        self._ended = False
        self._lapses_at_s = time.monotonic() + session.lease_ms / 1000

    @property
    def id(self) -> bytes:
        """The session's id, 16 bytes."""
        return self._session.id

    @property
    def session(self) -> Session:
        """The session as the last answer described it."""
        return self._session

    @property
    def receipt(self) -> SignedReceipt | None:
        """The receipt of its end, once it was ended here; None where the server could not make one."""
        return self._session.receipt if isinstance(self._session, EndedSession) else None

    @property
    def facts(self) -> Mapping[str, str | bool | int | Decimal]:
        """The facts as the last answer described them, read-only; ``update_facts`` changes them."""
        return MappingProxyType({fact.name: _python(fact.value) for fact in self._session.facts})

    @property
    def lost(self) -> bool:
        """Whether the lease lapsed, or the session ended elsewhere, while the block ran."""
        return self._lost is not None

    def raise_if_lost(self) -> None:
        """Raise Rejected if the session is lost; its cause says how that was learned."""
        if self._lost is not None:
            word = self._lost.word if isinstance(self._lost, Rejected) else "LEASE_LAPSED"
            raise Rejected(word, f"session {self.id.hex()} is lost; open another one") from self._lost

    def _interval_s(self) -> float:
        return self._session.lease_ms / 3000

    def _keep_alive_timeout_ms(self) -> int:
        return max(1, self._session.lease_ms // 3)

    def _renewed(self, sent_at_s: float) -> float:
        self._lapses_at_s = sent_at_s + self._session.lease_ms / 1000
        return self._interval_s()

    def _renewal_failed(self, error: SessauthError) -> float | None:
        """Return when to try again, in seconds from now, or None if the session is lost."""
        if isinstance(error, Unavailable | StateError) and time.monotonic() < self._lapses_at_s:
            return min(RETRY_S, self._interval_s())
        self._lost = error
        return None

    def _end_failed(self, error: SessauthError) -> None:
        """Raise ``error``, which an end raised, unless it says that the session is over already."""
        if isinstance(error, NotFound) or (isinstance(error, Rejected) and error.word in _OVER):
            return
        raise error

    def _not_ended_note(self, error: SessauthError) -> str:
        until = "its lease lapses" if self._session.lease_ms else "its hard end"
        return f"sessauth: session {self.id.hex()} could not be ended and lives until {until}: {error}"


def _python(value: Plain) -> str | bool | int | Decimal:
    """Return a number as an int if it is whole, else as a Decimal; everything else as it is."""
    if isinstance(value, Number):
        return value.to_decimal() if value.nanos else value.units
    return value


def end_reason(cause: BaseException) -> str:
    """Return the reason to end a session with, when its block was left because of ``cause``."""
    return f"left by {type(cause).__name__}"


class LiveSession(LiveState):
    """A session held by a ``with`` block. Made by :meth:`Client.session`."""

    def __init__(self, client: SessionCalls, session: Session) -> None:
        """Start to renew the lease, if there is one."""
        super().__init__(session)
        self._client = client
        self._stop = threading.Event()
        if session.lease_ms:
            name = f"sessauth-lease-{session.id.hex()[:8]}"
            threading.Thread(target=self._keep, name=name, daemon=True).start()

    def _keep(self) -> None:
        client = self._client.with_timeout(self._keep_alive_timeout_ms())
        delay: float | None = self._interval_s()
        while delay is not None and not self._stop.wait(delay):
            sent_at_s = time.monotonic()
            try:
                client.keep_alive(self.id)
                delay = self._renewed(sent_at_s)
            except SessauthError as error:
                delay = self._renewal_failed(error)

    def mint(
        self, scopes: Sequence[Scope | str], audience: Sequence[str], **terms: Unpack[MintTerms]
    ) -> Token:
        """Mint a token of this session, as :meth:`Client.mint` does."""
        self.raise_if_lost()
        return self._client.mint(self.id, scopes, audience, **terms)

    def narrow(self, ceiling: Sequence[Scope | str]) -> Session:
        """Hold every call of the session to ``ceiling`` too."""
        self.raise_if_lost()
        self._session = self._client.narrow(self.id, ceiling)
        return self._session

    def update_facts(
        self,
        facts: Mapping[str, Plain] | None = None,
        *,
        visible_facts: Collection[str] = (),
        remove: Collection[str] = (),
    ) -> Session:
        """Set and remove facts; the next check is judged by them."""
        self.raise_if_lost()
        self._session = self._client.update_facts(self.id, facts, visible_facts=visible_facts, remove=remove)
        return self._session

    def suspend(self, reason: str = "") -> Session:
        """Deny every call of the session until it is resumed."""
        self.raise_if_lost()
        self._session = self._client.suspend(self.id, reason)
        return self._session

    def resume(self, reason: str = "") -> Session:
        """Let the session go on."""
        self.raise_if_lost()
        self._session = self._client.resume(self.id, reason)
        return self._session

    def revoke(self, block_ids: Sequence[bytes], reason: str = "") -> int:
        """Revoke blocks of this session's tokens. Returns the revision from which none is allowed."""
        return self._client.revoke(self.id, block_ids, reason)

    def end(self, reason: str = "") -> None:
        """End the session. Ending one that is over already is no error."""
        self._stop.set()
        if self._ended:
            return
        try:
            self._session = self._client.end(self.id, reason)
        except SessauthError as error:
            self._end_failed(error)
        self._ended = True

    def _leave(self, cause: BaseException) -> None:
        try:
            self.end(end_reason(cause))
        except SessauthError as error:
            cause.add_note(self._not_ended_note(error))


class AsyncLiveSession(LiveState):
    """A session held by an ``async with`` block. Made by :meth:`AsyncClient.session`."""

    def __init__(self, client: AsyncSessionCalls, session: Session) -> None:
        """Start to renew the lease, if there is one."""
        super().__init__(session)
        self._client = client
        self._keeper = asyncio.create_task(self._keep()) if session.lease_ms else None

    async def _keep(self) -> None:
        client = self._client.with_timeout(self._keep_alive_timeout_ms())
        delay: float | None = self._interval_s()
        while delay is not None:
            await asyncio.sleep(delay)
            sent_at_s = time.monotonic()
            try:
                await client.keep_alive(self.id)
                delay = self._renewed(sent_at_s)
            except SessauthError as error:
                delay = self._renewal_failed(error)

    async def mint(
        self, scopes: Sequence[Scope | str], audience: Sequence[str], **terms: Unpack[MintTerms]
    ) -> Token:
        """Mint a token of this session, as :meth:`AsyncClient.mint` does."""
        self.raise_if_lost()
        return await self._client.mint(self.id, scopes, audience, **terms)

    async def narrow(self, ceiling: Sequence[Scope | str]) -> Session:
        """Hold every call of the session to ``ceiling`` too."""
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
        """Set and remove facts; the next check is judged by them."""
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
        """Let the session go on."""
        self.raise_if_lost()
        self._session = await self._client.resume(self.id, reason)
        return self._session

    async def revoke(self, block_ids: Sequence[bytes], reason: str = "") -> int:
        """Revoke blocks of this session's tokens. Returns the revision from which none is allowed."""
        return await self._client.revoke(self.id, block_ids, reason)

    async def end(self, reason: str = "") -> None:
        """End the session. Ending one that is over already is no error."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._ended:
            return
        try:
            self._session = await self._client.end(self.id, reason)
        except SessauthError as error:
            self._end_failed(error)
        self._ended = True

    async def _leave(self, cause: BaseException) -> None:
        # Shielded, since the usual cause is that this very task was cancelled: the end must still go out.
        try:
            await asyncio.shield(self.end(end_reason(cause)))
        except SessauthError as error:
            cause.add_note(self._not_ended_note(error))

"""Proofs of a holder's calls, for the latest keys of the host that checks them.

    prover = Prover(HolderKey.load("agent.key"), VerifierKeys.load("verifier-keys.json", issuer_keys))
    proof = prover.prove_tool(token, catalogue, "get_issue", {"number": 7})

The holder needs no credential of the server: the host's keys can be handed over with the token. Loads neither
grpc nor protobuf.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

from ..clock import Clock, SystemClock
from ..crypto.keys import VerifierKey, VerifierKeys
from ..errors import Unavailable
from ..reasons import Reason
from ..scopes.value import Arguments
from .holder import HolderKey
from .token import Token

KeySource: TypeAlias = VerifierKeys | Callable[[], VerifierKeys]
AsyncKeySource: TypeAlias = VerifierKeys | Callable[[], Awaitable[VerifierKeys] | VerifierKeys]

# After these, other keys or another time may help: the host made new keys, or these waited too long.
_FETCH_AGAIN: Final = frozenset({Reason.BAD_PROOF, Reason.STALE_PROOF})

_ENDED: Final = "the server's verifier keys end too soon to prove anything for them"

_log: Final = logging.getLogger(__name__)


class ToolTable(Protocol):
    """A catalogue of tools: :class:`~sessauth.decisions.tool_catalog.ToolCatalog`."""

    def ask(self, tool: str, method: str = ...) -> tuple[str, str, bytes]:
        """Return action, resource and facts of a call."""
        ...


class HostKeys:
    """The keys of a host that proofs are made for, and when they are due to be fetched again.

    That is at half of the time that the newest key has left. Safe between threads.
    """

    __slots__ = ("_clock", "_due_at_ms", "_keys")

    def __init__(self, clock: Clock | None = None) -> None:
        """Know none yet."""
        self._clock = clock or SystemClock()
        self._keys: VerifierKeys | None = None
        self._due_at_ms = 0

    def use(self, keys: VerifierKeys) -> None:
        """Prove for the newest of ``keys`` from now on."""
        now_ms = self._clock.now_ms()
        key = keys.current(now_ms)
        # A key that is current has more than a proof's time left, so half of it is no tight loop.
        left_ms = key.expires_at_ms - now_ms if key is not None else 0
        self._keys, self._due_at_ms = keys, now_ms + left_ms // 2

    def forget(self) -> None:
        """Know none any more."""
        self._keys = None

    def postpone(self) -> None:
        """Keep the keys after a failure to fetch others."""
        if self._keys is not None:
            self.use(self._keys)

    def drop_rejected(self, reason: Reason) -> bool:
        """Forget the keys and return True if ``reason`` is one that other keys may help against."""
        if reason not in _FETCH_AGAIN:
            return False
        self.forget()
        return True

    def current(self) -> VerifierKey | None:
        """Return the newest key if it counts for a while yet."""
        keys = self._keys
        return keys.current(self._clock.now_ms()) if keys is not None else None

    def fresh(self) -> VerifierKey | None:
        """Return :meth:`current` unless the keys are due to be fetched again."""
        return self.current() if self._clock.now_ms() < self._due_at_ms else None

    def require(self) -> VerifierKey:
        """Return :meth:`current`. Raises Unavailable if there is none."""
        key = self.current()
        if key is None:
            raise Unavailable(_ENDED)
        return key


class _ProverBase:
    """A holder, the keys of a host, and the proofs that the one makes for the other."""

    def __init__(self, holder: HolderKey, keys: object, clock: Clock | None) -> None:
        self.holder = holder
        self._clock = clock or SystemClock()
        self._host = HostKeys(self._clock)
        self._fixed = isinstance(keys, VerifierKeys)
        if isinstance(keys, VerifierKeys):
            self._host.use(keys)
        elif not callable(keys):
            raise TypeError(f"keys: VerifierKeys or a function that returns them, not {type(keys).__name__}")

    def drop_rejected_keys(self, reason: Reason) -> bool:
        """Fetch the keys again before the next proof, if a call with a proof was denied for ``reason``.

        Returns True if another proof may be accepted: the call is worth one more attempt. Keys that were
        handed over stay.
        """
        return not self._fixed and self._host.drop_rejected(reason)

    def _known(self) -> VerifierKey | None:
        """Return the key to prove for unless keys are to be fetched. Raises Unavailable for ended ones."""
        return self._host.require() if self._fixed else self._host.fresh()

    def _use(self, keys: object) -> VerifierKey:
        if not isinstance(keys, VerifierKeys):
            raise TypeError(f"the source of verifier keys returned {type(keys).__name__}, not VerifierKeys")
        if keys.current(self._clock.now_ms()) is None:
            raise Unavailable(_ENDED)
        self._host.use(keys)
        return self._host.require()

    def _still(self, error: Exception) -> VerifierKey:
        """Return the key that still counts after a failed fetch. Raises ``error`` if there is none."""
        key = self._host.current()
        if key is None:
            raise error
        self._host.postpone()
        _log.warning("the verifier keys could not be fetched again: %s", type(error).__name__)
        return key

    def _bound(self, token: Token | str | bytes) -> Token | None:
        """Return the token if it needs a proof."""
        parsed = token if isinstance(token, Token) else Token.parse(token)
        return parsed if parsed.binding is not None else None

    def _proof(
        self,
        token: Token,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments,
        key: VerifierKey,
        kind: str,
    ) -> bytes:
        return self.holder.prove(token, action, resource, arguments, key, kind=kind, clock=self._clock)


class Prover(_ProverBase):
    """Makes the proofs of a holder's calls. Safe between threads."""

    def __init__(self, holder: HolderKey, keys: KeySource, *, clock: Clock | None = None) -> None:
        """Prove with ``holder``.

        Args:
            holder: the key that tokens are bound to.
            keys: the keys of the checking host: as they were handed over, or a function that returns
                them, such as ``Client.verifier_keys``. It is called before the first proof, at half of the
                newest key's life, and after :meth:`drop_rejected_keys`.
            clock: the source of the time; default: the machine's.
        """
        super().__init__(holder, keys, clock)
        self._source = keys
        self._fetching = threading.Lock()

    def prove(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        kind: str = "",
    ) -> bytes:
        """Return a proof of one call, encoded; empty for a token that is not bound, which needs none.

        It counts once and for 30 s, so make one for each message. Parameters and errors are those of
        :meth:`HolderKey.prove`.

        Raises:
            Unavailable: if no known key is valid for a while yet.
            Exception: the error of the source of keys, if no key is known.
        """
        bound = self._bound(token)
        if bound is None:
            return b""
        return self._proof(bound, action, resource, arguments, self._key(), kind)

    def prove_tool(
        self,
        token: Token | str | bytes,
        catalogue: ToolTable,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = "tools/call",
        kind: str = "",
    ) -> bytes:
        """Return a proof of a call of an MCP tool, as the gateway checks it by the same catalogue.

        Raises:
            UnknownTool: if the tool is not in the catalogue.
            Exception: as :meth:`prove`.
        """
        action, resource, _ = catalogue.ask(tool, method)
        return self.prove(token, action, resource, arguments, kind=kind)

    def _key(self) -> VerifierKey:
        key = self._known()
        if key is not None:
            return key
        # One thread fetches; others go on while an older key counts.
        if not self._fetching.acquire(blocking=self._host.current() is None):
            return self._host.require()
        try:
            return self._host.fresh() or self._use(self._source())  # type: ignore[operator] # not fixed
        except Exception as error:  # noqa: BLE001 - raised unless an older key still counts
            return self._still(error)
        finally:
            self._fetching.release()


class AsyncProver(_ProverBase):
    """Makes the proofs of a holder's calls on one event loop."""

    def __init__(self, holder: HolderKey, keys: AsyncKeySource, *, clock: Clock | None = None) -> None:
        """Prove with ``holder``; parameters as of :class:`Prover`.

        ``keys`` may also be a function that is awaited, such as ``AsyncClient.verifier_keys``.
        """
        super().__init__(holder, keys, clock)
        self._source = keys
        self._fetching = asyncio.Lock()

    async def prove(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        kind: str = "",
    ) -> bytes:
        """Return a proof of one call, as :meth:`Prover.prove`."""
        bound = self._bound(token)
        if bound is None:
            return b""
        return self._proof(bound, action, resource, arguments, await self._key(), kind)

    async def prove_tool(
        self,
        token: Token | str | bytes,
        catalogue: ToolTable,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = "tools/call",
        kind: str = "",
    ) -> bytes:
        """Return a proof of a call of an MCP tool, as :meth:`Prover.prove_tool`."""
        action, resource, _ = catalogue.ask(tool, method)
        return await self.prove(token, action, resource, arguments, kind=kind)

    async def _key(self) -> VerifierKey:
        key = self._known()
        if key is not None:
            return key
        # One task fetches; others go on while an older key counts.
        if self._fetching.locked() and (older := self._host.current()) is not None:
            return older
        async with self._fetching:
            try:
                if (key := self._host.fresh()) is not None:
                    return key
                keys = self._source()  # type: ignore[operator] # not fixed
                return self._use(await keys if inspect.isawaitable(keys) else keys)
            except Exception as error:  # noqa: BLE001 - raised unless an older key still counts
                return self._still(error)

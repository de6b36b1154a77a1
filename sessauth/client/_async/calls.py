"""Base of the groups of calls that make up a client."""

from __future__ import annotations

from typing import Self, TypeVar

from .._proofs import ProofMaker
from .._transport import RpcRequest, check_timeout
from .transport import AsyncTransport

T = TypeVar("T")


class AsyncCalls:
    """Runs described calls over the client's connections, within its deadline."""

    _timeout_ms: int
    _transport: AsyncTransport
    _prover: ProofMaker

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def with_timeout(self, timeout_ms: int) -> Self:
        """Return a client on the same connections with another deadline, in ms."""
        other = object.__new__(type(self))
        other._timeout_ms = check_timeout(timeout_ms)
        other._transport = self._transport
        other._prover = self._prover
        return other

    async def _run(self, call: RpcRequest[T]) -> T:
        return await self._transport.run(call, self._timeout_ms)

"""The token, and a proof, on each call of a gRPC client.

    calls = OutgoingCalls(token)
    channel = grpc.intercept_channel(channel, GuardClientInterceptor(calls))
    channel = grpc.aio.secure_channel(target, credentials, interceptors=aio_interceptors(calls))

Bound tokens need ``prover`` and the service's table of methods, for the proof covers the call as the
service checks it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
from grpc import aio

from ..crypto.armor import proof_text
from ..tokens.prover import Prover
from ..tokens.token import Token
from .services.methods import MethodTable
from .services.presented import AUTHORIZATION, PROOF


class OutgoingCalls:
    """The metadata that a client adds to its calls."""

    def __init__(
        self, token: Token | str, *, prover: Prover | None = None, methods: MethodTable | None = None
    ) -> None:
        """Present ``token``, and with ``prover`` a proof of each call.

        Args:
            token: a token; an open one is sealed first.
            prover: proves the calls of a bound token.
            methods: the service's table; needed with ``prover``.
        """
        self._token = (token if isinstance(token, Token) else Token.parse(token)).present().text
        self._prover = prover
        self._methods = methods if methods is not None else MethodTable({})

    def metadata(self, name: str | bytes, request: Any, *, streamed: bool) -> list[tuple[str, str]]:
        """Return the metadata of one call of a method's full name.

        Raises UsageError if a proof is needed and the table lacks the method, or has no call for the request.
        """
        metadata = [(AUTHORIZATION, f"Bearer {self._token}")]
        if self._prover is not None:
            text = name.decode() if isinstance(name, bytes) else name
            call = self._methods.call(text, request, streamed=streamed)
            proof = self._prover.prove(self._token, *call)
            if proof:
                metadata.append((PROOF, proof_text(proof)))
        return metadata


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class GuardClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Adds the metadata to the calls of a ``grpc.Channel``."""

    def __init__(self, calls: OutgoingCalls) -> None:
        """Add the metadata of ``calls``."""
        self._calls = calls

    def _details(self, details: Any, request: Any, *, streamed: bool) -> _CallDetails:
        added = self._calls.metadata(details.method, request, streamed=streamed)
        return _CallDetails(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *added),
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Add the metadata."""
        return continuation(self._details(client_call_details, request, streamed=False), request)

    intercept_unary_stream = intercept_unary_unary

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Add the metadata."""
        return continuation(self._details(client_call_details, None, streamed=True), request_iterator)

    intercept_stream_stream = intercept_stream_unary


class _AioInterceptor:
    """Adds the metadata to the calls of one kind; a channel of grpc.aio takes an interceptor for each."""

    def __init__(self, calls: OutgoingCalls) -> None:
        self._calls = calls

    async def _start(self, continuation: Any, details: Any, request: Any, *, streamed: bool) -> Any:
        added = self._calls.metadata(details.method, request, streamed=streamed)
        metadata = aio.Metadata(*(details.metadata or ()), *added)
        return await continuation(details._replace(metadata=metadata), request)


class _AioUnaryUnary(_AioInterceptor, aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._start(continuation, client_call_details, request, streamed=False)


class _AioUnaryStream(_AioInterceptor, aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._start(continuation, client_call_details, request, streamed=False)


class _AioStreamUnary(_AioInterceptor, aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._start(continuation, client_call_details, request_iterator, streamed=True)


class _AioStreamStream(_AioInterceptor, aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._start(continuation, client_call_details, request_iterator, streamed=True)


def aio_interceptors(calls: OutgoingCalls) -> list[Any]:
    """Return the interceptors for a channel of grpc.aio, one for each kind of call."""
    return [_AioUnaryUnary(calls), _AioUnaryStream(calls), _AioStreamUnary(calls), _AioStreamStream(calls)]

"""Interceptors for a gRPC service: each call is checked before its handler runs.

    server = grpc.server(pool, interceptors=[GuardInterceptor(guard)])
    server = grpc.aio.server(interceptors=[AioGuardInterceptor(guard)])

The token is in the metadata ``authorization`` as ``Bearer TOKEN``, a proof in ``x-sessauth-proof``. A method
that is not in the table is refused. A stream of requests is checked once, at its start, without arguments.

A call that is not allowed ends with the status of :class:`~sessauth.decisions.outward.Outward` and an
ErrorInfo that names it and the decision. A handler that raises ToolDenied ends its call in the same way, and
so does the end of the permission while a guard with ``watch`` runs the handler. Streams of responses are not
watched.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import aclosing
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from ..decisions.outward import Outward
from ..errors import SessauthError, UsageError
from .call import BAD_CALL, CallTerms, ToolDenied
from .guard import Guard
from .services.call_table import NamedCall
from .services.methods import MethodTable
from .services.presented import AUTHORIZATION, PROOF, bearer, one_proof

DETAILS_KEY: Final = "grpc-status-details-bin"
DOMAIN: Final = "sessauth"
_MAKERS: Final = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class GuardInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg] # not generic when it runs
    """Checks the calls of a ``grpc.server``."""

    def __init__(self, guard: Guard, *, public: Collection[str] = ()) -> None:
        """Check by ``guard``, whose catalogue is a :class:`MethodTable`.

        Raises UsageError if the guard has another catalogue.

        Args:
            guard: checks each call by the token that the call has.
            public: full names of methods that anyone may call.
        """
        self._starts = _Starts(guard, public)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler, called after the check."""
        found = continuation(handler_call_details)
        handler: grpc.RpcMethodHandler[Any, Any] | None = self._starts.checked(found, handler_call_details)
        return handler


class AioGuardInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]
    """Checks the calls of a ``grpc.aio.server``, those with handlers for threads too."""

    def __init__(self, guard: Guard, *, public: Collection[str] = ()) -> None:
        """Check by ``guard``; see :class:`GuardInterceptor`."""
        self._starts = _Starts(guard, public)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler, called after the check."""
        found = await continuation(handler_call_details)
        handler: grpc.RpcMethodHandler[Any, Any] = self._starts.checked(found, handler_call_details)
        return handler


class _Starts:
    """Wraps handlers, so that their calls are checked first."""

    def __init__(self, guard: Guard, public: Collection[str]) -> None:
        if not isinstance(guard.catalogue, MethodTable):
            raise UsageError("guard: its catalogue is the MethodTable of the service")
        self._guard = guard
        self._methods = guard.catalogue
        self._public = frozenset(public)

    def checked(self, handler: Any, details: grpc.HandlerCallDetails) -> Any:
        """Return ``handler``, called after the check, if it is one and not public.

        Each handler keeps its kind, for threads or for tasks.
        """
        if handler is None or details.method in self._public:
            return handler
        streamed = bool(handler.request_streaming)
        start = _Start(self._guard, self._methods, details, streamed)
        if handler.response_streaming:
            behaviour = handler.stream_stream if streamed else handler.unary_stream
        else:
            behaviour = handler.stream_unary if streamed else handler.unary_unary
        if inspect.isasyncgenfunction(behaviour):
            checked: Any = _generating(behaviour, start)
        elif inspect.iscoroutinefunction(behaviour):
            checked = _awaiting(behaviour, start)
        elif handler.response_streaming:
            checked = _iterating(behaviour, start)
        else:
            checked = _blocking(behaviour, start)
        make = _MAKERS[streamed, bool(handler.response_streaming)]
        return make(checked, handler.request_deserializer, handler.response_serializer)


class _Start:
    """The start of one call, as it is checked."""

    def __init__(
        self, guard: Guard, methods: MethodTable, details: grpc.HandlerCallDetails, streamed: bool
    ) -> None:
        self._guard = guard
        self._methods = methods
        self._name = str(details.method)
        self._streamed = streamed
        self._metadata = [(str(key), value) for key, value in details.invocation_metadata or ()]

    def check(self, request: Any) -> None:
        """Return if the call may be made. Raises ToolDenied, or another error that refuses it."""
        if (question := self._question(request)) is not None:
            name, arguments, terms = question
            self._guard.check(name, arguments, **terms)

    async def acheck(self, request: Any) -> None:
        """Check as :meth:`check` does, without blocking the loop."""
        if (question := self._question(request)) is not None:
            name, arguments, terms = question
            await self._guard.acheck(name, arguments, **terms)

    def run(self, request: Any, do: Callable[[], Any]) -> Any:
        """Check the call and make it, with the permit and the watch of the guard; raises as :meth:`check`."""
        if (question := self._question(request)) is None:
            return do()
        name, arguments, terms = question
        return self._guard.run(name, arguments, do, **terms)

    async def arun(self, request: Any, do: Callable[[], Awaitable[Any]]) -> Any:
        """Do as :meth:`run`, awaited."""
        if (question := self._question(request)) is None:
            return await do()
        name, arguments, terms = question
        return await self._guard.arun(name, arguments, do, **terms)

    def _question(self, request: Any) -> tuple[str, bytes, CallTerms] | None:
        """Return name, arguments and terms of the call; None where a guard that observes can't read it."""
        terms: CallTerms = {"token": bearer(self._values(AUTHORIZATION))}
        if self._methods.find(self._name) is None:
            return self._name, b"", terms
        try:
            terms["proof"] = one_proof(self._values(PROOF))
            call = self._methods.call(self._name, request, streamed=self._streamed)
        except (TypeError, ValueError, RecursionError, SessauthError) as error:
            self._guard.refuse(self._name, BAD_CALL, cause=error)
            return None
        return NamedCall(self._name, call.action, call.resource), call.arguments, terms

    def _values(self, key: str) -> list[str]:
        return [value for name, value in self._metadata if name == key and isinstance(value, str)]


def _blocking(behaviour: Any, start: _Start) -> Callable[[Any, Any], Any]:
    def checked(request: Any, context: grpc.ServicerContext) -> Any:
        handler = _Handler(behaviour, request, context)
        try:
            return start.run(request, handler)
        except Exception as error:
            if handler.began and not isinstance(error, ToolDenied):
                raise
            abort(context, error)

    return checked


class _Handler:
    """One call of a handler. ``began`` separates the handler's own exceptions from refusals."""

    def __init__(self, behaviour: Any, request: Any, context: Any) -> None:
        self.began = False
        self._call = (behaviour, request, context)

    def __call__(self) -> Any:
        self.began = True
        behaviour, request, context = self._call
        return behaviour(request, context)


def _iterating(behaviour: Any, start: _Start) -> Callable[[Any, Any], Iterator[Any]]:
    def checked(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        # In the generator: grpc.aio calls the function on its loop, where an abort would wait for itself.
        try:
            start.check(request)
        except Exception as error:  # noqa: BLE001 - a call that could not be checked is not made
            abort(context, error)
        yield from behaviour(request, context)

    return checked


def _awaiting(behaviour: Any, start: _Start) -> Callable[[Any, Any], Awaitable[Any]]:
    async def checked(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        handler = _Handler(behaviour, request, context)
        try:
            return await start.arun(request, handler)
        except Exception as error:
            if handler.began and not isinstance(error, ToolDenied):
                raise
            await _aabort(context, error)

    return checked


def _generating(behaviour: Any, start: _Start) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def checked(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            await start.acheck(request)
        except Exception as error:  # noqa: BLE001 - a call that could not be checked is not made
            await _aabort(context, error)
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return checked


async def _aabort(context: aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    code, text, details = _status(error)
    await context.abort(code, text, ((DETAILS_KEY, details),))
    raise error


def abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status of a refusal; of any error but ToolDenied, with UNAVAILABLE."""
    code, text, details = _status(error)
    context.set_trailing_metadata(((DETAILS_KEY, details),))
    context.abort(code, text)
    raise error


def _status(error: Exception) -> tuple[grpc.StatusCode, str, bytes]:
    """Return the code, text and encoded details of a refusal."""
    refused = error if isinstance(error, ToolDenied) else None
    outward = refused.outward if refused is not None else Outward.UNAVAILABLE
    if outward is Outward.ALLOWED:
        outward = Outward.UNAVAILABLE
    info = error_details_pb2.ErrorInfo(reason=outward.name, domain=DOMAIN)
    if refused is not None and refused.decision_id:
        info.metadata["decision"] = refused.decision_id.hex()
    code = grpc.StatusCode[outward.grpc]
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=outward.text, details=[detail])
    return code, outward.text, status.SerializeToString()

"""How a call reaches its service: the router on the polling thread, then the interceptors in order.

Unary methods are registered as request streams of which one message is read: grpc's own unary
handler would wait for the message, without a bound, before anything of ours has judged the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from ..errors import ServerError
from . import lanes as lane_names
from .access import ANYONE, RULES, require_rules
from .call import EARLY_PRINCIPAL, Call, Interceptor
from .interceptors.accounting import Accounting
from .interceptors.authenticate import Authenticate, Authenticator
from .interceptors.authorize import Authorize
from .interceptors.deadline import Deadline
from .lanes import Lanes
from .status import abort, invalid, refused

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[bytes, bytes]
    _HandlerSource: TypeAlias = grpc.GenericRpcHandler[bytes, bytes]
else:
    # Generic in the stubs only.
    Handler = grpc.RpcMethodHandler
    _HandlerSource = grpc.GenericRpcHandler


HEALTH_PREFIX = "/grpc.health.v1.Health/"


@dataclass(frozen=True)
class Method:
    """One RPC that is served: its full name, its request type and what answers it."""

    name: str
    request_type: type[Message]
    answer: Callable[[Any, Call], Any]


@dataclass(frozen=True)
class Pipeline:
    """The interceptors of one process."""

    authenticator: Authenticator
    accounting: Accounting
    deadline: Deadline

    def order(self) -> tuple[Interceptor, ...]:
        """Return the interceptors, outermost first."""
        return (
            self.accounting,  # first, so that it also counts what the others refuse
            self.deadline,  # before anything that waits: without it a thread may be held for ever
            Authenticate(self.authenticator),  # before the table, which needs a role
            Authorize(),  # last, and before the message is read: strangers' bytes are never parsed
        )


class Router(_HandlerSource):
    """Finds the handler of a call, on the polling thread: nothing here may wait."""

    def __init__(self, methods: Sequence[Method], pipeline: Pipeline, lanes: Lanes) -> None:
        """Serve ``methods``. Raises ConfigError if one has no rule."""
        require_rules(method.name for method in methods)
        self._lanes = lanes
        self._authenticator = pipeline.authenticator
        order = pipeline.order()
        self._handlers: Mapping[str, Handler] = {
            method.name: self._in_lane(RULES[method.name].lane, method, order) for method in methods
        }
        self._order = order
        self._draining = False

    def drain(self) -> None:
        """Refuse every new call but health's; those that run go on."""
        self._draining = True

    def service(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler of the call, one that refuses it, or None for an unknown method."""
        handler = self._handlers.get(details.method)
        if handler is None:
            return None
        rule = RULES[details.method]
        if ANYONE not in rule.roles:
            # Strangers are refused before they take a place in a lane.
            try:
                principal = self._authenticator.from_metadata(details.invocation_metadata or ())
            except ServerError as error:
                return self._refusing(details.method, error)
            if principal is None and not self._authenticator.knows_certificates:
                return self._refusing(
                    details.method, refused("UNAUTHENTICATED", "the credential is missing or not accepted")
                )
            EARLY_PRINCIPAL.set(principal)
        if self._draining and not details.method.startswith(HEALTH_PREFIX):
            return self._refusing(
                details.method,
                refused("SHUTTING_DOWN", "this server is about to end; call another, or wait for it"),
            )
        if self._lanes[rule.lane].full:
            return self._refusing(
                details.method, refused("OVERLOADED", f"the {rule.lane} lane is full; retry later")
            )
        return handler

    def _in_lane(self, lane: str, method: Method, order: tuple[Interceptor, ...]) -> Handler:
        rule = RULES[method.name]

        def unary(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            def answer(call: Call) -> bytes:
                request = _parse(method.request_type, next(requests, None))
                call.require_time()
                return bytes(method.answer(request, call).SerializeToString())

            return _run(Call(method.name, rule, context), order, answer)

        def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            call = Call(method.name, rule, context)
            parsed = self._messages(method.request_type, requests, call)
            entered: list[Interceptor] = []
            error: BaseException | None = None
            try:
                for interceptor in order:
                    entered.append(interceptor)
                    interceptor.enter(call)
                for message in method.answer(parsed, call):
                    yield message.SerializeToString()
            except GeneratorExit:
                raise
            except BaseException as caught:  # noqa: BLE001 - becomes the status of the call
                error = caught
            finally:
                for interceptor in reversed(entered):
                    interceptor.leave(call, error)
            if error is not None and context.is_active():
                abort(context, error)

        behaviour: Any = stream if rule.streams else unary
        behaviour.experimental_thread_pool = self._lanes[lane]
        if rule.streams:
            return grpc.stream_stream_rpc_method_handler(behaviour)
        return grpc.stream_unary_rpc_method_handler(behaviour)

    def _messages(self, kind: type[Message], requests: Iterator[bytes], call: Call) -> Iterator[Message]:
        """Read a stream's messages; raises UNAUTHENTICATED once its credential is no longer accepted.

        A stream may be open for long after its credential was removed. A certificate that is no longer
        accepted ends with its connection.
        """
        for number, data in enumerate(requests):
            if number:
                found = self._authenticator.from_metadata(call.context.invocation_metadata())
                if found not in (None, call.principal):
                    raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
            yield _parse(kind, data)

    def _refusing(self, name: str, error: ServerError) -> Handler:
        def behaviour(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            def answer(call: Call) -> bytes:
                raise error

            return _run(Call(name, RULES[name], context), self._order[:1], answer)

        behaviour.experimental_thread_pool = self._lanes[lane_names.REFUSAL]  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(behaviour)


def _run(call: Call, order: Sequence[Interceptor], answer: Callable[[Call], bytes]) -> bytes:
    """Pass the interceptors, answer, and tell the interceptors in reverse how it ended."""
    entered = 0
    error: BaseException | None = None
    result = b""
    try:
        for interceptor in order:
            entered += 1
            interceptor.enter(call)
        result = answer(call)
    except BaseException as caught:  # noqa: BLE001 - becomes the status of the call
        error = caught
    for interceptor in reversed(order[:entered]):
        interceptor.leave(call, error)
    if error is not None:
        abort(call.context, error)
    return result


def _parse(kind: type[Message], data: bytes | None) -> Message:
    if data is None:
        raise invalid("request", "one message is needed, none was sent")
    try:
        return kind.FromString(data)
    except DecodeError:
        raise invalid("request", f"is not a {kind.DESCRIPTOR.full_name}") from None

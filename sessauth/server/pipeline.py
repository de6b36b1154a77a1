"""How a call reaches its service: the router on the polling thread, then the interceptors in order.

Unary methods are registered as request streams of which one message is read: grpc's own unary
handler would wait for the message, without a bound, before anything of ours has judged the call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from ..errors import ServerError
from . import lanes as lane_names
from .access import ANYONE, RULES, Rule, require_rules
from .call import EARLY_PRINCIPAL, Call
from .interceptors.accounting import Accounting
from .interceptors.authenticate import Authenticator
from .interceptors.deadline import Deadline
from .lane import Lane
from .lanes import Lanes
from .method import Method
from .status import abort, invalid, refused

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[bytes, bytes]
    _HandlerSource: TypeAlias = grpc.GenericRpcHandler[bytes, bytes]
else:
    # Generic in the stubs only.
    Handler = grpc.RpcMethodHandler
    _HandlerSource = grpc.GenericRpcHandler

Judge: TypeAlias = Callable[[Call], None]

HEALTH_PREFIX = "/grpc.health.v1.Health/"


@dataclass(frozen=True)
class Pipeline:
    """The interceptors of one process. Accounting is told of every call's end, refused ones included."""

    authenticator: Authenticator
    accounting: Accounting
    deadline: Deadline

    def admission(self, rule: Rule) -> Judge:
        """Return what judges a call before its message is read; it raises to refuse the call.

        Strangers' bytes are never parsed.
        """
        # Before anything that waits: without a deadline a thread may be held for ever.
        judge_deadline = self.deadline.judge
        if ANYONE in rule.roles:
            return judge_deadline
        early, from_certificate, roles = EARLY_PRINCIPAL.get, self.authenticator.from_certificate, rule.roles

        def admit(call: Call) -> None:
            judge_deadline(call)
            principal = early() or from_certificate(call.context)
            if principal is None:
                raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
            call.principal = principal
            if principal.role not in roles:
                raise refused("PERMISSION_DENIED", "this credential may not do that")

        return admit


@dataclass(frozen=True, slots=True)
class Route:
    """What the router knows of a method."""

    rule: Rule
    lane: Lane
    handler: Handler
    open_to_anyone: bool
    health: bool


class Router(_HandlerSource):
    """Finds the handler of a call, on the polling thread: nothing here may wait."""

    def __init__(self, methods: Sequence[Method], pipeline: Pipeline, lanes: Lanes) -> None:
        """Serve ``methods``. Raises ConfigError if one has no rule."""
        require_rules(method.name for method in methods)
        self._from_metadata = pipeline.authenticator.from_metadata
        self._knows_certificates = pipeline.authenticator.knows_certificates
        self._pipeline = pipeline
        self._refusals = lanes[lane_names.REFUSAL]
        self._routes: Mapping[str, Route] = {
            method.name: self._route(method, RULES[method.name], lanes) for method in methods
        }
        self._draining = False

    def drain(self) -> None:
        """Refuse every new call but health's; those that run go on."""
        self._draining = True

    def service(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler of the call, one that refuses it, or None for an unknown method."""
        route = self._routes.get(details.method)
        if route is None:
            return None
        if not route.open_to_anyone:
            # Strangers are refused before they take a place in a lane.
            try:
                principal = self._from_metadata(details.invocation_metadata or ())
            except ServerError as error:
                return self._refusing(details.method, error)
            if principal is not None:
                EARLY_PRINCIPAL.set(principal)
            elif not self._knows_certificates:
                return self._refusing(
                    details.method, refused("UNAUTHENTICATED", "the credential is missing or not accepted")
                )
        if self._draining and not route.health:
            return self._refusing(
                details.method,
                refused("SHUTTING_DOWN", "this server is about to end; call another, or wait for it"),
            )
        lane = route.lane
        if lane.held >= lane.capacity:
            return self._refusing(
                details.method, refused("OVERLOADED", f"the {route.rule.lane} lane is full; retry later")
            )
        return route.handler

    def _route(self, method: Method, rule: Rule, lanes: Lanes) -> Route:
        behaviour: Any
        if rule.streams:
            behaviour = _stream(method, rule, self._pipeline)
            handler = grpc.stream_stream_rpc_method_handler(behaviour)
        else:
            behaviour = _unary(method, rule, self._pipeline)
            handler = grpc.stream_unary_rpc_method_handler(behaviour)
        behaviour.experimental_thread_pool = lanes[rule.lane]
        health = method.name.startswith(HEALTH_PREFIX)
        return Route(rule, lanes[rule.lane], handler, ANYONE in rule.roles, health)

    def _refusing(self, name: str, error: ServerError) -> Handler:
        def behaviour(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            self._pipeline.accounting.refused(Call(name, RULES[name], context), error)
            abort(context, error)

        behaviour.experimental_thread_pool = self._refusals  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(behaviour)


def _unary(
    method: Method, rule: Rule, pipeline: Pipeline
) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    """Return what answers one call of a unary method. Each step here is paid on every check."""
    name, answer, now = method.name, method.answer, time.monotonic
    admit = pipeline.admission(rule)
    answered, not_answered = pipeline.accounting.answered(name, rule), pipeline.accounting.refused

    def unary(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        call = Call(name, rule, context)
        try:
            admit(call)
            # Raises if the call was cancelled by now, so only the deadline is left to ask.
            data = next(requests, None)
            if data is None:
                raise invalid("request", "one message is needed, none was sent")
            if now() >= call.deadline:
                call.require_time()
            result: bytes = answer(data, call)
        except BaseException as error:  # noqa: BLE001 - becomes the status of the call
            not_answered(call, error)
            abort(context, error)
        answered(call)
        return result

    return unary


def _stream(
    method: Method, rule: Rule, pipeline: Pipeline
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    """Return what answers one call of a streaming method."""
    admit, answered = pipeline.admission(rule), pipeline.accounting.answered(method.name, rule)

    def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = Call(method.name, rule, context)
        error: BaseException | None = None
        try:
            admit(call)
            yield from method.answer(_still_accepted(requests, call, pipeline.authenticator), call)
        except GeneratorExit:
            raise
        except BaseException as caught:  # noqa: BLE001 - becomes the status of the call
            error = caught
        finally:
            if error is None:
                answered(call)
            else:
                pipeline.accounting.refused(call, error)
        if error is not None and context.is_active():
            abort(context, error)

    return stream


def _still_accepted(requests: Iterator[bytes], call: Call, authenticator: Authenticator) -> Iterator[bytes]:
    """Hand on a stream's messages; raises UNAUTHENTICATED once its credential is no longer accepted.

    A stream may be open for long after its credential was removed. A certificate that is no longer
    accepted ends with its connection.
    """
    for number, data in enumerate(requests):
        if number:
            found = authenticator.from_metadata(call.context.invocation_metadata())
            if found not in (None, call.principal):
                raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
        yield data

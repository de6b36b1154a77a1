"""How a call passes the interceptors to its service, in its lane.

Unary methods are registered as request streams of which one message is read: grpc's own unary
handler would wait for the message, without a bound, before anything of ours has judged the call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from .access import Rule
from .call import NOBODY, Call
from .credentials import Principal
from .interceptors.accounting import Accounting
from .interceptors.authenticate import Authenticator
from .interceptors.deadline import Deadline
from .lane import Lane
from .method import Method
from .status import abort, invalid, refused
from .tracing import Refused, Told, Tracing

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[bytes, bytes]
else:
    # Generic in the stubs only.
    Handler = grpc.RpcMethodHandler

Judge: TypeAlias = Callable[[Call], object]


@dataclass(frozen=True)
class Pipeline:
    """The interceptors of one process.

    A call has its deadline judged before anything that waits, for without one a thread may be held for
    ever. Who calls, and whether the role reaches the method, is judged before the message is read:
    strangers' bytes are never parsed. Accounting is told of every call's end, refused ones included.
    """

    authenticator: Authenticator
    accounting: Accounting
    deadline: Deadline
    # Makes a span of each call; None: nothing does.
    tracing: Tracing | None = None

    def handler(self, method: Method, rule: Rule, lane: Lane, principal: Principal) -> Handler:
        """Return the handler for calls whose caller is known, or need not be (:data:`NOBODY`)."""
        return self._handler(method, rule, lane, principal, self.deadline.judge)

    def handler_by_certificate(self, method: Method, rule: Rule, lane: Lane) -> Handler:
        """Return the handler for calls whose caller is who the connection's certificate names."""
        judge_deadline, authenticator = self.deadline.judge, self.authenticator

        def admit(call: Call) -> None:
            judge_deadline(call)
            call.judged_by = authenticator.identities.known()
            principal = authenticator.from_certificate(call.context)
            if principal is None:
                raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
            call.principal = principal
            if principal.role not in rule.roles:
                raise refused("PERMISSION_DENIED", "this credential may not do that")

        return self._handler(method, rule, lane, NOBODY, admit)

    def refusal(self, name: str, rule: Rule, lane: Lane, principal: Principal, error: Exception) -> Handler:
        """Return a handler that refuses the call."""

        def behaviour(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            call = Call(name, rule, context, principal)
            if self.tracing is None:
                self.accounting.refused(call, error)
            else:
                self.tracing.refused(call, error, self.accounting.refused)
            abort(context, error)

        return _in_lane(behaviour, lane, grpc.stream_unary_rpc_method_handler)

    def _handler(self, method: Method, rule: Rule, lane: Lane, principal: Principal, admit: Judge) -> Handler:
        if rule.streams:
            behaviour = self._stream(method, rule, principal, admit)
            return _in_lane(behaviour, lane, grpc.stream_stream_rpc_method_handler)
        return _in_lane(
            self._unary(method, rule, principal, admit), lane, grpc.stream_unary_rpc_method_handler
        )

    def _unary(
        self, method: Method, rule: Rule, principal: Principal, admit: Judge
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
        """Return what answers one call of a unary method. Each step here is paid on every check."""
        name, answer, now = method.name, method.answer, time.monotonic
        answered: Told = self.accounting.answered(name, rule)
        not_answered: Refused = self.accounting.refused
        if self.tracing is not None:
            admit, answered, not_answered = self.tracing.around(
                admit, answered, not_answered, one_thread=True
            )

        def unary(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            call = Call(name, rule, context, principal)
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
        self, method: Method, rule: Rule, principal: Principal, admit: Judge
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
        """Return what answers one call of a streaming method."""
        answered: Told = self.accounting.answered(method.name, rule)
        not_answered: Refused = self.accounting.refused
        if self.tracing is not None:
            # Its steps may be on different threads.
            admit, answered, not_answered = self.tracing.around(
                admit, answered, not_answered, one_thread=False
            )

        def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            call = Call(method.name, rule, context, principal)
            call.accepted = self._require_accepted
            error: BaseException | None = None
            try:
                admit(call)
                yield from method.answer(self._still_accepted(requests, call), call)
            except GeneratorExit:
                raise
            except BaseException as caught:  # noqa: BLE001 - becomes the status of the call
                error = caught
            finally:
                if error is None:
                    answered(call)
                else:
                    not_answered(call, error)
            if error is not None and context.is_active():
                abort(context, error)

        return stream

    def _still_accepted(self, requests: Iterator[bytes], call: Call) -> Iterator[bytes]:
        """Hand on a stream's messages; raises UNAUTHENTICATED once its caller is no longer accepted.

        A stream may be open for long after its credential, or the identity of its certificate, was removed.
        """
        for number, data in enumerate(requests):
            if number:
                self._require_accepted(call)
            yield data

    def _require_accepted(self, call: Call) -> None:
        found = self.authenticator.from_metadata(call.context.invocation_metadata())
        if found is None:
            known = self.authenticator.identities.known()
            if known is call.judged_by:
                return
            found, call.judged_by = self.authenticator.from_certificate(call.context), known
        if found != call.principal:
            raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")


def _in_lane(behaviour: Any, lane: Lane, form: Callable[[Any], Handler]) -> Handler:
    behaviour.experimental_thread_pool = lane
    return form(behaviour)

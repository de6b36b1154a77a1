"""Leads a call whose message has come through deadline, accounting and tracing to its service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ...errors import NotLeader
from ...model.caller_statement import ItemProof
from ..keys.credentials import Principal
from ..log import fault
from ..transport.rpc import Deliver, Plan, Rpc, Run, cancelled_error
from .access import Rule
from .accounting import Accounting
from .authenticate import Authenticator
from .call import CallContext
from .deadline import Deadline
from .method import Method
from .pool import PoolShare
from .tracing import OnEvent, OnFailure, Tracing

Answer = Callable[[Any, CallContext], Any]


def shows_always(answer: bytes) -> bool:
    """Return True."""
    return True


class HandOn(Protocol):
    """Asks the leader of the cluster for work that only it can do."""

    def __call__(
        self,
        name: str,
        request: bytes,
        call: CallContext,
        error: NotLeader,
        proofs: Sequence[ItemProof] = (),
        shows: Callable[[bytes], bool] = shows_always,
    ) -> bytes:
        """Return the leader's answer to an RPC by its full name.

        ``proofs`` are this host's results for the proofs of the request's items. ``shows(answer)`` returns
        False for an answer without anything that the caller could look for here; by default each has.
        Raises ``error`` if the call can't be forwarded, and ServerError with the leader's reason.
        """
        ...


@dataclass(frozen=True)
class Pipeline:
    """The interceptors of one process.

    The router authenticates the caller and checks its role before the message is waited for: strangers' bytes
    are never parsed. Accounting counts the end of every call, refused ones included.
    """

    authenticator: Authenticator
    accounting: Accounting
    deadline: Deadline
    # How long the client of a stream may leave sent messages unread.
    slow_reader_seconds: float
    # Makes a span of each call; None: no spans.
    tracing: Tracing | None = None
    # Asks the leader of the cluster for work that only it can do; None: this server is alone.
    hand_on: HandOn | None = None

    def plan(
        self, method: Method, rule: Rule, share: PoolShare[Rpc], principal: Principal, deliver: Deliver
    ) -> Plan:
        """Return the plan for calls of an authenticated caller, or of one that need not be."""

        def refuse(rpc: Rpc, error: Exception) -> None:
            self.refuse(rpc, method.name, rule, principal, error)

        run = (self._stream if rule.streams else self._unary)(method, rule, principal)
        return Plan(share, rule.streams, run, refuse, deliver, principal)

    def refuse(self, rpc: Rpc, name: str, rule: Rule, principal: Principal, error: Exception) -> None:
        """End a call that gets no thread."""
        rpc.refused = True
        on_failure: OnFailure = self.accounting.record_failure
        if self.tracing is not None:
            on_failure = self.tracing.wrap_refusal(on_failure)
        _fail(rpc, CallContext(name, rule, rpc, principal), error, on_failure)

    def _unary(self, method: Method, rule: Rule, principal: Principal) -> Run:
        """Return a function that runs one call of a unary method. Each step here is paid on every check."""
        name, answer, now = method.name, method.answer, time.monotonic
        admit, on_success, on_failure = self._callbacks(name, rule, one_thread=True)
        if self.hand_on is not None:
            answer = _or_handed_on(name, method.answer, self.hand_on)

        def unary(rpc: Rpc, data: bytes | None) -> None:
            call = CallContext(name, rule, rpc, principal)
            try:
                admit(call)
                if rpc.ended:
                    raise cancelled_error()
                if now() >= call.deadline:
                    call.raise_if_expired()
                if rpc.stated is not None:
                    rpc.stated.redeem(data or b"")
                result: bytes = answer(data, call)
            except BaseException as error:  # noqa: BLE001 - becomes the status of the call
                _fail(rpc, call, error, on_failure)
            else:
                try:
                    on_success(call)
                except Exception as problem:  # noqa: BLE001 - the call ends in any case
                    fault("accounting", problem)
                rpc.answer(result)

        return unary

    def _stream(self, method: Method, rule: Rule, principal: Principal) -> Run:
        """Return a function that runs one call of a streaming method."""
        within_seconds = self.slow_reader_seconds
        # Its steps may be on different threads.
        admit, on_success, on_failure = self._callbacks(method.name, rule, one_thread=False)

        def stream(rpc: Rpc, first: bytes | None) -> None:
            call = CallContext(method.name, rule, rpc, principal)
            call.require_accepted = self._require_accepted
            try:
                admit(call)
                requests = self._while_accepted(rpc.messages(first), call)
                with closing(cast("Any", method.answer(requests, call))) as answers:
                    for message in answers:
                        rpc.send(message, within_seconds)
            except BaseException as error:  # noqa: BLE001 - becomes the status of the call
                _fail(rpc, call, error, on_failure)
            else:
                try:
                    on_success(call)
                except Exception as problem:  # noqa: BLE001 - the call ends in any case
                    fault("accounting", problem)
                rpc.finish()

        return stream

    def _callbacks(self, name: str, rule: Rule, *, one_thread: bool) -> tuple[OnEvent, OnEvent, OnFailure]:
        """Return callbacks for a call's begin, success and failure."""
        admit, on_success = self.deadline.judge, self.accounting.success_recorder(name, rule)
        if self.tracing is None:
            return admit, on_success, self.accounting.record_failure
        return self.tracing.wrap(admit, on_success, self.accounting.record_failure, one_thread=one_thread)

    def _while_accepted(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Yield a stream's messages. Raises UNAUTHENTICATED once its caller is no longer accepted.

        A stream may be open for long after its credential, or the identity of its certificate, was removed.
        """
        for number, data in enumerate(requests):
            if number:
                self._require_accepted(call)
            yield data

    def _require_accepted(self, call: CallContext) -> None:
        call.authenticated_by = self.authenticator.require(
            call.context, call.principal, call.authenticated_by
        )


def _or_handed_on(name: str, answer: Answer, hand_on: HandOn) -> Answer:
    """Return a function that answers here, or forwards the call where only the leader can."""

    def answered(data: bytes, call: CallContext) -> bytes:
        try:
            result: bytes = answer(data, call)
        except NotLeader as error:
            return hand_on(name, data, call, error)
        return result

    return answered


def _fail(rpc: Rpc, call: CallContext, error: BaseException, on_failure: OnFailure) -> None:
    """Record the failure of a call and end it with the error's status."""
    try:
        on_failure(call, error)
    except Exception as problem:  # noqa: BLE001 - the call ends in any case
        fault("accounting", problem)
    rpc.refuse(error)

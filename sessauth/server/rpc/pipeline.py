"""Leads a call whose message is there through the interceptors to its service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from ..keys.credentials import Principal
from ..log import fault
from ..transport.rpc import Arrived, Plan, Rpc, Run, over
from .access import Rule
from .accounting import Accounting
from .authenticate import Authenticator
from .call import CallContext
from .deadline import Deadline
from .method import Method
from .pool import PoolShare
from .tracing import Refused, Told, Tracing

Judge: TypeAlias = Callable[[CallContext], object]


@dataclass(frozen=True)
class Pipeline:
    """The interceptors of one process.

    Who calls, and whether the role reaches the method, was judged before the message was waited for:
    strangers' bytes are never parsed. Accounting is told of every call's end, refused ones included.
    """

    authenticator: Authenticator
    accounting: Accounting
    deadline: Deadline
    # How long the client of a stream may leave unread what it is sent.
    slow_reader_seconds: float
    # Makes a span of each call; None: nothing does.
    tracing: Tracing | None = None

    def plan(
        self, method: Method, rule: Rule, share: PoolShare[Rpc], principal: Principal, arrived: Arrived
    ) -> Plan:
        """Return how calls go on whose caller is known, or need not be."""

        def refuse(rpc: Rpc, error: Exception) -> None:
            self.refuse(rpc, method.name, rule, principal, error)

        run = (self._stream if rule.streams else self._unary)(method, rule, principal)
        return Plan(share, rule.streams, run, refuse, arrived, principal)

    def refuse(self, rpc: Rpc, name: str, rule: Rule, principal: Principal, error: Exception) -> None:
        """End a call that gets no thread."""
        call = CallContext(name, rule, rpc, principal)
        rpc.refused = True
        try:
            if self.tracing is None:
                self.accounting.refused(call, error)
            else:
                self.tracing.refused(call, error, self.accounting.refused)
        except Exception as problem:  # noqa: BLE001 - the call ends in any case
            fault("accounting", problem)
        rpc.refuse(error)

    def _unary(self, method: Method, rule: Rule, principal: Principal) -> Run:
        """Return what answers one call of a unary method. Each step here is paid on every check."""
        name, answer, now = method.name, method.answer, time.monotonic
        admit: Judge = self.deadline.judge
        answered: Told = self.accounting.answered(name, rule)
        not_answered: Refused = self.accounting.refused
        if self.tracing is not None:
            admit, answered, not_answered = self.tracing.around(
                admit, answered, not_answered, one_thread=True
            )

        def unary(rpc: Rpc, data: bytes | None) -> None:
            call = CallContext(name, rule, rpc, principal)
            try:
                admit(call)
                if rpc.over:
                    raise over()
                if now() >= call.deadline:
                    call.require_time()
                result: bytes = answer(data, call)
            except BaseException as error:  # noqa: BLE001 - becomes the status of the call
                try:
                    not_answered(call, error)
                except Exception as problem:  # noqa: BLE001 - the call ends in any case
                    fault("accounting", problem)
                rpc.refuse(error)
            else:
                try:
                    answered(call)
                except Exception as problem:  # noqa: BLE001 - the call ends in any case
                    fault("accounting", problem)
                rpc.answer(result)

        return unary

    def _stream(self, method: Method, rule: Rule, principal: Principal) -> Run:
        """Return what answers one call of a streaming method."""
        within_seconds = self.slow_reader_seconds
        admit: Judge = self.deadline.judge
        answered: Told = self.accounting.answered(method.name, rule)
        not_answered: Refused = self.accounting.refused
        if self.tracing is not None:
            # Its steps may be on different threads.
            admit, answered, not_answered = self.tracing.around(
                admit, answered, not_answered, one_thread=False
            )

        def stream(rpc: Rpc, first: bytes | None) -> None:
            call = CallContext(method.name, rule, rpc, principal)
            call.accepted = self._require_accepted
            try:
                admit(call)
                requests = self._still_accepted(rpc.messages(first), call)
                with closing(cast("Any", method.answer(requests, call))) as answers:
                    for message in answers:
                        rpc.send(message, within_seconds)
            except BaseException as error:  # noqa: BLE001 - becomes the status of the call
                try:
                    not_answered(call, error)
                except Exception as problem:  # noqa: BLE001 - the call ends in any case
                    fault("accounting", problem)
                rpc.refuse(error)
            else:
                try:
                    answered(call)
                except Exception as problem:  # noqa: BLE001 - the call ends in any case
                    fault("accounting", problem)
                rpc.finish()

        return stream

    def _still_accepted(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Hand on a stream's messages; raises UNAUTHENTICATED once its caller is no longer accepted.

        A stream may be open for long after its credential, or the identity of its certificate, was removed.
        """
        for number, data in enumerate(requests):
            if number:
                self._require_accepted(call)
            yield data

    def _require_accepted(self, call: CallContext) -> None:
        call.judged_by = self.authenticator.require(call.context, call.principal, call.judged_by)

"""Watched calls: a server reports when an allow no longer holds.

The server checks a watched call again whenever the state changes or its time comes, and withdraws the allow
at once. An ended stream, however it ended, watches nothing: from then on no call of it counts as allowed,
and calls in progress are to be checked again, on another watch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

from ...errors import SessauthError, Unavailable, UsageError
from ...v1 import authorization_service_pb2 as pb
from .._decision import RemoteDecision, decision_from_message
from .._requests import tokens as token_calls
from .._results import CheckItem

P = TypeVar("P", covariant=True)

# Sent under the number of a call to watch it no longer: the last request under a number counts.
NO_CALL: Final = CheckItem(b"", "none", "none")


class ProofSource(NamedTuple, Generic[P]):
    """Functions of a client that prove calls.

    ``with_proof(item)`` returns the item to send. ``drop_rejected_keys(item, sent, decision)`` is true if the
    call is to be proven and sent once more.
    """

    with_proof: Callable[[CheckItem], P]
    drop_rejected_keys: Callable[[CheckItem, CheckItem, RemoteDecision], bool]


class WatchedCall:
    """A call on a watch, with its decisions.

    ``decision`` is the answer; ``withdrawn`` is the decision that withdrew it, or None. True as a bool
    exactly while the call is allowed: answered so, not withdrawn, and still watched.
    """

    __slots__ = ("_over", "decision", "item", "number", "withdrawn")

    decision: RemoteDecision

    def __init__(self, number: int, item: CheckItem) -> None:
        """Begin without an answer."""
        self.number = number
        self.item = item
        self.withdrawn: RemoteDecision | None = None
        self._over = False

    def __bool__(self) -> bool:
        """Return True while the call is allowed."""
        return bool(self.decision) and self.withdrawn is None and not self._over

    def __repr__(self) -> str:
        """Show the number and the last decision."""
        return f"<WatchedCall {self.number} {self.withdrawn or self.decision!r}>"


class PendingCalls:
    """The calls of one watch by their numbers, unanswered and watched. For either client."""

    def __init__(self, audience: str) -> None:
        """Begin without calls; ``audience`` names the verifier."""
        self._audience = audience
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, tuple[WatchedCall, Any]] = {}
        self._watched: dict[int, WatchedCall] = {}

    def ask(self, item: CheckItem, at_least_revision: int, waiter: Any) -> pb.CheckStreamRequest:
        """Return the request for a call; its answer is for ``waiter``, a future."""
        call = WatchedCall(next(self._numbers), item)
        self._unanswered[call.number] = call, waiter
        return token_calls.stream_message(call.number, item, self._audience, at_least_revision, watch=True)

    def forget(self, number: int) -> pb.CheckStreamRequest:
        """Return the request that ends the watch of one call."""
        self._unanswered.pop(number, None)
        call = self._watched.pop(number, None)
        if call is not None:
            call._over = True
        return token_calls.stream_message(number, NO_CALL, self._audience, 0)

    def accept(self, answer: pb.CheckStreamResponse) -> WatchedCall | None:
        """Give an answer to its waiter; return the call if the answer withdraws it."""
        decision = decision_from_message(answer.decision)
        if answer.withdrawn:
            call = self._watched.pop(answer.id, None)
            if call is not None:
                # A withdrawal denies, even if its decision says otherwise.
                call.withdrawn = replace(decision, allowed=False)
            return call
        unanswered = self._unanswered.pop(answer.id, None)
        if unanswered is not None:
            call, waiter = unanswered
            call.decision = decision
            if decision:
                self._watched[call.number] = call
            waiter.set_result(call)
        return None

    def end(self, error: SessauthError) -> None:
        """Raise ``error`` in every waiter, and let no call count as allowed any more."""
        for call in self._watched.values():
            call._over = True
        self._watched.clear()
        unanswered, self._unanswered = self._unanswered, {}
        for _, waiter in unanswered.values():
            if not waiter.done():
                waiter.set_exception(error)


def closed() -> UsageError:
    """Return the error for a watch that was closed here."""
    return UsageError("the watch is closed; open another one")


def not_answered(target: str, timeout_ms: int) -> Unavailable:
    """Return the error for an answer that did not come in time."""
    return Unavailable(
        f"{target} did not answer within {timeout_ms} ms; raise timeout_ms if that is too short"
    )

"""What the services that write share: submit a change, reach a session, wait no longer than the call."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import Future
from typing import TypeVar

from ...model.change import Change, ChangeOutcome
from ...model.session import Session
from ...state.writer.state_writer import StateWriter
from ..rpc.access import ISSUER
from ..rpc.call import CallContext
from ..rpc.pool import blocking_section
from ..status import refused

T = TypeVar("T")


def wait(future: Future[T], call: CallContext) -> T:
    """Return the future's result.

    Raises, if the call's deadline comes first, DEADLINE_EXCEEDED where nothing was begun, and then nothing
    will be: nobody pays for what nobody waits for. Else OUTCOME_UNKNOWN.
    """
    try:
        with blocking_section():
            return future.result(timeout=call.remaining)
    except concurrent.futures.TimeoutError:
        if future.cancel():
            raise refused("DEADLINE_EXCEEDED", "not begun within the deadline; nothing was written") from None
        if future.done():
            raise
        raise refused(
            "OUTCOME_UNKNOWN", "not confirmed within the deadline; retry with the same request_id"
        ) from None


def nothing_to_ask() -> None:
    """Let authority be given: what services are told where nothing else decides that."""


def submit(log: StateWriter, change: Change, call: CallContext) -> ChangeOutcome:
    """Write a change and wait until it is durable. Raises Rejected if it is against the rules."""
    call.raise_if_expired()
    return wait(log.submit(change), call).raise_if_rejected()


def reachable(session: Session | None, call: CallContext) -> Session:
    """Return the session if the caller may change it. An issuer reaches only its own sessions.

    Raises NOT_FOUND else: another's session looks like none at all.
    """
    if session is None or (call.principal.role == ISSUER and session.owner != call.principal.name):
        raise refused("NOT_FOUND", "session_id: no such session")
    return session

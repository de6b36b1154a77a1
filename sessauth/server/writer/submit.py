"""Changes on behalf of a call: built from its request, submitted, and awaited until its deadline."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ...model.change import Change, ChangeOutcome
from ...state.writer.state_writer import StateWriter
from .. import request_fields
from ..rpc.call import CallContext
from ..rpc.pool import blocking_section
from ..status import refused

T = TypeVar("T")


def wait_for_commit(future: Future[T], call: CallContext) -> T:
    """Return the future's result.

    If the call's deadline comes first, raises DEADLINE_EXCEEDED where nothing was begun, and then nothing
    will be: work without a waiting caller is dropped. Otherwise OUTCOME_UNKNOWN.
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


def always_permitted() -> None:
    """Default permission hook: always allows."""


def change_from(
    request: Any, call: CallContext, make: Callable[..., Change], *args: object, **fields: object
) -> Change:
    """Return the change that ``make`` builds for a request: under its request id, by its caller."""
    request_id = request_fields.request_id(request.request_id)
    return make(request_id, *args, actor=call.principal.name, **fields)


def submit_and_wait(log: StateWriter, change: Change, call: CallContext) -> ChangeOutcome:
    """Submit a change and wait until it is durable. Raises Rejected if it is against the rules."""
    call.raise_if_expired()
    return wait_for_commit(log.submit(change), call).raise_if_rejected()

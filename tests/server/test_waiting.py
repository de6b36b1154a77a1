"""Waiting for the writer, and its timeouts."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sessauth.errors import ServerError
from sessauth.server.rpc.call import CallContext
from sessauth.server.writer.submit import wait_for_commit


def call_with(seconds: float) -> CallContext:
    """A call that has so long to go."""
    return cast(CallContext, SimpleNamespace(remaining=seconds))


def test_what_was_not_begun_is_given_up() -> None:
    """A change that still waits at the deadline is cancelled, so it is certain that nothing was written."""
    future: Future[Any] = Future()

    with pytest.raises(ServerError, match="nothing was written") as raised:
        wait_for_commit(future, call_with(0.001))
    assert raised.value.reason == "DEADLINE_EXCEEDED"
    assert future.cancelled()


def test_what_was_begun_has_an_unknown_outcome() -> None:
    """A change that the writer has taken up may become durable after the deadline."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()

    with pytest.raises(ServerError, match="retry") as raised:
        wait_for_commit(future, call_with(0.001))
    assert raised.value.reason == "OUTCOME_UNKNOWN"

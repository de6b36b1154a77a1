"""Waiting for the writer, and its timeouts."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import ServerError
from sessauth.server.rpc.call import CallContext
from sessauth.server.rpc.finisher import wait_for_commit
from sessauth.server.services.cut_off import CutOffService
from sessauth.state.lmdb import cluster_rows
from sessauth.state.writer.group import Group
from sessauth.v1 import cut_off_service_pb2 as pb
from tests.support.carried import begin_cluster
from tests.support.changes import NOW


def call_with(seconds: float) -> CallContext:
    """A call that has so long to go."""
    principal = SimpleNamespace(name="operator")
    return cast(CallContext, SimpleNamespace(remaining=seconds, principal=principal))


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


def test_a_release_of_the_clusters_brake_that_was_given_up_never_comes(tmp_path: Path) -> None:
    """Its caller heard that nothing was written, and may have decided otherwise since."""
    _, (one,) = begin_cluster(tmp_path, FixedClock(NOW), ("one",))
    with one.writer as writer:
        writer.run(lambda group: cluster_rows.set_brake(group, "drill", "desk"))
        service = CutOffService(writer)
        begun, go_on = threading.Event(), threading.Event()

        def hold(group: Group) -> None:
            begun.set()
            go_on.wait()

        held = writer.decide(hold, 0)
        begun.wait()
        try:
            with pytest.raises(ServerError, match="nothing was written") as raised:
                service.thaw(pb.ThawRequest(), call_with(0.05))
        finally:
            go_on.set()
        assert raised.value.reason == "DEADLINE_EXCEEDED"
        held.result()
        writer.run(lambda group: None)
        assert writer.cluster_brake

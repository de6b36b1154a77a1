"""Thousands of calls that are cancelled or expire, and a worker that ends under load."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer, attacked_server
from tests.support.service import Caller, RpcError

# By hand 5,000: SESSAUTH_STORM=5000.
CALLS = int(os.environ.get("SESSAUTH_STORM", "1000"))
AT_ONCE = 100
MEMORY_BYTES = 48 << 20
# Statuses that a client of a server that ends may get: all can be retried.
RETRIED = {"UNAVAILABLE", "CANCELLED"}


@pytest.fixture
def caller(attacked: AttackedServer) -> Iterator[Caller]:
    """A caller with one connection."""
    made = Caller(f"unix:{attacked.target}", attacked.credential)
    yield made
    made.close()


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_a_storm_of_calls_that_end_early(end: str, attacked: AttackedServer, caller: Caller) -> None:
    """Then 20 good ones: all are answered, on the same channel."""
    rpc = caller.channel.unary_unary(h2.CHECK_BATCH)
    # More than is answered on the loop.
    request = attacked.batch(300)[5:]
    outcomes: Counter[grpc.StatusCode] = Counter()
    before = attacked.memory_bytes()
    for _ in range(CALLS // AT_ONCE):
        seconds = 30.0 if end == "cancelled" else 0.003
        calls = [rpc.future(request, timeout=seconds, metadata=caller.metadata) for _ in range(AT_ONCE)]
        for call in calls:
            if end == "cancelled":
                call.cancel()
            outcomes[call.code()] += 1
    assert outcomes.total() == CALLS
    allowed = [caller.call("AuthorizationService/Check", attacked.allowed) for _ in range(20)]
    assert all(each.decision.allowed for each in allowed)
    assert attacked.memory_bytes() - before < MEMORY_BYTES


def test_calls_that_are_cancelled_behind_their_headers(attacked: AttackedServer) -> None:
    """Streams with a thread each, on connections of their own: the threads are free again."""
    entries = h2.call_entries(h2.STREAM, attacked.credential, "30S")
    for _ in range(max(1, CALLS // 500)):
        with attacked.peer() as peer:
            for _ in range(10):
                streams = [peer.take_stream() for _ in range(20)]
                peer.send(b"".join(h2.headers(each, entries) for each in streams))
                # No ping: a client that sends them while it gets no answer is refused.
                assert attacked.allows(peer)
                peer.send(b"".join(h2.reset(each) for each in streams))
            assert attacked.allows(peer)


def test_a_worker_that_ends_under_load_leaves_no_call_without_a_status(native_library: None) -> None:
    """SIGTERM: what is answered is answered right, the rest may be retried, and the processes end well."""
    with attacked_server() as worker:
        outcomes: Counter[str] = Counter()
        stop, lock = threading.Event(), threading.Lock()

        def check(number: int) -> None:
            request = worker.denied if number % 2 else worker.allowed
            caller = Caller(f"unix:{worker.target}", worker.credential)
            try:
                while not stop.is_set():
                    try:
                        decision = caller.call("AuthorizationService/Check", request).decision
                        outcome = "right" if decision.allowed == (request is worker.allowed) else "wrong"
                    except RpcError as error:
                        outcome = error.code.name
                        if outcome in RETRIED:
                            return
                    with lock:
                        outcomes[outcome] += 1
            finally:
                caller.close()

        threads = [threading.Thread(target=check, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        try:
            stop.wait(0.5)
            status = worker.server.process.terminate()
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert status == 0
        assert set(outcomes) == {"right"}, outcomes
        assert outcomes["right"] > 20
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, signal.SIG_DFL)
        assert worker.faults() == 0

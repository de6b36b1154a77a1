"""Tests gRPC's core at start: a unary call, a refusal, a stream."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any, Final

import grpc

from ..rpc.pool import BoundedPool, PoolShare
from ..status import refused
from .core import DETAILS, unfit
from .loop import GrpcServer
from .receiving import Receiving
from .rpc import Plan, Rpc

SECONDS: Final = 5.0
# gRPC uses the proxy of the environment for this kind of socket too.
OPTIONS: Final = (("grpc.enable_http_proxy", 0),)
# Methods.
ECHO: Final = "/self/Echo"
REFUSE: Final = "/self/Refuse"
STREAM: Final = "/self/Stream"


def require_transport() -> None:
    """Serve calls of this process on a socket of its own.

    Raises ConfigError, which names the versions that were tested, if one does not end as it must within
    :data:`SECONDS`.
    """
    pool = BoundedPool("self-test", 1, 3)
    receiving = Receiving(int(1000 * SECONDS))
    plans = {
        ECHO: _plan(pool, receiving, _echo),
        REFUSE: _plan(pool, receiving, _refuse),
        STREAM: _plan(pool, receiving, _stream),
    }

    def accept(rpc: Rpc) -> None:
        rpc.plan = plans[rpc.method]
        receiving.begin(rpc)

    server = GrpcServer(accept, receiving, [("grpc.so_reuseport", 0)])
    target = f"unix-abstract:sessauth-{secrets.token_hex(8)}"
    if not server.add_port(target):
        raise unfit("no socket can be listened on")
    server.start()
    try:
        with grpc.insecure_channel(target, options=OPTIONS) as channel:
            _try(channel)
    except Exception as error:
        raise unfit(f"a call to itself ended as {type(error).__name__}: {error}") from error
    finally:
        server.stop(0.0)
        pool.shutdown(wait=False)


def _try(channel: Any) -> None:
    """Make the calls; raises AssertionError, or what gRPC raises, if one does not end as it must."""
    metadata = (("x-self", "test"),)
    echoed = channel.unary_unary(ECHO)(b"message", timeout=SECONDS, metadata=metadata)
    _require(echoed == b"message", "an answer is not what was sent")
    try:
        channel.unary_unary(REFUSE)(b"", timeout=SECONDS)
    except grpc.RpcError as error:
        failure: Any = error
        _require(failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, "a status has another code")
        _require(DETAILS in dict(failure.trailing_metadata() or ()), "a status lacks its details")
    else:
        _require(False, "a refused call succeeded")
    more = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"1"
        more.wait(SECONDS)
        yield b"2"

    answers = channel.stream_stream(STREAM)(requests(), timeout=SECONDS)
    _require(next(answers) == b"1", "a stream's first answer is not what was sent")
    more.set()
    _require(list(answers) == [b"2"], "a stream's other answers are not what was sent")


def _plan(pool: BoundedPool, receiving: Receiving, run: Any) -> Plan:
    def refuse(rpc: Rpc, error: Exception) -> None:
        rpc.refused = True
        rpc.refuse(error)

    return Plan(PoolShare(pool), run is _stream, run, refuse, receiving.deliver)


def _echo(rpc: Rpc, message: bytes | None) -> None:
    right = ("x-self", "test") in tuple(rpc.metadata) and 0 < rpc.time_remaining() < SECONDS + 1
    if right and rpc.is_active() and rpc.peer():
        rpc.answer(message or b"")
    else:
        rpc.refuse(refused("INTERNAL", "metadata, deadline or peer of a call are not what they were"))


def _refuse(rpc: Rpc, message: bytes | None) -> None:
    rpc.refuse(refused("OVERLOADED", "as it must be"))


def _stream(rpc: Rpc, first: bytes | None) -> None:
    for message in rpc.messages(first):
        rpc.send(message, SECONDS)
    rpc.finish()


def _require(right: bool, problem: str) -> None:
    if not right:
        raise AssertionError(problem)

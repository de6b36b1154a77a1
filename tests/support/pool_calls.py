"""Calls of a pool, and a meter of calls, as tests use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sessauth.server.rpc.pool import HELD, BoundedPool, PoolShare


def submit(
    pool: BoundedPool, function: Callable[..., Any], /, *args: Any, share: PoolShare[Any] | None = None
) -> Future[Any]:
    """Submit a call; its future has the result once the call's place was given back."""
    future: Future[Any] = Future()
    part = share or PoolShare(pool)

    def run() -> object:
        try:
            result = function(*args)
        except Exception as error:  # noqa: BLE001 - whoever asks gets it
            part.release()
            future.set_exception(error)
        else:
            part.release()
            future.set_result(result)
        return HELD

    pool.submit(part, run)
    return future


class CountedCalls(Counter[tuple[str, str]]):
    """A meter that counts calls by the RPC's full name and gRPC's code."""

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count a call."""
        self[method, code] += 1

"""Calls whose message has not come yet. They hold neither a thread nor a place in a pool.

They are bounded in number, in time, and in the bytes of their messages: of one principal's calls in one pool
at most :data:`MAX_RECEIVING` are received at once, and the others wait for those.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from ..rpc.pool import PoolShare
from ..status import invalid, refused
from .rpc import Rpc, cancelled_error

# One principal's calls in one pool: a message may have 12 MiB, and its parts stay in memory.
MAX_RECEIVING: Final = 16
# The calls of all principals. Beyond it each principal may have one more.
MAX_WAITING: Final = 4_096
POLL_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 0.5
# A call without a message was cancelled if its end is reported within this time.
CANCEL_SECONDS: Final = 0.02


class Receiving:
    """The calls of one server that wait for their message. Only the polling thread calls it."""

    def __init__(self, receive_ms: int) -> None:
        """Refuse calls whose message has not come within ``receive_ms``."""
        self.waiting = 0
        self._within_ms = receive_ms
        self._shares: set[PoolShare[Rpc]] = set()
        self._empty: deque[tuple[float, Rpc]] = deque()
        # Called when `pause` may be shorter than before.
        self.hurry: Callable[[], None] = _do_nothing
        self._expire_at = 0.0

    @property
    def pause(self) -> float:
        """Seconds after which :meth:`expire` is due."""
        if self._empty:
            return CANCEL_SECONDS
        return POLL_SECONDS if self.waiting else IDLE_SECONDS

    def begin(self, rpc: Rpc) -> None:
        """Begin to wait for the message of a call, or refuse the call."""
        share = rpc.plan.share
        if share.full:
            self._refuse_full(rpc)
        elif share.waiting >= share.limit or (self.waiting >= MAX_WAITING and share.waiting):
            rpc.plan.refuse(rpc, refused("OVERLOADED", f"too many calls {_wait(share)}; retry later"))
        else:
            self.waiting += 1
            self._shares.add(share)
            if share.behind or len(share.receiving) >= MAX_RECEIVING:
                share.behind.append(rpc)
                self._receive_next(share, time.monotonic())
            else:
                share.receiving[rpc] = None
                rpc.receive()

    def deliver(self, rpc: Rpc, message: bytes | None) -> None:
        """Submit a call with its message, None if there is none, to its pool."""
        share = rpc.plan.share
        del share.receiving[rpc]
        self.waiting -= 1
        if share.behind:
            self._receive_next(share, time.monotonic())
        if message is None:
            self._empty.append((time.monotonic() + CANCEL_SECONDS, rpc))
            self.hurry()
        else:
            self._submit(rpc, message)

    def drop(self, rpc: Rpc, error: Exception) -> None:
        """Refuse a call whose message has come."""
        self._drop(rpc, error)
        self._receive_next(rpc.plan.share, time.monotonic())

    def expire(self, now: float) -> None:
        """Refuse calls whose message has not come in time; ``now`` is of the monotonic clock."""
        while self._empty and (self._empty[0][1].ended or now >= self._empty[0][0]):
            self._end_empty(self._empty.popleft()[1])
        if now < self._expire_at:
            return
        self._expire_at = now + POLL_SECONDS
        for share in list(self._shares):
            while share.receiving:
                oldest = next(iter(share.receiving))
                if now < oldest.accepted_at + self._within_ms / 1000:
                    break
                text = f"its message did not come within {self._within_ms} ms (limits.receive_ms)"
                self._drop(oldest, refused("DEADLINE_EXCEEDED", text))
            self._receive_next(share, now)
            if not share.waiting:
                self._shares.discard(share)

    def _receive_next(self, share: PoolShare[Rpc], now: float) -> None:
        """Begin to receive waiting calls, in place of calls whose patience is over."""
        while share.behind:
            if len(share.receiving) >= MAX_RECEIVING:
                oldest = next(iter(share.receiving))
                if now < oldest.receiving_since + share.patience:
                    return
                self._drop(oldest, refused("OVERLOADED", f"later calls {_wait(share)}; retry later"))
            rpc = share.behind.popleft()
            if rpc.ended:
                self.waiting -= 1
                rpc.plan.refuse(rpc, cancelled_error())
            else:
                rpc.receiving_since = now
                share.receiving[rpc] = None
                rpc.receive()

    def _drop(self, rpc: Rpc, error: Exception) -> None:
        del rpc.plan.share.receiving[rpc]
        self.waiting -= 1
        rpc.plan.refuse(rpc, error)

    def _end_empty(self, rpc: Rpc) -> None:
        if rpc.ended:
            rpc.plan.refuse(rpc, cancelled_error())
        elif rpc.plan.streams:
            self._submit(rpc, None)
        else:
            rpc.plan.refuse(rpc, invalid("request", "one message is needed, none was sent"))

    def _submit(self, rpc: Rpc, message: bytes | None) -> None:
        share = rpc.plan.share
        if share.full:
            self._refuse_full(rpc)
            return
        try:
            share.pool.submit_for(share, rpc.plan.run, rpc, message)
        except RuntimeError:
            rpc.plan.refuse(rpc, refused("OVERLOADED", "no thread for the call; retry later"))

    @staticmethod
    def _refuse_full(rpc: Rpc) -> None:
        share = rpc.plan.share
        part = "is full" if share.pool.full else "has half of its places taken by this caller"
        rpc.plan.refuse(rpc, refused("OVERLOADED", f"the {share.pool.name} pool {part}; retry later"))


def _do_nothing() -> None:
    pass


def _wait(share: PoolShare[Rpc]) -> str:
    return f"of this caller wait for their messages in the {share.pool.name} pool"

"""Calls whose message has not come yet. They hold neither a thread nor a place in a pool.

They are bounded in number, in time, and by what their messages may weigh: of one principal's calls in one
pool at most :data:`MOST_RECEIVING` are received at once, and the others wait for those.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from ..rpc.pool import PoolShare
from ..status import invalid, refused
from .rpc import Rpc, over

# Of one principal in one pool: a message may have 12 MiB, and what has come of it is kept.
MOST_RECEIVING: Final = 16
# Of all principals. Beyond it each may have one more.
MOST_WAITING: Final = 4_096
LOOK_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 0.5
# A call that ended without a message was cancelled, if that is told within this time.
CANCEL_SECONDS: Final = 0.02


class Receiving:
    """The calls of one server that wait for their message. Only the polling thread calls it."""

    def __init__(self, receive_ms: int) -> None:
        """Refuse calls whose message has not come within ``receive_ms``."""
        self.waiting = 0
        self._within_ms = receive_ms
        self._shares: set[PoolShare[Rpc]] = set()
        self._without: deque[tuple[float, Rpc]] = deque()
        self._look_at = 0.0

    @property
    def pause(self) -> float:
        """Seconds after which :meth:`look` is due."""
        if self._without:
            return CANCEL_SECONDS
        return LOOK_SECONDS if self.waiting else IDLE_SECONDS

    def begin(self, rpc: Rpc) -> None:
        """Begin to wait for the message of a call, or refuse the call."""
        share = rpc.plan.share
        if share.full:
            self._refuse_full(rpc)
        elif share.waiting >= share.limit or (self.waiting >= MOST_WAITING and share.waiting):
            rpc.plan.refuse(rpc, refused("OVERLOADED", f"too many calls {_wait(share)}; retry later"))
        else:
            self.waiting += 1
            self._shares.add(share)
            if share.behind or len(share.receiving) >= MOST_RECEIVING:
                share.behind.append(rpc)
                self._go_on(share, time.monotonic())
            else:
                share.receiving[rpc] = None
                rpc.receive()

    def arrived(self, rpc: Rpc, message: bytes | None) -> None:
        """Take the message of a call, None if there is none, and give the call a place in its pool."""
        share = rpc.plan.share
        del share.receiving[rpc]
        self.waiting -= 1
        if share.behind:
            self._go_on(share, time.monotonic())
        if message is None:
            self._without.append((time.monotonic() + CANCEL_SECONDS, rpc))
        else:
            self._hand_on(rpc, message)

    def drop(self, rpc: Rpc, error: Exception) -> None:
        """Refuse a call whose message has come."""
        self._drop(rpc, error)
        self._go_on(rpc.plan.share, time.monotonic())

    def look(self, now: float) -> None:
        """Refuse calls whose message has not come in time; ``now`` is of the monotonic clock."""
        while self._without and (self._without[0][1].over or now >= self._without[0][0]):
            self._end_without(self._without.popleft()[1])
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        for share in list(self._shares):
            while share.receiving:
                oldest = next(iter(share.receiving))
                if now < oldest.came_at + self._within_ms / 1000:
                    break
                text = f"its message did not come within {self._within_ms} ms (limits.receive_ms)"
                self._drop(oldest, refused("DEADLINE_EXCEEDED", text))
            self._go_on(share, now)
            if not share.waiting:
                self._shares.discard(share)

    def _go_on(self, share: PoolShare[Rpc], now: float) -> None:
        """Begin to receive what waits for that, in place of what had its time."""
        while share.behind:
            if len(share.receiving) >= MOST_RECEIVING:
                oldest = next(iter(share.receiving))
                if now < oldest.received_from + share.patience:
                    return
                self._drop(oldest, refused("OVERLOADED", f"later calls {_wait(share)}; retry later"))
            rpc = share.behind.popleft()
            if rpc.over:
                self.waiting -= 1
                rpc.plan.refuse(rpc, over())
            else:
                rpc.received_from = now
                share.receiving[rpc] = None
                rpc.receive()

    def _drop(self, rpc: Rpc, error: Exception) -> None:
        del rpc.plan.share.receiving[rpc]
        self.waiting -= 1
        rpc.plan.refuse(rpc, error)

    def _end_without(self, rpc: Rpc) -> None:
        if rpc.over:
            rpc.plan.refuse(rpc, over())
        elif rpc.plan.streams:
            self._hand_on(rpc, None)
        else:
            rpc.plan.refuse(rpc, invalid("request", "one message is needed, none was sent"))

    def _hand_on(self, rpc: Rpc, message: bytes | None) -> None:
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


def _wait(share: PoolShare[Rpc]) -> str:
    return f"of this caller wait for their messages in the {share.pool.name} pool"

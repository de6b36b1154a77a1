"""One principal's part of a lane."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .lane import Lane
    from .transport.rpc import Rpc

# How long a call keeps one of its principal's receptions from a later call that waits for one.
PATIENCE_SECONDS: Final = 0.2


class Share:
    """One principal's part of a lane: at most half, so that no one principal can fill it.

    ``held`` counts its calls that run or wait for a thread. Its calls whose message has not come hold
    nothing of the lane: ``receiving`` those that are received, ``behind`` those that wait for that. Both
    are the polling thread's.
    """

    __slots__ = ("behind", "held", "lane", "most", "patience", "receiving")

    def __init__(self, lane: Lane, *, strangers: bool = False) -> None:
        """Hold nothing of ``lane`` yet.

        ``strangers`` are many in one part, which is the whole: their newest call has no patience with their
        oldest.
        """
        self.lane = lane
        self.most = lane.capacity if strangers else (lane.capacity + 1) // 2
        self.held = 0
        self.patience = 0.0 if strangers else PATIENCE_SECONDS
        # In the order in which they came.
        self.receiving: dict[Rpc, None] = {}
        self.behind: deque[Rpc] = deque()

    @property
    def full(self) -> bool:
        """Return whether the next call must be refused: the lane is full, or this part of it."""
        return self.held >= self.most or self.lane.held >= self.lane.capacity

    @property
    def waiting(self) -> int:
        """Return how many calls wait for their message."""
        return len(self.receiving) + len(self.behind)

    def release(self) -> None:
        """Give a place back."""
        with self.lane.count_lock:
            self.lane.held -= 1
            self.held -= 1

"""Plans for the calls of one method by one principal: part of a lane, and handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..credentials import Principal
from ..share import Share
from .rpc import Rpc

Run: TypeAlias = Callable[[Rpc, bytes | None], None]
Arrived: TypeAlias = Callable[[Rpc, bytes | None], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan for a call.

    ``run`` is called in a thread of the lane with the call and its first message, None for a stream without
    any; it ends the call and raises nothing. ``refuse`` ends one that gets no thread. ``arrived`` takes the
    first message on the polling thread.
    """

    share: Share
    streams: bool
    run: Run
    refuse: Callable[[Rpc, Exception], None]
    arrived: Arrived
    # None: nobody in particular.
    principal: Principal | None = None

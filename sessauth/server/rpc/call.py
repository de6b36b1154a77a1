"""One call on its way through the interceptors: what is known of it so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..keys.credentials import Principal
from ..status import refused
from ..transport.rpc import Rpc
from .access import Rule

NOBODY = Principal("", "")


class CallContext:
    """One call. ``started`` and ``deadline`` are in seconds of the monotonic clock.

    ``deadline`` is 0 until it was judged; ``principal`` is :data:`NOBODY` while who calls is not known.
    ``accepted(call)``, which streams have, raises once their credential is no longer accepted. ``span`` is
    what the tracing of the process keeps of it, None without any. ``judged_by`` is what a caller without an
    API key was judged by, ``session_id`` the session that its message names, empty if none.
    """

    __slots__ = (
        "accepted",
        "context",
        "deadline",
        "judged_by",
        "method",
        "principal",
        "rule",
        "session_id",
        "span",
        "started",
    )

    accepted: Callable[[CallContext], None]

    def __init__(self, method: str, rule: Rule, context: Rpc, principal: Principal = NOBODY) -> None:
        """Begin now."""
        self.method = method
        self.rule = rule
        self.context = context
        self.started = time.monotonic()
        self.deadline = 0.0
        self.principal = principal
        self.span: Any = None
        self.judged_by: object = None
        self.session_id = b""

    @property
    def remaining(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def require_time(self) -> None:
        """Refuse to begin what nobody waits for any more."""
        if self.remaining <= 0.0 or not self.context.is_active():
            raise refused("DEADLINE_EXCEEDED", "the deadline passed before the call was begun")

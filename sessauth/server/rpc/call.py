"""The state of one call on its way through the interceptors."""

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

    ``deadline`` is 0 until it was checked. ``principal`` is :data:`NOBODY` while the caller is not
    authenticated. ``require_accepted(call)``, which streams have, raises UNAUTHENTICATED once the credential
    is no longer accepted. ``span`` is the state of tracing, None without it. ``authenticated_by`` is the
    table of certificate identities that a caller without an API key was found in. ``session_id`` is the
    session that the message names, empty if none.
    """

    __slots__ = (
        "authenticated_by",
        "context",
        "deadline",
        "method",
        "principal",
        "require_accepted",
        "rule",
        "session_id",
        "span",
        "started",
    )

    require_accepted: Callable[[CallContext], None]

    def __init__(self, method: str, rule: Rule, context: Rpc, principal: Principal = NOBODY) -> None:
        """Begin now."""
        self.method = method
        self.rule = rule
        self.context = context
        self.started = time.monotonic()
        self.deadline = 0.0
        self.principal = principal
        self.span: Any = None
        self.authenticated_by: object = None
        self.session_id = b""

    @property
    def remaining(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def raise_if_expired(self) -> None:
        """Raise DEADLINE_EXCEEDED if no one waits for the call any more."""
        if self.remaining <= 0.0 or not self.context.is_active():
            raise refused("DEADLINE_EXCEEDED", "the deadline passed before the call was begun")

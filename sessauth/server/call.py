"""One call on its way through the interceptors: what is known of it so far."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

import grpc

from .access import Rule
from .credentials import Principal
from .status import refused

# Set on the polling thread when the credential was right, so that it is not hashed twice.
EARLY_PRINCIPAL: ContextVar[Principal | None] = ContextVar("sessauth_early_principal", default=None)
NOBODY = Principal("", "")


@dataclass(slots=True)
class Call:
    """One call. ``deadline`` is in seconds of the monotonic clock; 0 until it was judged."""

    method: str
    rule: Rule
    context: grpc.ServicerContext
    started: float = field(default_factory=time.monotonic)
    deadline: float = 0.0
    principal: Principal = NOBODY

    @property
    def remaining(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def require_time(self) -> None:
        """Refuse to begin what nobody waits for any more."""
        if self.remaining <= 0.0 or not self.context.is_active():
            raise refused("DEADLINE_EXCEEDED", "the deadline passed before the call was begun")


class Interceptor(Protocol):
    """Judges a call before its message is read; is told how it ended."""

    def enter(self, call: Call) -> None:
        """Judge the call; raise to refuse it."""
        ...

    def leave(self, call: Call, error: BaseException | None) -> None:
        """Take note of how the call ended: ``error`` is None if it was answered."""
        ...

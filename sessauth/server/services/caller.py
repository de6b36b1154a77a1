"""Rules of all services for the caller: the sessions it sees, its process, and its patience."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final, TypeVar

from ...model.session import Session
from ..rpc.access import ISSUER
from ..rpc.call import CallContext
from ..status import refused

UNIX: Final = "unix:"
# Steps of a long request between two checks of its deadline.
STEPS_BETWEEN_CHECKS: Final = 256

R = TypeVar("R")


def owner_visible(owner: str, call: CallContext) -> bool:
    """Return True if the caller sees the sessions of ``owner``: an issuer sees only its own."""
    return call.principal.role != ISSUER or call.principal.name == owner


def require_visible(session: Session | None, call: CallContext) -> Session:
    """Return the session if the caller sees it.

    Raises NOT_FOUND otherwise, the same for a session of another issuer and for none at all.
    """
    if session is None or not owner_visible(session.owner, call):
        raise refused("NOT_FOUND", "session_id: no such session")
    return session


def require_unix_socket(call: CallContext) -> None:
    """Refuse a worker's call that did not come over the Unix socket."""
    if not call.context.peer().startswith(UNIX):
        raise refused("PERMISSION_DENIED", "workers call over the Unix socket")


def deadline_checked(
    step: Callable[..., R], call: CallContext, every: int = STEPS_BETWEEN_CHECKS
) -> Callable[..., R]:
    """Return ``step`` with a deadline check now and then: a long search ends with its caller."""
    steps = itertools.count(1)

    def checked(*args: object) -> R:
        if next(steps) % every == 0:
            call.raise_if_expired()
        return step(*args)

    return checked

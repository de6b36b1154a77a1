"""The base of the services: their methods by RPC, and their rules for callers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import ClassVar, Final, TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from ...model.lineage import SessionLookup
from ...model.session import Session
from ..rpc.access import ISSUER
from ..rpc.call import CallContext
from ..status import refused

UNIX: Final = "unix:"
# Steps of a long request between two checks of its deadline.
STEPS_BETWEEN_CHECKS: Final = 256

R = TypeVar("R")


class Service:
    """Base of a service: each RPC is answered by the method of its name, in snake case."""

    descriptor: ClassVar[ServiceDescriptor]

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        names = [rpc.name for rpc in self.descriptor.methods]
        return {name: getattr(self, re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()) for name in names}


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


def readable(sessions: SessionLookup, call: CallContext) -> Callable[[Session], Session]:
    """Return a function that returns a session as the caller may read it.

    It withholds the reason of an end or a suspension that was inherited from a session that the caller does
    not see.
    """

    @cache
    def sees(ancestor_id: bytes) -> bool:
        ancestor = sessions.get_session(ancestor_id)
        return ancestor is not None and owner_visible(ancestor.owner, call)

    def read(session: Session) -> Session:
        hidden = session.inherited_from and call.principal.role == ISSUER and not sees(session.inherited_from)
        return replace(session, reason="") if hidden else session

    return read


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

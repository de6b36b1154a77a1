"""The base of the services: their methods by RPC, their rules for callers, and the service for workers.

ForwardService answers calls that a worker forwards to the control process. The worker states its caller, whom
it authenticated by the same file of credentials. This process accepts that statement only with the credential
that it gave its own workers, and only over the Unix socket.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Final, TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from ...model.session import Session, SessionLookup
from ...v1 import forward_service_pb2 as pb
from ..keys.credentials import Principal
from ..rpc.access import GATEWAY, ISSUER
from ..rpc.call import CallContext, RawHandler
from ..status import invalid, refused
from ..transport.rpc import UNIX

# Steps of a long request between two checks of its deadline.
STEPS_BETWEEN_CHECKS: Final = 256

R = TypeVar("R")


class Service:
    """Base of a service: each RPC is answered by the method of its name, in snake case."""

    descriptor: ClassVar[ServiceDescriptor]

    def methods(self) -> Mapping[str, Callable[..., object] | RawHandler]:
        """Return the RPCs of the service by name."""
        names = [rpc.name for rpc in self.descriptor.methods]
        return {name: getattr(self, re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()) for name in names}


def owner_visible(owner: str, call: CallContext) -> bool:
    """Return True if the caller sees the sessions of ``owner``: an issuer sees only its own."""
    return call.principal.role != ISSUER or call.principal.name == owner


def require_owner_visible(owner: str | None, call: CallContext) -> None:
    """Raise NOT_FOUND unless there is a session of this owner, and the caller sees it."""
    if owner is None or not owner_visible(owner, call):
        raise refused("NOT_FOUND", "session_id: no such session")


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


# The RPCs of AuthorizationService that workers forward.
FORWARDED: Final = ("Check", "CheckBatch", "Commit", "Release")


class ForwardService(Service):
    """Answers ForwardService with the control process's own handlers."""

    descriptor = pb.DESCRIPTOR.services_by_name["ForwardService"]

    def __init__(self, handlers: Mapping[str, Callable[..., object] | RawHandler]) -> None:
        """Answer with the handlers of AuthorizationService, those of :data:`FORWARDED`."""
        self._answers: dict[str, Callable[[bytes, CallContext], Any]] = {
            name: handler.answer for name in FORWARDED if isinstance(handler := handlers[name], RawHandler)
        }

    def forward(self, request: pb.ForwardRequest, call: CallContext) -> pb.ForwardResponse:
        """Answer the call as if the worker's caller had called here."""
        require_unix_socket(call)
        answer = self._answers.get(request.method)
        if answer is None:
            raise invalid("method", f"must be one of {', '.join(self._answers)}")
        if not request.principal:
            raise invalid("principal", "is required: the worker's caller")
        principal = Principal(request.principal, GATEWAY, tuple(request.audiences))
        original = CallContext(call.method, call.rule, call.context, principal)
        original.deadline = call.deadline
        original.span = call.span
        return pb.ForwardResponse(response=answer(request.request, original))

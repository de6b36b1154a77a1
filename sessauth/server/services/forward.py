"""ForwardService: answers calls that a worker forwards to the control process.

The worker states its caller, whom it authenticated by the same file of credentials. This process accepts
that statement only with the credential that it gave its own workers, and only over the Unix socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ...v1 import forward_service_pb2 as pb
from ..keys.credentials import Principal
from ..rpc.access import GATEWAY
from ..rpc.call import CallContext
from ..rpc.method import RawHandler
from ..status import invalid
from .base import Service, require_unix_socket

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

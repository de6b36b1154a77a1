"""ForwardService: answers what a worker was asked and only this process can do.

Who asked the worker, the worker says; it has judged that itself, by the same file of credentials. So
its word is taken only with the credential that this process gave its own workers, and only over the
Unix socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ...v1 import forward_service_pb2 as pb
from ..keys.credentials import Principal
from ..rpc.access import GATEWAY
from ..rpc.call import CallContext
from ..rpc.method import RawHandler
from ..status import invalid, refused

# RPCs of AuthorizationService that are handed on.
FORWARDED: Final = ("Check", "CheckBatch", "Commit", "Release")
UNIX: Final = "unix:"


class ForwardService:
    """Answers ForwardService by the control process's own answers."""

    def __init__(self, answers: Mapping[str, Callable[..., object] | RawHandler]) -> None:
        """Answer by the methods of AuthorizationService, those of :data:`FORWARDED`."""
        self._answers: dict[str, Callable[[bytes, CallContext], Any]] = {
            name: answer.answer for name in FORWARDED if isinstance(answer := answers[name], RawHandler)
        }

    def forward(self, request: pb.ForwardRequest, call: CallContext) -> pb.ForwardResponse:
        """Answer the call as if who asked the worker had asked here."""
        if not call.context.peer().startswith(UNIX):
            raise refused("PERMISSION_DENIED", "workers call over the Unix socket")
        answer = self._answers.get(request.method)
        if answer is None:
            raise invalid("method", f"must be one of {', '.join(self._answers)}")
        if not request.principal:
            raise invalid("principal", "is required: who asked the worker")
        asked = CallContext(
            call.method,
            call.rule,
            call.context,
            Principal(request.principal, GATEWAY, tuple(request.audiences)),
        )
        asked.deadline = call.deadline
        asked.span = call.span
        return pb.ForwardResponse(response=answer(request.request, asked))

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        return {"Forward": self.forward}

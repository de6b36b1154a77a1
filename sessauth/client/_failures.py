"""gRPC failures as the package's errors, for both clients.

A server gives its reason in ``google.rpc.ErrorInfo`` (a stable word) and ``google.rpc.BadRequest`` (the
field). Without these the status code alone decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from ..errors import (
    MalformedToken,
    NotExtendable,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Rejected,
    ServerError,
    SessauthError,
    StateFull,
    StateUnusable,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UsageError,
)
from ._target import is_local

DETAILS_KEY: Final = "grpc-status-details-bin"

# A rejection: the request was understood and breaks a rule. Repeating it changes nothing.
_REJECTING: Final = frozenset(
    {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS}
)
# No answer that counts; the same request may succeed later.
_UNAVAILABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
# The first words of gRPC's message when it found no connection: nothing of the call was sent. With any other
# message the request may have been sent.
_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "errors resolving ",
    "DNS resolution failed",
)


class RpcFailure(Protocol):
    """A failed call, blocking or asyncio."""

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        ...

    def details(self) -> str | None:
        """Return the status message."""
        ...

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """Return the trailers, which hold the details."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """The content of a failed call: code, message, the server's word and field."""

    code: grpc.StatusCode
    message: str
    word: str = ""
    field: str = ""

    @classmethod
    def read(cls, failure: RpcFailure) -> Failure:
        """Read a failed call. Details that can't be parsed are ignored."""
        word, field = "", ""
        message = failure.details() or ""
        for key, value in failure.trailing_metadata() or ():
            if key != DETAILS_KEY or not isinstance(value, bytes):
                continue
            try:
                word, field, described = _read_details(value)
            except DecodeError:
                continue
            message = described or message
        # An error puts the word in front of its message where it belongs there.
        return cls(failure.code(), message.removeprefix(f"{word}: ") if word else message, word, field)

    @property
    def never_sent(self) -> bool:
        """True if there was no connection to send the call on."""
        return (
            self.code is grpc.StatusCode.UNAVAILABLE
            and not self.word
            and self.message.startswith(_NEVER_SENT)
        )

    @property
    def elsewhere(self) -> bool:
        """True if another server may answer well: this one gave no answer, or does not lead."""
        return self.code in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            # By a server that ends: this client cancels no call that it would repeat.
            grpc.StatusCode.CANCELLED,
        )

    @property
    def brief(self) -> str:
        """The server's word and message, or the reason for its silence."""
        if self.word:
            return f"{self.word}: {self.message}"
        return self._last_part() or self.code.name

    def error(
        self, *, target: str, timeout_ms: int, request_id: str = "", sent_before: bool = False
    ) -> SessauthError:
        """Return the error to raise.

        ``request_id`` is named where a change may have been made. ``sent_before``: an earlier attempt of the
        call may have reached a server.
        """
        if self.word == "STATE_FULL":
            return StateFull(self.message)
        if self.word == "OUTCOME_UNKNOWN":
            return OutcomeUnknown(self.message + repeat_hint(request_id))
        if self.word == "STATE_UNUSABLE":
            return StateUnusable(self.message, self.word)
        if self.word == "MALFORMED_TOKEN":
            return MalformedToken(self.message)
        if self.word == "NOT_EXTENDABLE":
            return NotExtendable(self.message)
        if self.code is grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(
                self.message or "the credential is missing or wrong; see SESSAUTH_CREDENTIAL_FILE", self.word
            )
        if self.code is grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDenied(
                self.message or "the credential's role does not reach that far", self.word
            )
        if self.code is grpc.StatusCode.NOT_FOUND:
            return NotFound(self.message or "not found", self.word, self.field)
        if self.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
            return UsageError(f"{self.field}: {self.message}" if self._lacks_field() else self.message)
        if self.code in _REJECTING:
            return Rejected(self.word or self.code.name, self.message)
        if self.never_sent and not sent_before:
            return Unreachable(
                f"{target} can't be reached ({self._last_part()}), so nothing was done. If no server runs "
                f"there, start one: 'sessauth serve', or 'make serve' in a checkout{_tls_hint(target)}"
            )
        if self.code in _UNAVAILABLE:
            return Unavailable(self._unavailable(target, timeout_ms) + repeat_hint(request_id), self.word)
        return ServerError(f"{self.code.name}: {self.message}", self.word, self.field)

    def _lacks_field(self) -> bool:
        return bool(self.field) and not self.message.startswith(self.field)

    def _unavailable(self, target: str, timeout_ms: int) -> str:
        if self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} did not answer within {timeout_ms} ms; raise timeout_ms if that is too short"
        if self.code is grpc.StatusCode.UNAVAILABLE and not self.word:
            outcome = "can't be reached any more" if self.never_sent else "did not answer"
            return f"{target} {outcome} ({self._last_part()})"
        return f"{target} did not serve the call: {self.message or self.code.name}"

    def _last_part(self) -> str:
        # gRPC repeats the address; the last part is the reason.
        return self.message.rpartition(": ")[2]


def unreadable() -> ServerError:
    """Return the error for an answer that is no message. grpc.aio returns None for one, where grpc fails."""
    return ServerError(f"{grpc.StatusCode.INTERNAL.name}: Exception deserializing response!")


def _tls_hint(target: str) -> str:
    # gRPC reports a failed handshake only as a closed connection.
    if is_local(target):
        return ". If it runs elsewhere, name it: SESSAUTH_HOME or SESSAUTH_TARGET"
    return (
        ". If one does, the handshake of TLS may have failed: see whether it speaks TLS, whether its "
        "certificate is signed by the given CA and names the host, and whether it wants one of the client "
        "(tcp.client_ca)"
    )


def repeat_hint(request_id: str) -> str:
    """Return the end of a message about a change that may have been made; empty without an id."""
    if not request_id:
        return ""
    return f". The change may have been made: repeat it with request_id {request_id!r} to learn its outcome"


def _read_details(value: bytes) -> tuple[str, str, str]:
    word, field, described = "", "", ""
    for detail in Status.FromString(value).details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
            word = info.reason
        elif detail.Is(BadRequest.DESCRIPTOR):
            request = BadRequest()
            detail.Unpack(request)
            if request.field_violations:
                field = request.field_violations[0].field
                described = request.field_violations[0].description
    return word, field, described

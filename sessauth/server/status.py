"""Maps errors to gRPC statuses, in one table.

A word (an error's reason, or the log's rejection) has one gRPC code. The caller gets that code, a
``google.rpc.ErrorInfo`` with the word as its reason, and a ``BadRequest`` if a field is at fault. An error
that is not in the table is a fault of the server: it is logged whole and sent as ``INTERNAL`` without detail.
"""

from __future__ import annotations

import concurrent.futures
import re
from collections.abc import Mapping
from typing import Final

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from .. import errors
from .._fast._check import masked
from ..state.writer.group import EngineFull

DOMAIN: Final = "sessauth"
MAX_DETAIL_CHARS: Final = 1_000
FIELD: Final = re.compile(r"([a-z_]+(?:\[[^\]]*\])?(?:\.[a-z_]+(?:\[[^\]]*\])?)*): ")
Code = grpc.StatusCode

CODES: Final[Mapping[str, grpc.StatusCode]] = {
    # The caller's request.
    "INVALID_ARGUMENT": Code.INVALID_ARGUMENT,
    "INVALID": Code.INVALID_ARGUMENT,
    "SCOPE_UNREADABLE": Code.INVALID_ARGUMENT,
    "DEADLINE_REQUIRED": Code.INVALID_ARGUMENT,
    "MALFORMED_TOKEN": Code.INVALID_ARGUMENT,
    "NOT_EXTENDABLE": Code.FAILED_PRECONDITION,
    "WIDENS": Code.FAILED_PRECONDITION,
    # The caller.
    "UNAUTHENTICATED": Code.UNAUTHENTICATED,
    "PERMISSION_DENIED": Code.PERMISSION_DENIED,
    "OTHER_HOST": Code.PERMISSION_DENIED,
    # A token of an identity provider.
    "IDENTITY_MALFORMED": Code.INVALID_ARGUMENT,
    "IDENTITY_WRONG_KIND": Code.INVALID_ARGUMENT,
    "IDENTITY_UNTRUSTED": Code.UNAUTHENTICATED,
    "IDENTITY_EXPIRED": Code.UNAUTHENTICATED,
    "IDENTITY_PROOF_REQUIRED": Code.UNAUTHENTICATED,
    "IDENTITY_REPLAYED": Code.UNAUTHENTICATED,
    "IDENTITY_NOT_GRANTED": Code.PERMISSION_DENIED,
    "IDENTITY_REQUIRED": Code.PERMISSION_DENIED,
    "IDENTITY_SESSION_ENDED": Code.PERMISSION_DENIED,
    "IDENTITY_CUT": Code.PERMISSION_DENIED,
    "IDENTITY_KEYS_UNAVAILABLE": Code.UNAVAILABLE,
    "IDENTITY_STREAM_SILENT": Code.UNAVAILABLE,
    # Rejections of the log.
    "NOT_FOUND": Code.NOT_FOUND,
    "ALREADY_ENDED": Code.FAILED_PRECONDITION,
    "WRONG_STATUS": Code.FAILED_PRECONDITION,
    "PARENT_NOT_LIVE": Code.FAILED_PRECONDITION,
    "LIMIT": Code.FAILED_PRECONDITION,
    "EPOCH_MISMATCH": Code.ABORTED,
    "CONFLICT": Code.ALREADY_EXISTS,
    "ALREADY_EXISTS": Code.ALREADY_EXISTS,
    "COMPACTED": Code.FAILED_PRECONDITION,
    "NO_LEASE": Code.FAILED_PRECONDITION,
    "USES_EXHAUSTED": Code.FAILED_PRECONDITION,
    "BUDGET_EXHAUSTED": Code.FAILED_PRECONDITION,
    "APPROVAL_USED": Code.FAILED_PRECONDITION,
    "APPROVAL_DENIED": Code.FAILED_PRECONDITION,
    "BAD_APPROVAL": Code.FAILED_PRECONDITION,
    "BAD_PERMIT": Code.FAILED_PRECONDITION,
    "LAST_OPERATOR": Code.FAILED_PRECONDITION,
    "BANNED": Code.FAILED_PRECONDITION,
    # Registration of verifiers.
    "NAME_TAKEN": Code.FAILED_PRECONDITION,
    "HOST_ACTIVE": Code.FAILED_PRECONDITION,
    "OTHER_STATE": Code.FAILED_PRECONDITION,
    "BAD_RECEIPT": Code.FAILED_PRECONDITION,
    # The server's condition.
    # An operator denies everything for now.
    "FROZEN": Code.FAILED_PRECONDITION,
    "NOT_LIVE": Code.FAILED_PRECONDITION,
    # A gateway came to the control process for a check.
    "CHECKS_AT_WORKERS": Code.FAILED_PRECONDITION,
    "NO_ISSUER_KEY": Code.FAILED_PRECONDITION,
    "NO_TRANSACTION_KEY": Code.FAILED_PRECONDITION,
    "OVERLOADED": Code.RESOURCE_EXHAUSTED,
    "STATE_FULL": Code.RESOURCE_EXHAUSTED,
    "STATE_UNUSABLE": Code.UNAVAILABLE,
    "OUTCOME_UNKNOWN": Code.UNAVAILABLE,
    "KEY_FOLDER": Code.INTERNAL,
    "DEADLINE_EXCEEDED": Code.DEADLINE_EXCEEDED,
    "SHUTTING_DOWN": Code.UNAVAILABLE,
    "WRITER_UNREACHABLE": Code.UNAVAILABLE,
    "ENGINE_UNREACHABLE": Code.UNAVAILABLE,
    "ENGINE_FULL": Code.UNAVAILABLE,
    "NOT_IN_CLUSTER": Code.FAILED_PRECONDITION,
    "NOT_LEADER": Code.UNAVAILABLE,
    "OLD_FORMAT": Code.FAILED_PRECONDITION,
    "AUDIT_UNAVAILABLE": Code.UNAVAILABLE,
    "CANCELLED": Code.CANCELLED,
    "SLOW_READER": Code.CANCELLED,
    "INTERNAL": Code.INTERNAL,
}

# Exceptions without a reason of their own, the most derived first.
WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (errors.ScopeError, "SCOPE_UNREADABLE"),
    (errors.UsageError, "INVALID_ARGUMENT"),
    (errors.MalformedToken, "MALFORMED_TOKEN"),
    (errors.NotExtendable, "NOT_EXTENDABLE"),
    (errors.WidensAuthority, "WIDENS"),
    (errors.TokenError, "MALFORMED_TOKEN"),
    (errors.InvalidApproval, "BAD_APPROVAL"),
    (errors.InvalidReceipt, "BAD_RECEIPT"),
    (errors.StateFull, "STATE_FULL"),
    (errors.OutcomeUnknown, "OUTCOME_UNKNOWN"),
    (errors.NotLeader, "NOT_LEADER"),
    (errors.KeyFolderError, "KEY_FOLDER"),
    (EngineFull, "ENGINE_FULL"),
    (errors.StateError, "STATE_UNUSABLE"),
    (concurrent.futures.TimeoutError, "DEADLINE_EXCEEDED"),
)

# Texts in place of details that a caller must not learn.
WITHOUT_DETAIL: Final[Mapping[str, str]] = {
    "UNAUTHENTICATED": "the credential is missing or not accepted",
    "PERMISSION_DENIED": "this credential may not do that",
    "KEY_FOLDER": "the server's key folder is not usable; its log says why",
    "STATE_UNUSABLE": "the server's state is not usable; its log says why",
    "INTERNAL": "the server made a mistake; its log says which",
}


def invalid(field: str, message: str) -> errors.ServerError:
    """Return the error for a fault in a field of a request."""
    return errors.ServerError(f"{field}: {message}", reason="INVALID_ARGUMENT", field=field)


def refused(word: str, message: str) -> errors.ServerError:
    """Return the error for a word of :data:`CODES`."""
    return errors.ServerError(message, reason=word)


def word_of(error: BaseException) -> str:
    """Return the word of an error; ``INTERNAL`` for one that no caller can cause."""
    if isinstance(error, errors.ServerError) and error.reason in CODES:
        return error.reason
    if isinstance(error, errors.Rejected):
        return error.word if error.word in CODES else "INTERNAL"
    if isinstance(error, errors.IdentityRefused) and error.fault in CODES:
        return error.fault
    for kind, word in WORDS:
        if isinstance(error, kind):
            return word
    return "INTERNAL"


def field_of(error: BaseException) -> str:
    """Return the field of the request that is at fault; empty if none is.

    The log names it in front of the detail of a rejection: ``facts[2].name: ...``.
    """
    if isinstance(error, errors.ServerError):
        return error.field
    if isinstance(error, errors.IdentityRefused):
        if error.fault == "IDENTITY_REQUIRED":
            return "subject"
        return "identity_proof" if ": identity_proof: " in str(error) else "identity_token"
    match = FIELD.match(error.detail) if isinstance(error, errors.Rejected) else None
    return match.group(1) if match else ""


def to_status(error: BaseException) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Return the gRPC code and the full ``google.rpc.Status`` for an error."""
    word = word_of(error)
    code = CODES[word]
    message = WITHOUT_DETAIL.get(word) or str(error) or word
    message = masked(message)[:MAX_DETAIL_CHARS]
    details = [error_details_pb2.ErrorInfo(reason=word, domain=DOMAIN)]
    field = field_of(error)
    if field and word not in WITHOUT_DETAIL:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return code, status

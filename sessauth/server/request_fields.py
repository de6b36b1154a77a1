"""Converts between messages of the API and values of the package.

A value of the wrong size or form raises INVALID_ARGUMENT, or SCOPE_UNREADABLE, and names the request's field.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from .. import limits
from .._fast import _check as kernel
from .._fast._check import masked
from .._fast.codec import base64url
from ..crypto.keys import HolderPublicKey, KeyRecord
from ..errors import ScopeError, ServerError, UsageError
from ..model.approval import ApprovalRecord
from ..model.receipt import SignedReceipt
from ..model.session import Fact, Session
from ..scopes.scope import Condition, Scope
from ..v1 import receipt_pb2, record_pb2, session_service_pb2, token_pb2
from .status import invalid

ID_BYTES = 16
DIGEST_BYTES = 32

_ID_PREFIX = re.compile(f"[0-9a-f]{{{limits.MIN_ID_PREFIX_DIGITS},{2 * ID_BYTES}}}")

_Parsed = TypeVar("_Parsed", Scope, Condition)


def session_id(value: bytes, field: str = "session_id") -> bytes:
    """Return a session id of 16 bytes."""
    if len(value) != ID_BYTES:
        raise invalid(field, f"must be {ID_BYTES} bytes, not {len(value)}")
    return value


def optional_session_id(value: bytes, field: str) -> bytes:
    """Return a session id of 16 bytes, or an empty one."""
    return session_id(value, field) if value else b""


def digest(value: bytes, field: str) -> bytes:
    """Return a key id or block id of 32 bytes."""
    if len(value) != DIGEST_BYTES:
        raise invalid(field, f"must be {DIGEST_BYTES} bytes, not {len(value)}")
    return value


def digests(values: Sequence[bytes], field: str, most: int) -> list[bytes]:
    """Return up to ``most`` ids of 32 bytes."""
    if len(values) > most:
        raise invalid(field, f"must be at most {most}, not {len(values)}")
    return [digest(value, f"{field}[{index}]") for index, value in enumerate(values)]


def request_id(value: str) -> str:
    """Return the caller's request id, or a new one."""
    if len(value.encode()) > limits.MAX_REQUEST_ID_BYTES:
        raise invalid("request_id", f"must be at most {limits.MAX_REQUEST_ID_BYTES} bytes")
    return value or secrets.token_hex(16)


def text(value: str, field: str) -> str:
    """Return a text of at most 1024 bytes."""
    if len(value.encode()) > limits.MAX_STRING_BYTES:
        raise invalid(field, f"must be at most {limits.MAX_STRING_BYTES} bytes")
    return value


def named(request: Message, names: Iterable[str]) -> dict[str, object]:
    """Return these fields of a request: texts as :func:`text`, repeated ones as lists."""
    values: dict[str, object] = {}
    for name in names:
        value = getattr(request, name)
        if isinstance(value, str):
            text(value, name)
        values[name] = list(value) if isinstance(value, MutableSequence) else value
    return values


def scopes(texts: Sequence[str], field: str) -> list[Scope]:
    """Read scopes in text form; at least one, at most 64."""
    if not texts:
        raise invalid(field, "at least one scope is needed")
    if len(texts) > limits.MAX_SCOPES:
        raise invalid(field, f"must be at most {limits.MAX_SCOPES} scopes, not {len(texts)}")
    return [_read(Scope, value, f"{field}[{index}]") for index, value in enumerate(texts)]


def conditions(texts: Sequence[str], field: str) -> list[Condition]:
    """Read conditions in text form; at most 16."""
    if len(texts) > limits.MAX_CONDITIONS:
        raise invalid(field, f"must be at most {limits.MAX_CONDITIONS} conditions, not {len(texts)}")
    return [_read(Condition, value, f"{field}[{index}]") for index, value in enumerate(texts)]


def _read(kind: type[_Parsed], value: str, field: str) -> _Parsed:
    try:
        return kind.parse(value)
    except ScopeError as error:
        raise ServerError(f"{field}: {error}", reason="SCOPE_UNREADABLE", field=field) from error


_ENDINGS: Mapping[int, str] = {
    token_pb2.ENDING_UNSPECIFIED: "",
    token_pb2.ENDING_SEALED: "sealed",
    token_pb2.ENDING_OPEN: "open",
    token_pb2.ENDING_BOUND: "bound",
}


def ending(value: int, to: HolderPublicKey | None) -> str:
    """Return the word of a requested ending; empty if unset: SEALED, or BOUND with a holder."""
    word = _ENDINGS.get(value)
    if word is None:
        raise invalid("ending", "must be ENDING_SEALED, ENDING_OPEN or ENDING_BOUND")
    if to is not None and word not in ("", "bound"):
        raise invalid("ending", "must be unset or ENDING_BOUND beside next_key")
    if to is None and word == "bound":
        raise invalid("next_key", "is required with ENDING_BOUND: whom the token is bound to")
    return word


def holder(
    next_key: bytes, proof_key: bytes, may_seal: bool, issuers: Callable[[], Iterable[KeyRecord]]
) -> HolderPublicKey | None:
    """Return the holder that a token is to be bound to; None if no key is stated.

    ``issuers`` returns the issuer keys, none of which may be the holder's.
    """
    if not next_key:
        if proof_key or may_seal:
            raise invalid("next_key", "is required with proof_key and may_seal")
        return None
    try:
        key = HolderPublicKey(next_key, proof_key)
    except UsageError as error:
        field, _, message = str(error).partition(": ")
        raise invalid(field, message) from error
    if any(next_key == issuer.public_key for issuer in issuers()):
        raise invalid("next_key", "is an issuer key, which is never a holder's")
    return key


def facts(messages: Iterable[record_pb2.Fact], field: str) -> list[Fact]:
    """Read facts, each with a value."""
    read = []
    for index, message in enumerate(messages):
        encoded = message.SerializeToString(deterministic=True)
        try:
            read.append(Fact.from_record(kernel.decode_message("Fact", encoded)))
        except (kernel.WireError, UsageError) as error:
            raise invalid(f"{field}[{index}]", str(error)) from error
    return read


def key_message(key: KeyRecord) -> record_pb2.KeyRecord:
    """Return the message of an issuer key."""
    return record_pb2.KeyRecord.FromString(key.encode())


def approval_message(record: ApprovalRecord) -> record_pb2.ApprovalRecord:
    """Return the message of an approval."""
    return record_pb2.ApprovalRecord.FromString(record.encode())


def receipt_message(signed: SignedReceipt) -> receipt_pb2.SignedReceipt:
    """Return the message of a signed receipt."""
    return receipt_pb2.SignedReceipt(
        payload=signed.payload, issuer_key_id=signed.issuer_key_id, signature=signed.signature
    )


# Fields of the message whose values are those of the model.
_SAME_IN_SESSION = set(session_service_pb2.Session.DESCRIPTOR.fields_by_name) - {
    *("status", "ceilings", "facts", "end_cause")
}


def session_message(session: Session) -> session_service_pb2.Session:
    """Return the message of a session."""
    return session_service_pb2.Session(
        **{name: getattr(session, name) for name in _SAME_IN_SESSION},
        status=record_pb2.SessionStatus.Name(session.status),
        ceilings=[
            record_pb2.Ceiling.FromString(kernel.encode_message("Ceiling", {"scopes": list(layer)}))
            for layer in session.ceilings
        ],
        facts=[
            record_pb2.Fact.FromString(kernel.encode_message("Fact", fact.to_record()))
            for fact in session.facts
        ],
        end_cause=record_pb2.EndCause.Name(session.end_cause),
    )


def id_prefix(value: str) -> str:
    """Return the hex digits that ids begin with; too few would list everything."""
    if not _ID_PREFIX.fullmatch(value):
        least, most = limits.MIN_ID_PREFIX_DIGITS, 2 * ID_BYTES
        raise invalid("id_prefix", f"must be {least} to {most} hex digits in lower case")
    return value


def page_token(after: bytes) -> str:
    """Return the token of the page that begins after row ``after``; empty on the last page."""
    return base64url.encode(after)


def page_start(value: str, size: int = ID_BYTES) -> bytes:
    """Return the row, of ``size`` bytes, after which a page begins; empty for the first page.

    Sessions are paged by their id, approvals by their session's id and their own.
    """
    if not value:
        return b""
    try:
        after = base64url.decode(value)
    except ValueError:
        after = b""
    if len(after) != size:
        raise invalid("page_token", "is not one that this server gave")
    return after


def page_size(value: int) -> int:
    """Return how many entries a page has: 1 to 1000; 100 when unset."""
    if value > 1000:
        raise invalid("page_size", f"must be 1 to 1000, not {value}")
    return value or 100


def mask_texts(message: Message) -> None:
    """Mask tokens in a message's texts and maps of texts, not in messages inside.

    For a message that is stored, or sent to others than its caller.
    """
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, masked(value))
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            for name in [name for name, text in value.items() if isinstance(text, str)]:
                value[name] = masked(value[name])

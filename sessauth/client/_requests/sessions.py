"""The calls of SessionService, described. Both clients run these."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Required, TypedDict

from google.protobuf.message import Message

from ...errors import UsageError
from ...limits import MAX_TIME_MS
from ...model.session import Session
from ...scopes.scope import Scope
from ...scopes.value import Plain
from ...v1 import record_pb2
from ...v1 import session_service_pb2 as pb
from .._messages import fact_messages, session_from_message, sessions_page
from .._results import SessionPage
from .._transport import RpcRequest

STATUSES = {
    "": record_pb2.SESSION_STATUS_UNSPECIFIED,
    "active": record_pb2.SESSION_STATUS_ACTIVE,
    "suspended": record_pb2.SESSION_STATUS_SUSPENDED,
    "ended": record_pb2.SESSION_STATUS_ENDED,
}


def new_request_id() -> str:
    """Return a request id that nobody else makes."""
    return uuid.uuid4().hex


def check_id(name: str, value: bytes, size: int) -> bytes:
    """Return ``value`` if it is ``size`` bytes. Raises UsageError naming ``name`` otherwise."""
    if len(value) != size:
        raise UsageError(f"{name}: must be {size} bytes")
    return value


def check_count(name: str, value: int) -> int:
    """Return ``value`` if it is a count or a time in ms. Raises UsageError naming ``name`` otherwise."""
    if not 0 <= value <= MAX_TIME_MS:
        raise UsageError(f"{name}: {value} is not between 0 and {MAX_TIME_MS}")
    return value


def texts(name: str, items: Sequence[object]) -> list[str]:
    """Return ``items`` as texts; a lone string, which is a sequence too, is refused as a mistake."""
    if isinstance(items, str | bytes):
        raise UsageError(f"{name}: give a list, not one string")
    return [str(item) for item in items]


class OpenTerms(TypedDict, total=False):
    """What a session is opened with. ``subject`` and ``ceiling`` are required.

    ``ttl_ms`` 0: the server's default lifetime; ``lease_ms`` 0: no lease. ``visible_facts`` are the
    names of the facts that holders' blocks may test.
    """

    subject: Required[str]
    ceiling: Required[Sequence[Scope | str]]
    purpose: str
    facts: Mapping[str, Plain]
    visible_facts: Collection[str]
    labels: Mapping[str, str]
    ttl_ms: int
    lease_ms: int
    parent_id: bytes
    owner: str
    issuer_key_ids: Sequence[bytes]


def open_session(request_id: str, terms: OpenTerms) -> RpcRequest[Session]:
    """Describe OpenSession."""
    request_id = request_id or new_request_id()
    parent_id = terms.get("parent_id", b"")
    request = pb.OpenSessionRequest(
        request_id=request_id,
        subject=terms["subject"],
        purpose=terms.get("purpose", ""),
        ceiling=texts("ceiling", terms["ceiling"]),
        facts=fact_messages(terms.get("facts", {}), terms.get("visible_facts", ())),
        labels=dict(terms.get("labels", {})),
        ttl_ms=check_count("ttl_ms", terms.get("ttl_ms", 0)),
        lease_ms=check_count("lease_ms", terms.get("lease_ms", 0)),
        parent_id=check_id("parent_id", parent_id, 16) if parent_id else b"",
        owner=terms.get("owner", ""),
        issuer_key_ids=[check_id("issuer_key_ids", each, 32) for each in terms.get("issuer_key_ids", ())],
    )
    return _change("OpenSession", request, pb.OpenSessionResponse, request_id)


def get_session(session_id: bytes) -> RpcRequest[Session]:
    """Describe GetSession."""
    return RpcRequest(
        "SessionService/GetSession",
        pb.GetSessionRequest(session_id=check_id("session_id", session_id, 16)),
        pb.GetSessionResponse,
        _session,
    )


def list_sessions(
    status: str,
    subject: str,
    owner: str,
    parent_id: bytes,
    labels: Mapping[str, str] | None,
    id_prefix: str,
    page_size: int,
    page_token: str,
) -> RpcRequest[SessionPage]:
    """Describe ListSessions."""
    if status.lower() not in STATUSES:
        raise UsageError(f"status: {status!r} is not one of ACTIVE, SUSPENDED, ENDED")
    if not 0 <= page_size <= 1000:
        raise UsageError(f"page_size: {page_size} is not between 0 and 1000")
    request = pb.ListSessionsRequest(
        page_size=page_size,
        page_token=page_token,
        status=STATUSES[status.lower()],
        subject=subject,
        owner=owner,
        parent_id=check_id("parent_id", parent_id, 16) if parent_id else b"",
        labels=dict(labels or {}),
        id_prefix=id_prefix,
    )
    return RpcRequest("SessionService/ListSessions", request, pb.ListSessionsResponse, sessions_page)


def keep_alive(session_id: bytes) -> RpcRequest[int]:
    """Describe KeepAlive. The result is the lease's deadline, in ms since 1970."""
    return RpcRequest(
        "SessionService/KeepAlive",
        pb.KeepAliveRequest(session_id=check_id("session_id", session_id, 16)),
        pb.KeepAliveResponse,
        lambda answer: int(answer.lease_deadline_ms),
    )


def narrow(
    session_id: bytes, ceiling: Sequence[Scope | str], expected_epoch: int, request_id: str
) -> RpcRequest[Session]:
    """Describe NarrowSession."""
    request_id = request_id or new_request_id()
    return _change(
        "NarrowSession",
        pb.NarrowSessionRequest(
            request_id=request_id,
            session_id=check_id("session_id", session_id, 16),
            ceiling=texts("ceiling", ceiling),
            expected_epoch=check_count("expected_epoch", expected_epoch),
        ),
        pb.NarrowSessionResponse,
        request_id,
    )


def update_facts(
    session_id: bytes,
    facts: Mapping[str, Plain],
    visible_facts: Collection[str],
    remove: Collection[str],
    expected_epoch: int,
    request_id: str,
) -> RpcRequest[Session]:
    """Describe UpdateFacts."""
    request_id = request_id or new_request_id()
    return _change(
        "UpdateFacts",
        pb.UpdateFactsRequest(
            request_id=request_id,
            session_id=check_id("session_id", session_id, 16),
            set=fact_messages(facts, visible_facts),
            remove=sorted(remove),
            expected_epoch=check_count("expected_epoch", expected_epoch),
        ),
        pb.UpdateFactsResponse,
        request_id,
    )


def suspend(session_id: bytes, reason: str, expected_epoch: int, request_id: str) -> RpcRequest[Session]:
    """Describe SuspendSession."""
    request_id = request_id or new_request_id()
    return _change(
        "SuspendSession",
        pb.SuspendSessionRequest(
            request_id=request_id,
            session_id=check_id("session_id", session_id, 16),
            reason=reason,
            expected_epoch=check_count("expected_epoch", expected_epoch),
        ),
        pb.SuspendSessionResponse,
        request_id,
    )


def resume(session_id: bytes, reason: str, expected_epoch: int, request_id: str) -> RpcRequest[Session]:
    """Describe ResumeSession."""
    request_id = request_id or new_request_id()
    return _change(
        "ResumeSession",
        pb.ResumeSessionRequest(
            request_id=request_id,
            session_id=check_id("session_id", session_id, 16),
            reason=reason,
            expected_epoch=check_count("expected_epoch", expected_epoch),
        ),
        pb.ResumeSessionResponse,
        request_id,
    )


def _session(answer: Any) -> Session:
    return session_from_message(answer.session)


def _change(method: str, request: Message, answer: type[Message], request_id: str) -> RpcRequest[Session]:
    return RpcRequest(f"SessionService/{method}", request, answer, _session, request_id=request_id)

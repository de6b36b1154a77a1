"""Calls of operators, as described for both clients: keys, credentials, usage, status and clusters.

Verifiers describe their reports of usage by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from ..._fast import _check as kernel
from ...crypto.keys import KeyRecord, SignedVerifierKey
from ...errors import ServerError, UsageError
from ...model.server_status import ClusterStanding, HostStanding, ServerStatus
from ...tokens.block_draft import BlockInfo
from ...usage.session_usage import BlockObservation, ObservationAck, ObservationBatch
from ...v1 import cluster_service_pb2 as cluster_pb
from ...v1 import credential_service_pb2 as credential_pb
from ...v1 import feed_service_pb2 as feed_pb
from ...v1 import key_service_pb2 as key_pb
from ...v1 import status_service_pb2 as status_pb
from ...v1 import usage_service_pb2 as usage_pb
from .._results import (
    Activity,
    BlockCensus,
    Census,
    HostUsage,
    ListedCredential,
    Missing,
    ReportPage,
    SessionActivity,
    SessionReport,
    VerifierActivity,
)
from .._transport import RpcRequest
from .._usage_messages import batch_message, read_block, read_late, read_session
from .fields import (
    change,
    check_count,
    check_id,
    check_session_id,
    key_from_message,
    newer_server,
    session_from_message,
    texts,
)


def list_keys() -> RpcRequest[list[KeyRecord]]:
    """Describe ListKeys."""
    return RpcRequest(
        "KeyService/ListKeys",
        key_pb.ListKeysRequest(),
        key_pb.ListKeysResponse,
        lambda answer: [key_from_message(each) for each in answer.keys],
    )


def verifier_keys() -> RpcRequest[list[SignedVerifierKey]]:
    """Describe ListVerifierKeys. The result is unverified."""
    return RpcRequest(
        "KeyService/ListVerifierKeys",
        key_pb.ListVerifierKeysRequest(),
        key_pb.ListVerifierKeysResponse,
        lambda answer: [
            SignedVerifierKey(bytes(each.payload), bytes(each.issuer_key_id), bytes(each.signature))
            for each in answer.keys
        ],
    )


def jwks() -> RpcRequest[bytes]:
    """Describe GetJwks."""
    return RpcRequest(
        "KeyService/GetJwks",
        key_pb.GetJwksRequest(),
        key_pb.GetJwksResponse,
        lambda answer: bytes(answer.jwks),
    )


def add_key(public_key: bytes, owner: str, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe AddKey. Without a public key the server makes a pair each time: not repeatable."""
    request = key_pb.AddKeyRequest(
        public_key=check_id("public_key", public_key, 32) if public_key else b"", owner=owner
    )
    return _change("AddKey", request, key_pb.AddKeyResponse, request_id, repeatable=bool(public_key))


def activate(key_id: bytes | str, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe ActivateKey."""
    request = key_pb.ActivateKeyRequest(key_id=check_id("key_id", key_id, 32))
    return _change("ActivateKey", request, key_pb.ActivateKeyResponse, request_id)


def retire(key_id: bytes | str, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe RetireKey."""
    request = key_pb.RetireKeyRequest(key_id=check_id("key_id", key_id, 32))
    return _change("RetireKey", request, key_pb.RetireKeyResponse, request_id)


def distrust(key_id: bytes | str, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe DistrustKey."""
    request = key_pb.DistrustKeyRequest(key_id=check_id("key_id", key_id, 32))
    return _change("DistrustKey", request, key_pb.DistrustKeyResponse, request_id)


def admit_server(
    name: str, server_key: bytes, issuer_key: bytes, address: str, request_id: str
) -> RpcRequest[tuple[KeyRecord, KeyRecord]]:
    """Describe AdmitServer."""
    request = key_pb.AdmitServerRequest(
        name=name,
        server_key=check_id("server_key", server_key, 32),
        issuer_key=check_id("issuer_key", issuer_key, 32),
        address=address,
    )
    return change(
        "KeyService/AdmitServer",
        request,
        key_pb.AdmitServerResponse,
        lambda answer: (key_from_message(answer.server_key), key_from_message(answer.issuer_key)),
        request_id,
    )


def remove_host(name: str) -> RpcRequest[None]:
    """Describe RemoveHost."""
    request = feed_pb.RemoveHostRequest(host=name)
    return RpcRequest(
        "FeedService/RemoveHost", request, feed_pb.RemoveHostResponse, lambda answer: None, repeatable=False
    )


def _key(answer: Any) -> KeyRecord:
    return key_from_message(answer.key)


def _change(
    method: str, request: Message, answer: type[Message], request_id: str, *, repeatable: bool = True
) -> RpcRequest[KeyRecord]:
    return change(f"KeyService/{method}", request, answer, _key, request_id, repeatable=repeatable)


def list_credentials() -> RpcRequest[list[ListedCredential]]:
    """Describe ListCredentials."""
    return RpcRequest(
        "CredentialService/ListCredentials",
        credential_pb.ListCredentialsRequest(),
        credential_pb.ListCredentialsResponse,
        lambda answer: [_credential(each) for each in answer.credentials],
    )


def add_credential(
    name: str, role: str, secret_hash: bytes, audiences: Sequence[str], request_id: str
) -> RpcRequest[int]:
    """Describe AddCredential."""
    request = credential_pb.AddCredentialRequest(
        name=name,
        role=role,
        secret_hash=check_id("secret_hash", secret_hash, 32),
        audiences=texts("audiences", audiences),
    )
    return change(
        "CredentialService/AddCredential",
        request,
        credential_pb.AddCredentialResponse,
        lambda answer: int(answer.revision),
        request_id,
    )


def remove_credential(name: str, request_id: str) -> RpcRequest[int]:
    """Describe RemoveCredential."""
    return change(
        "CredentialService/RemoveCredential",
        credential_pb.RemoveCredentialRequest(name=name),
        credential_pb.RemoveCredentialResponse,
        lambda answer: int(answer.revision),
        request_id,
    )


def _credential(message: credential_pb.Credential) -> ListedCredential:
    return ListedCredential(
        message.name,
        message.role,
        tuple(message.audiences),
        message.added_at_ms,
        message.added_by,
        message.local,
    )


MAX_PAGE = 100
ACTIVITY_ORDERS = ("denied", "calls")


def report_observations(batch: ObservationBatch) -> RpcRequest[ObservationAck]:
    """Describe ReportObservations. A batch has a number: the server counts it once if it is sent again."""
    return RpcRequest(
        "UsageService/ReportObservations",
        batch_message(batch),
        usage_pb.ReportObservationsResponse,
        lambda answer: ObservationAck(answer.control_id, answer.wants_usage),
    )


def get_report(session_id: bytes | str) -> RpcRequest[SessionReport]:
    """Describe GetReport of one session."""
    request = usage_pb.GetReportRequest(session_id=check_session_id(session_id))
    return RpcRequest("UsageService/GetReport", request, usage_pb.GetReportResponse, _report)


def get_reports(session_ids: Sequence[bytes | str]) -> RpcRequest[tuple[SessionReport, ...]]:
    """Describe GetReport of some sessions."""
    if not 1 <= len(session_ids) <= MAX_PAGE:
        raise UsageError(f"session_ids: must be 1 to {MAX_PAGE}, not {len(session_ids)}")
    request = usage_pb.GetReportRequest(session_ids=map(check_session_id, session_ids))
    return RpcRequest(
        "UsageService/GetReport", request, usage_pb.GetReportResponse, lambda answer: _page(answer).reports
    )


def list_reports(purpose: str, page_size: int, page_token: str) -> RpcRequest[ReportPage]:
    """Describe GetReport of a purpose."""
    if not purpose:
        raise UsageError("purpose: must not be empty")
    request = usage_pb.GetReportRequest(
        purpose=purpose, page_size=check_count("page_size", page_size, MAX_PAGE), page_token=page_token
    )
    return RpcRequest("UsageService/GetReport", request, usage_pb.GetReportResponse, _page)


def list_activity(order: str, limit: int, words: str) -> RpcRequest[Activity]:
    """Describe ListActivity."""
    if order not in ACTIVITY_ORDERS:
        raise UsageError(f"order: must be one of {', '.join(ACTIVITY_ORDERS)}, not {order!r}")
    request = usage_pb.ListActivityRequest(
        order=f"ACTIVITY_ORDER_{order.upper()}", limit=check_count("limit", limit, MAX_PAGE), words=words
    )
    return RpcRequest("UsageService/ListActivity", request, usage_pb.ListActivityResponse, _activity)


def _activity(answer: usage_pb.ListActivityResponse) -> Activity:
    sessions = tuple(
        SessionActivity(session_from_message(each.session), tuple(each.allowed), tuple(each.denied))
        for each in answer.sessions
    )
    allowed, denied = tuple(answer.allowed), tuple(answer.denied)
    return Activity(
        sessions, allowed, denied, answer.elapsed_ms, answer.since_ms, tuple(_hosts(answer.hosts))
    )


def get_census(session_id: bytes | str) -> RpcRequest[Census]:
    """Describe GetCensus."""
    request = usage_pb.GetCensusRequest(session_id=check_session_id(session_id))
    return RpcRequest("UsageService/GetCensus", request, usage_pb.GetCensusResponse, _census)


def _report(answer: usage_pb.GetReportResponse) -> SessionReport:
    if len(answer.reports) != 1:
        raise ServerError("the server gave no report", "UNKNOWN_KIND")
    return _page(answer).reports[0]


def _page(answer: usage_pb.GetReportResponse) -> ReportPage:
    try:
        hosts = _hosts(answer.hosts)
        reports = tuple(replace(_read_report(each), hosts=hosts) for each in answer.reports)
        return ReportPage(reports, answer.next_page_token)
    except (ValueError, UsageError) as error:
        raise newer_server(error) from None


def _read_report(message: usage_pb.SessionReport) -> SessionReport:
    layers = [
        kernel.decode_message("Ceiling", layer.SerializeToString())["scopes"] for layer in message.inherited
    ]
    return SessionReport(
        session=session_from_message(message.session),
        inherited=tuple(map(tuple, layers)),
        observation=read_session(message.observation),
        verifiers=tuple(
            VerifierActivity(each.name, each.allowed, each.denied, each.reported_at_ms)
            for each in message.verifiers
        ),
        missing=_missing(message.missing),
    )


def _census(answer: usage_pb.GetCensusResponse) -> Census:
    try:
        return Census(
            tuple(
                BlockCensus(block, each.revoked, _info(block))
                for each in answer.blocks
                for block in (read_block(each.observation),)
            ),
            tuple(map(read_late, answer.late)),
            _missing(answer.missing),
            _hosts(answer.hosts),
        )
    except (ValueError, UsageError) as error:
        raise newer_server(error) from None


def _info(block: BlockObservation) -> BlockInfo | None:
    return BlockInfo.read(block.index, block.block_id, block.payload) if block.payload else None


def _missing(values: Iterable[int]) -> tuple[Missing, ...]:
    # A gap that only a later version knows becomes UNSPECIFIED.
    known = {int(each) for each in Missing}
    return tuple(Missing(value) if value in known else Missing.UNSPECIFIED for value in values)


def _hosts(messages: Iterable[usage_pb.HostUsage]) -> tuple[HostUsage, ...]:
    return tuple(
        HostUsage(
            each.name, each.since_ms, each.reported_at_ms, each.waiting, each.current, each.removed_at_ms
        )
        for each in messages
    )


def get_status() -> RpcRequest[ServerStatus]:
    """Describe GetStatus."""
    return RpcRequest(
        "StatusService/GetStatus", status_pb.GetStatusRequest(), status_pb.GetStatusResponse, _status
    )


def _status(answer: Any) -> ServerStatus:
    return ServerStatus(**{name: getattr(answer, name) for name in ServerStatus.__slots__})


def get_standing() -> RpcRequest[ClusterStanding]:
    """Describe GetStanding."""
    return RpcRequest(
        "ClusterService/GetStanding",
        cluster_pb.GetStandingRequest(),
        cluster_pb.GetStandingResponse,
        _standing,
    )


def _standing(answer: Any) -> ClusterStanding:
    values = {name: getattr(answer, name) for name in ClusterStanding.__slots__ if name != "hosts"}
    hosts = (
        HostStanding(**{name: getattr(host, name) for name in HostStanding.__slots__})
        for host in answer.hosts
    )
    return ClusterStanding(**values, hosts=tuple(hosts))

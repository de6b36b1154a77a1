"""Descriptions of EvidenceService's calls, and of a session's end, for both clients."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ...model.receipt import SignedReceipt, VerifierState
from ...model.registration import Registration
from ...model.session import Session
from ...v1 import evidence_service_pb2 as pb
from ...v1 import receipt_pb2
from ...v1 import session_service_pb2 as session_pb
from .._messages import field_values, newer_server, session_from_message
from .._results import EndedSession, RegisteredVerifier
from .._transport import RpcRequest
from .fields import change, check_session_id


def end(session_id: bytes, reason: str, request_id: str) -> RpcRequest[EndedSession]:
    """Describe EndSession."""
    request = session_pb.EndSessionRequest(session_id=check_session_id(session_id), reason=reason)
    return change("SessionService/EndSession", request, session_pb.EndSessionResponse, _ended, request_id)


def get_receipt(session_id: bytes) -> RpcRequest[SignedReceipt]:
    """Describe GetReceipt. The result is unverified."""
    return RpcRequest(
        "EvidenceService/GetReceipt",
        pb.GetReceiptRequest(session_id=check_session_id(session_id)),
        pb.GetReceiptResponse,
        lambda answer: _receipt(answer.receipt),
    )


def list_verifiers() -> RpcRequest[list[RegisteredVerifier]]:
    """Describe ListVerifiers."""
    return RpcRequest(
        "EvidenceService/ListVerifiers",
        pb.ListVerifiersRequest(),
        pb.ListVerifiersResponse,
        lambda answer: [_verifier(each) for each in answer.verifiers],
    )


def register_verifier(registration: Registration) -> RpcRequest[int]:
    """Describe RegisterVerifier. The result is the server's latest revision."""
    values = {item.name: getattr(registration, item.name) for item in fields(registration)}
    return RpcRequest(
        "EvidenceService/RegisterVerifier",
        pb.RegisterVerifierRequest(**values),
        pb.RegisterVerifierResponse,
        lambda answer: int(answer.revision),
    )


def _ended(answer: Any) -> EndedSession:
    session = session_from_message(answer.session)
    values = {item.name: getattr(session, item.name) for item in fields(Session)}
    return EndedSession(**values, receipt=_receipt(answer.receipt) if answer.HasField("receipt") else None)


def _receipt(message: receipt_pb2.SignedReceipt) -> SignedReceipt:
    return SignedReceipt(bytes(message.payload), bytes(message.issuer_key_id), bytes(message.signature))


def _verifier(message: pb.Verifier) -> RegisteredVerifier:
    try:
        kind = pb.VerifierKind.Name(message.kind).removeprefix("VERIFIER_KIND_")
        values = {**field_values(message), "kind": kind, "state": VerifierState(message.state)}
        return RegisteredVerifier(**values)
    except ValueError as error:
        raise newer_server(error) from None

"""Descriptions of CutOffService's calls, for both clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._fast import _check as kernel
from ...errors import UsageError
from ...model.ban import SessionBan, SessionSelector
from ...v1 import cut_off_service_pb2 as pb
from ...v1 import record_pb2
from .._messages import field_values, newer_server
from .._results import EndedSessions, FreezeState, SelectedSession
from .._transport import RpcRequest
from .fields import check_count


def selector(subject: str, owner: str, labels: Mapping[str, str] | None, all_: bool) -> SessionSelector:
    """Return the selector of a call's parameters. Raises UsageError."""
    parts = SessionSelector(subject, owner, tuple(sorted((labels or {}).items())), all_)
    wrong = parts.fault()
    if wrong:
        raise UsageError(f"selector: {wrong}")
    return parts


def end_sessions(
    parts: SessionSelector, reason: str, dry_run: bool, refuse_new_ms: int, page_token: str
) -> RpcRequest[EndedSessions]:
    """Describe EndSessions. A repeat leaves ended sessions alone."""
    request = pb.EndSessionsRequest(
        selector=_message(parts),
        reason=reason,
        dry_run=dry_run,
        refuse_new_ms=check_count("refuse_new_ms", refuse_new_ms),
        page_token=page_token,
    )
    return RpcRequest("CutOffService/EndSessions", request, pb.EndSessionsResponse, _ended)


def list_bans() -> RpcRequest[list[SessionBan]]:
    """Describe ListBans."""
    return RpcRequest("CutOffService/ListBans", pb.ListBansRequest(), pb.ListBansResponse, _bans)


def lift_ban(parts: SessionSelector) -> RpcRequest[None]:
    """Describe LiftBan."""
    request = pb.LiftBanRequest(selector=_message(parts))
    return RpcRequest("CutOffService/LiftBan", request, pb.LiftBanResponse, _nothing, repeatable=False)


def freeze(reason: str) -> RpcRequest[None]:
    """Describe Freeze. It has the same effect however often it is done."""
    return RpcRequest("CutOffService/Freeze", pb.FreezeRequest(reason=reason), pb.FreezeResponse, _nothing)


def thaw() -> RpcRequest[None]:
    """Describe Thaw. It has the same effect however often it is done."""
    return RpcRequest("CutOffService/Thaw", pb.ThawRequest(), pb.ThawResponse, _nothing)


def get_freeze() -> RpcRequest[FreezeState]:
    """Describe GetFreeze."""
    return RpcRequest(
        "CutOffService/GetFreeze",
        pb.GetFreezeRequest(),
        pb.GetFreezeResponse,
        lambda answer: FreezeState(**field_values(answer)),
    )


def _message(parts: SessionSelector) -> record_pb2.SessionSelector:
    try:
        return record_pb2.SessionSelector.FromString(parts.encode())
    except kernel.WireError as error:
        raise UsageError(f"selector: {error}") from None


def _ended(answer: Any) -> EndedSessions:
    values = field_values(answer)
    values["sessions"] = tuple(SelectedSession(**field_values(each)) for each in answer.sessions)
    return EndedSessions(**values)


def _bans(answer: Any) -> list[SessionBan]:
    try:
        return [SessionBan.decode(each.SerializeToString()) for each in answer.bans]
    except ValueError as error:
        raise newer_server(error) from None


def _nothing(answer: Any) -> None:
    return None

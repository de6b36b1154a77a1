"""Calls about tokens, as described for both clients: minting, checks, surveys, approvals and permits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from ..._fast import _codec as codec
from ..._fast._check import judged
from ...approvals.approver import Approver
from ...approvals.request import ApprovalRequest
from ...crypto.armor import STORED_PREFIX, presented_text
from ...crypto.keys import HolderPublicKey
from ...decisions.tool_catalog import Candidate, Verdicts
from ...errors import UsageError
from ...limits import MAX_BATCH_ITEMS, MAX_PERMIT_MS, MAX_RETRY_ID_BYTES, MAX_REVOKE_BLOCK_IDS
from ...model.approval import ApprovalRecord, SignedApproval
from ...reasons import Reason, SurveyVerdict
from ...scopes.call_arguments import text_bytes
from ...scopes.scope import Scope
from ...scopes.value import Number
from ...tokens.block_draft import BlockTerms
from ...tokens.terms import check_terms
from ...tokens.token import Token
from ...v1 import approval_service_pb2 as approval_pb
from ...v1 import authorization_service_pb2 as check_pb
from ...v1 import record_pb2, token_pb2
from ...v1 import token_service_pb2 as pb
from .._results import (
    ApprovalPage,
    CheckItem,
    Inspection,
    RemoteDecision,
    TransactionToken,
    decision_from_message,
    read_batch,
    read_check,
)
from .._transport import RpcRequest
from .fields import (
    change,
    check_count,
    check_id,
    check_session_id,
    inspection_from_message,
    newer_server,
    texts,
    token_from_message,
)

T = TypeVar("T")

STREAM_PATH = "/sessauth.v1.AuthorizationService/CheckStream"

STREAM_CODEC = {
    "request_serializer": check_pb.CheckStreamRequest.SerializeToString,
    "response_deserializer": check_pb.CheckStreamResponse.FromString,
}

_STORED = STORED_PREFIX.encode()

ENDINGS = {
    "": token_pb2.ENDING_UNSPECIFIED,
    "sealed": token_pb2.ENDING_SEALED,
    "open": token_pb2.ENDING_OPEN,
    "bound": token_pb2.ENDING_BOUND,
}

_VERDICTS: Final = {
    int(verdict): verdict for verdict in (SurveyVerdict.YES, SurveyVerdict.NO, SurveyVerdict.MAYBE)
}


class MintTerms(BlockTerms, total=False):
    """Terms of a block that the server makes.

    Without ``ttl_ms`` a token ends with its session, or as its parent.

    Attributes:
        strict: refuse a scope that is not proven to narrow.
    """

    strict: bool


def mint(
    session_id: bytes | str, scopes: Sequence[Scope | str], audience: Sequence[str], terms: MintTerms
) -> RpcRequest[Token]:
    """Describe Mint. It stores nothing, so it is repeatable: a lost answer is an unused token."""
    request = mint_request(check_session_id(session_id), scopes, audience, terms)
    return RpcRequest("TokenService/Mint", request, pb.MintResponse, token_from_message)


def mint_request(
    session_id: bytes, scopes: Sequence[Scope | str], audience: Sequence[str], terms: MintTerms
) -> pb.MintRequest:
    """Return the message of a request for a token."""
    return pb.MintRequest(
        session_id=session_id,
        scopes=texts("scopes", scopes),
        audience=texts("audience", audience),
        **_block_fields(terms),
    )


def attenuate(
    token: Token, scopes: Sequence[Scope | str], audience: Sequence[str], terms: MintTerms
) -> RpcRequest[Token]:
    """Describe Attenuate, which stores nothing either."""
    request = pb.AttenuateRequest(
        token=token.stored_text(),
        scopes=texts("scopes", scopes),
        audience=texts("audience", audience),
        **_block_fields(terms),
    )
    return RpcRequest("TokenService/Attenuate", request, pb.AttenuateResponse, token_from_message)


def _block_fields(terms: MintTerms) -> dict[str, Any]:
    check_terms(terms, MintTerms)
    ending, to, may_seal = terms.get("ending", ""), terms.get("to"), terms.get("may_seal", False)
    if ending not in ENDINGS:
        raise UsageError(f"ending: {ending!r} is not one of sealed, open, bound")
    if to is None and (may_seal or ending == "bound"):
        raise UsageError("to: is required with may_seal and ending='bound': the holder's public key")
    if to is not None and ending not in ("", "bound"):
        raise UsageError(f"ending: {ending!r} and to= exclude each other: to= makes the token bound")
    holder = HolderPublicKey.of(to) if to is not None else None
    return {
        "next_key": holder.next_key if holder else b"",
        "proof_key": holder.proof_key if holder else b"",
        "may_seal": may_seal,
        "ttl_ms": check_count("ttl_ms", terms.get("ttl_ms", 0)),
        "ending": ENDINGS[ending],
        "where": texts("where", terms.get("where", ())),
        "source": texts("source", terms.get("source", ())),
        "peer": texts("peer", terms.get("peer", ())),
        "not_before_ms": check_count("not_before_ms", terms.get("not_before_ms", 0)),
        "max_blocks": check_count("max_blocks", terms.get("max_blocks", 0)),
        "label": terms.get("label", ""),
        "strict": terms.get("strict", False),
    }


def inspect(token: Token | str) -> RpcRequest[Inspection]:
    """Describe Inspect. An open token travels without its secret."""
    parsed = token if isinstance(token, Token) else Token.parse(token)
    return RpcRequest(
        "TokenService/Inspect",
        pb.InspectRequest(token=presented_text(parsed.data)),
        pb.InspectResponse,
        lambda answer: inspection_from_message(parsed, answer),
    )


def revoke(
    session_id: bytes | str, block_ids: Sequence[bytes | str], reason: str, request_id: str
) -> RpcRequest[int]:
    """Describe Revoke. The result is the revision from which no check allows these blocks."""
    if not 1 <= len(block_ids) <= MAX_REVOKE_BLOCK_IDS:
        raise UsageError(f"block_ids: give 1 to {MAX_REVOKE_BLOCK_IDS}, not {len(block_ids)}")
    request = pb.RevokeRequest(
        session_id=check_session_id(session_id),
        block_ids=[check_id("block_ids", each, 32) for each in block_ids],
        reason=reason,
    )
    return change(
        "TokenService/Revoke", request, pb.RevokeResponse, lambda answer: int(answer.revision), request_id
    )


def item_message(item: CheckItem) -> check_pb.CheckItem:
    """Return the message of one call to check."""
    return _item_message(item, _presentable(item.token), 0)


def _item_message(item: CheckItem, token: bytes, token_index: int) -> check_pb.CheckItem:
    retry_id = text_bytes(item.retry_id)
    if len(retry_id) > MAX_RETRY_ID_BYTES:
        raise UsageError(f"retry_id: at most {MAX_RETRY_ID_BYTES} bytes, not {len(retry_id)}")
    return check_pb.CheckItem(
        token=token,
        token_index=token_index,
        action=text_bytes(item.action),
        resource=text_bytes(item.resource),
        arguments=judged(item.arguments),
        tool=judged(item.tool),
        session_id=_session_id(item.session),
        source=item.source,
        peer=item.peer,
        proof=text_bytes(item.proof),
        approvals=[signed.encode() for signed in item.approvals],
        retry_id=retry_id,
        permit_ms=check_count("permit_ms", item.permit_ms, MAX_PERMIT_MS),
        token_only=item.token_only,
    )


def _session_id(session: bytes | str) -> bytes:
    """Return the id of hex digits; bytes as they are, since the server checks them."""
    if isinstance(session, str):
        return check_id("session", session, 16) if session else b""
    return session


def _presentable(token: Token | str | bytes) -> bytes:
    if isinstance(token, Token):
        return token.data
    data = text_bytes(token)
    # The prefix of a stored form is enough to deny it as an open token; its secret is not sent.
    return _STORED if data.lstrip().startswith(_STORED) else data


def _repeatable(item: CheckItem) -> bool:
    """Return True if a check may be repeated after a lost answer.

    A proof and an approval count once, a permit is given once: a first attempt may have used them up,
    although no answer came. Under a retry id the second attempt gets the result of the first.
    """
    return bool(item.retry_id) or not (item.proof or item.approvals or item.permit_ms)


def check_request(item: CheckItem, audience: str, at_least_revision: int) -> bytes:
    """Return the encoded CheckRequest. Raises the errors of protobuf for values of other types."""
    token = _presentable(item.token)
    request = codec.check_request(item, token, audience, at_least_revision)
    if request is not None:
        return request
    message = check_pb.CheckRequest(
        item=_item_message(item, token, 0), audience=audience, at_least_revision=at_least_revision
    )
    return message.SerializeToString()


def _as_read(answer: T) -> T:
    return answer


def check(item: CheckItem, audience: str, at_least_revision: int) -> RpcRequest[RemoteDecision]:
    """Describe Check."""
    return RpcRequest(
        "AuthorizationService/Check",
        check_request(item, audience, at_least_revision),
        read_check,
        _as_read,
        repeatable=_repeatable(item),
        checks=True,
    )


def exchange(
    item: CheckItem, audience: str, at_least_revision: int, trust_domain: str
) -> RpcRequest[TransactionToken]:
    """Describe Exchange."""
    request = pb.ExchangeRequest(
        check=check_pb.CheckRequest(
            item=item_message(item), audience=audience, at_least_revision=at_least_revision
        ),
        trust_domain=trust_domain,
    )
    return RpcRequest(
        "TokenService/Exchange",
        request,
        pb.ExchangeResponse,
        lambda answer: TransactionToken(
            decision_from_message(answer.decision), answer.transaction_token, answer.expires_at_ms
        ),
        repeatable=_repeatable(item),
    )


def transaction_keys() -> RpcRequest[bytes]:
    """Describe GetTransactionKeys."""
    return RpcRequest(
        "TokenService/GetTransactionKeys",
        pb.GetTransactionKeysRequest(),
        pb.GetTransactionKeysResponse,
        lambda answer: bytes(answer.jwks),
    )


def check_batch(
    items: Sequence[CheckItem], audience: str, at_least_revision: int
) -> RpcRequest[list[RemoteDecision]]:
    """Describe CheckBatch. A token of several items is sent once, and they refer to it."""
    if not 1 <= len(items) <= MAX_BATCH_ITEMS:
        raise UsageError(f"items: give 1 to {MAX_BATCH_ITEMS}, not {len(items)}")
    presented = [_presentable(item.token) for item in items]
    table = [token for token, count in Counter(presented).items() if count > 1 and token]
    places = {token: place for place, token in enumerate(table, 1)}
    request = check_pb.CheckBatchRequest(
        items=[
            _item_message(item, b"" if token in places else token, places.get(token, 0))
            for item, token in zip(items, presented, strict=True)
        ],
        audience=audience,
        at_least_revision=at_least_revision,
        tokens=table,
    )
    return RpcRequest(
        "AuthorizationService/CheckBatch",
        request,
        read_batch,
        _as_read,
        repeatable=all(map(_repeatable, items)),
        checks=True,
    )


def list_allowed(
    token: Token | str | bytes,
    candidates: Sequence[tuple[Any, ...]],
    audience: str,
    session: bytes | str,
    source: str,
    peer: Sequence[str],
    at_least_revision: int,
) -> RpcRequest[Verdicts]:
    """Describe ListAllowed."""
    if not 1 <= len(candidates) <= MAX_BATCH_ITEMS:
        raise UsageError(f"candidates: give 1 to {MAX_BATCH_ITEMS}, not {len(candidates)}")
    request = check_pb.ListAllowedRequest(
        token=item_message(CheckItem(token, b"", b"")).token,
        candidates=[_candidate_message(Candidate(*each)) for each in candidates],
        audience=audience,
        at_least_revision=at_least_revision,
        session_id=_session_id(session),
        source=source,
        peer=peer,
    )
    return RpcRequest(
        "AuthorizationService/ListAllowed",
        request,
        check_pb.ListAllowedResponse,
        lambda answer: _verdicts(answer, len(candidates)),
        checks=True,
    )


def _candidate_message(candidate: Candidate) -> check_pb.Candidate:
    action, resource, arguments, tool = candidate
    item = item_message(CheckItem(b"", action, resource, arguments or b"", tool))
    return check_pb.Candidate(
        action=item.action,
        resource=item.resource,
        has_arguments=arguments is not None,
        arguments=item.arguments,
        tool=item.tool,
    )


def _verdicts(answer: check_pb.ListAllowedResponse, count: int) -> Verdicts:
    """Read an answer. A verdict that is missing, or of a later version, is a NO."""
    token = decision_from_message(check_pb.Decision(reason=answer.reason, stage=answer.stage))
    verdicts = [_VERDICTS.get(verdict, SurveyVerdict.NO) for verdict in answer.verdicts[:count]]
    if token.reason is not Reason.ALLOWED:
        verdicts = []
    verdicts += [SurveyVerdict.NO] * (count - len(verdicts))
    return Verdicts(tuple(verdicts), token.reason, token.stage, answer.revision)


def stream_message(
    number: int, item: CheckItem, audience: str, at_least_revision: int, watch: bool = False
) -> check_pb.CheckStreamRequest:
    """Return the request of one item of a CheckStream."""
    return check_pb.CheckStreamRequest(
        id=number,
        item=item_message(item),
        audience=audience,
        at_least_revision=at_least_revision,
        watch=watch,
    )


STATUSES = {
    "waiting": record_pb2.APPROVAL_STATUS_UNSPECIFIED,
    "pending": record_pb2.APPROVAL_STATUS_PENDING,
    "granted": record_pb2.APPROVAL_STATUS_GRANTED,
    "denied": record_pb2.APPROVAL_STATUS_DENIED,
    "used": record_pb2.APPROVAL_STATUS_USED,
}


def list_approvals(
    session_id: bytes | str, status: str, public_key: bytes, page_size: int, page_token: str
) -> RpcRequest[ApprovalPage]:
    """Describe ListApprovals."""
    if status not in STATUSES:
        raise UsageError(f"status: {status!r} is not one of {', '.join(STATUSES)}")
    request = approval_pb.ListApprovalsRequest(
        session_id=check_session_id(session_id) if session_id else b"",
        status=STATUSES[status],
        public_key=check_id("public_key", public_key, 32) if public_key else b"",
        page_size=check_count("page_size", page_size, 1000),
        page_token=page_token,
    )
    return RpcRequest("ApprovalService/ListApprovals", request, approval_pb.ListApprovalsResponse, _page)


def get_approval(session_id: bytes | str, approval_id: bytes | str) -> RpcRequest[ApprovalRequest]:
    """Describe GetApproval."""
    request = approval_pb.GetApprovalRequest(
        session_id=check_session_id(session_id), approval_id=check_id("approval_id", approval_id, 16)
    )
    return RpcRequest("ApprovalService/GetApproval", request, approval_pb.GetApprovalResponse, _approval)


def grant_approval(
    request: ApprovalRequest, by: Approver | SignedApproval, ttl_ms: int, request_id: str
) -> RpcRequest[ApprovalRequest]:
    """Describe GrantApproval; an approver signs here, and its key stays."""
    signed = by.grant(request, ttl_ms=ttl_ms) if isinstance(by, Approver) else by
    message = approval_pb.GrantApprovalRequest(
        session_id=check_session_id(request.record.session_id),
        approval_id=check_id("approval_id", request.record.id, 16),
        statement=token_pb2.SignedApproval.FromString(signed.encode()),
    )
    return _change("GrantApproval", message, approval_pb.GrantApprovalResponse, request_id)


def deny_approval(
    session_id: bytes | str, approval_id: bytes | str, reason: str, request_id: str
) -> RpcRequest[ApprovalRequest]:
    """Describe DenyApproval."""
    message = approval_pb.DenyApprovalRequest(
        session_id=check_session_id(session_id),
        approval_id=check_id("approval_id", approval_id, 16),
        reason=reason,
    )
    return _change("DenyApproval", message, approval_pb.DenyApprovalResponse, request_id)


def commit(
    permit: bytes | str, item: CheckItem, audience: str, at_least_revision: int
) -> RpcRequest[RemoteDecision]:
    """Describe Commit. It uses the permit up, so it is not repeated after a lost answer."""
    request = check_pb.CommitRequest(
        permit=check_id("permit", permit, 32),
        item=item_message(item),
        audience=audience,
        at_least_revision=at_least_revision,
    )
    return RpcRequest(
        "AuthorizationService/Commit",
        request,
        check_pb.CommitResponse,
        lambda answer: decision_from_message(answer.decision),
        repeatable=False,
    )


def release(permit: bytes | str) -> RpcRequest[int]:
    """Describe Release. The result is the revision from which the permit's costs are free again."""
    return RpcRequest(
        "AuthorizationService/Release",
        check_pb.ReleaseRequest(permit=check_id("permit", permit, 32)),
        check_pb.ReleaseResponse,
        lambda answer: int(answer.revision),
        repeatable=False,
    )


def _change(
    method: str, request: Message, answer: type[Message], request_id: str
) -> RpcRequest[ApprovalRequest]:
    return change(f"ApprovalService/{method}", request, answer, _approval, request_id)


def _approval(
    answer: approval_pb.GetApprovalResponse
    | approval_pb.GrantApprovalResponse
    | approval_pb.DenyApprovalResponse,
) -> ApprovalRequest:
    return _request(answer.approval, answer.session)


def _page(answer: approval_pb.ListApprovalsResponse) -> ApprovalPage:
    # A server of before names no sessions.
    named = [
        *answer.sessions,
        *[approval_pb.ApprovalSession()] * (len(answer.approvals) - len(answer.sessions)),
    ]
    return ApprovalPage(tuple(map(_request, answer.approvals, named)), answer.next_page_token)


def _request(message: record_pb2.ApprovalRecord, session: approval_pb.ApprovalSession) -> ApprovalRequest:
    try:
        record = ApprovalRecord.decode(message.SerializeToString())
        remaining = tuple(Number(each.units, each.nanos) for each in session.remaining)
        return ApprovalRequest(record, session.subject, session.purpose, remaining)
    except ValueError as error:
        raise newer_server(error) from None

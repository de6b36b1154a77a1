"""Description of ListAllowed, for both clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...decisions.survey import Candidate, Verdicts
from ...errors import UsageError
from ...limits import MAX_BATCH_ITEMS
from ...reasons import Reason, SurveyVerdict
from ...tokens.token import Token
from ...v1 import authorization_service_pb2 as pb
from .._decision import decision_from_message
from .._results import CheckItem
from .._transport import RpcRequest
from .tokens import item_message

_KNOWN: Final = {
    int(verdict): verdict for verdict in (SurveyVerdict.YES, SurveyVerdict.NO, SurveyVerdict.MAYBE)
}


def list_allowed(
    token: Token | str | bytes,
    candidates: Sequence[tuple[Any, ...]],
    audience: str,
    session: bytes,
    source: str,
    peer: Sequence[str],
    at_least_revision: int,
) -> RpcRequest[Verdicts]:
    """Describe ListAllowed."""
    if not 1 <= len(candidates) <= MAX_BATCH_ITEMS:
        raise UsageError(f"candidates: give 1 to {MAX_BATCH_ITEMS}, not {len(candidates)}")
    request = pb.ListAllowedRequest(
        token=item_message(CheckItem(token, b"", b"")).token,
        candidates=[_message(Candidate(*each)) for each in candidates],
        audience=audience,
        at_least_revision=at_least_revision,
        session_id=session,
        source=source,
        peer=peer,
    )
    return RpcRequest(
        "AuthorizationService/ListAllowed",
        request,
        pb.ListAllowedResponse,
        lambda answer: _verdicts(answer, len(candidates)),
        checks=True,
    )


def _message(candidate: Candidate) -> pb.Candidate:
    action, resource, arguments, tool = candidate
    item = item_message(CheckItem(b"", action, resource, arguments or b"", tool))
    return pb.Candidate(
        action=item.action,
        resource=item.resource,
        has_arguments=arguments is not None,
        arguments=item.arguments,
        tool=item.tool,
    )


def _verdicts(answer: pb.ListAllowedResponse, count: int) -> Verdicts:
    """Read an answer. A verdict that is missing, or of a later version, is a NO."""
    token = decision_from_message(pb.Decision(reason=answer.reason, stage=answer.stage))
    verdicts = [_KNOWN.get(verdict, SurveyVerdict.NO) for verdict in answer.verdicts[:count]]
    if token.reason is not Reason.ALLOWED:
        verdicts = []
    verdicts += [SurveyVerdict.NO] * (count - len(verdicts))
    return Verdicts(tuple(verdicts), token.reason, token.stage, answer.revision)

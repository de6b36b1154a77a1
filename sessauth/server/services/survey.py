"""ListAllowed: which of many calls a token could make now."""

from __future__ import annotations

from typing import Any, Final

from ... import limits
from ..._fast._codec import Survey
from ...v1 import authorization_service_pb2 as pb
from ...verifier.verifier import Verifier
from ..rpc.call import CallContext
from ..status import invalid

# Candidates of a long survey between two checks of its deadline.
CANDIDATES_BETWEEN_CHECKS: Final = 64


def require_form(request: pb.ListAllowedRequest) -> None:
    """Refuse faults of the gateway; fields that an agent may have written are left to the check."""
    candidates = request.candidates
    if not 1 <= len(candidates) <= limits.MAX_BATCH_ITEMS:
        raise invalid("candidates", f"must be 1 to {limits.MAX_BATCH_ITEMS}, not {len(candidates)}")
    if len(request.session_id) not in (0, 16):
        raise invalid("session_id", f"must be 16 bytes, not {len(request.session_id)}")
    if len(request.peer) > limits.MAX_PEERS:
        raise invalid("peer", f"must be at most {limits.MAX_PEERS}, not {len(request.peer)}")
    for index, candidate in enumerate(candidates):
        if candidate.arguments and not candidate.has_arguments:
            raise invalid(f"candidates[{index}].arguments", "must be empty without has_arguments")


def survey_of(
    verifier: Verifier, request: pb.ListAllowedRequest, audience: str, gate: Any, call: CallContext
) -> Survey:
    """Check the token of a well-formed request, for ``audience``; ``gate`` as in ``CheckMessage.judge``."""
    call.raise_if_expired()
    return Survey(
        verifier,
        request.token,
        session=request.session_id,
        source=request.source,
        peer=tuple(request.peer),
        audience=audience,
        at_least_revision=request.at_least_revision,
        gate=gate,
    )


def answer(survey: Survey, request: pb.ListAllowedRequest, call: CallContext) -> pb.ListAllowedResponse:
    """Return the verdicts. Raises DEADLINE_EXCEEDED once the caller is gone."""
    response = pb.ListAllowedResponse(
        reason=survey.reason,  # type: ignore[arg-type]
        stage=survey.stage,  # type: ignore[arg-type]
        revision=survey.revision,
    )
    candidates = request.candidates
    for first in range(0, len(candidates), CANDIDATES_BETWEEN_CHECKS):
        call.raise_if_expired()
        response.verdicts.extend(
            survey.verdicts(  # type: ignore[arg-type]
                (item.action, item.resource, item.arguments if item.has_arguments else None, item.tool)
                for item in candidates[first : first + CANDIDATES_BETWEEN_CHECKS]
            )
        )
    return response

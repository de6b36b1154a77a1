"""A decision as the message that a gateway gets."""

from __future__ import annotations

from typing import Final, cast

from ..decision import Decision
from ..reasons import Level, Stage
from ..v1 import authorization_service_pb2 as pb
from .ceilings import SessionSource, ceiling_layers

LEVELS: Final = (pb.LEVEL_UNSPECIFIED, pb.LEVEL_CEILING, pb.LEVEL_BLOCK)


def fill(message: pb.Decision, decision: Decision, token: bytes, source: SessionSource) -> None:
    """Copy ``decision`` into an empty message.

    A denial comes with an explanation for the gateway's operator. Until the signature stands, nothing
    that the token says is in it.
    """
    message.reason = cast("pb.Reason", int(decision.reason))
    message.session_id = decision.session_id
    message.epoch = decision.epoch
    message.block_ids.extend(decision.block_ids)
    message.revision = decision.revision
    message.view_age_ms = decision.view_age_ms
    message.expires_at_ms = decision.expires_at_ms
    message.decision_id = decision.decision_id
    if decision.matched_index >= 0:
        matched = message.matched
        matched.level = pb.LEVEL_BLOCK
        matched.index = decision.matched_index
        matched.scope = decision.matched_scope
        matched.clause = -1
    if decision.allowed:
        message.allowed = True
        return
    message.stage = cast("pb.Stage", int(decision.stage))
    failed = message.failed
    failed.level = LEVELS[int(decision.level)]
    failed.index = decision.index
    failed.scope = decision.scope
    failed.clause = decision.clause
    failed.argument = decision.argument
    layers = ceiling_layers(source, decision.session_id) if decision.level == Level.CEILING else ()
    message.explanation = decision.explain(token if decision.stage > Stage.SIGNATURE else None, layers)

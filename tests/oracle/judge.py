"""Stages ``scope``, ``proof`` and ``needs`` (sections 9.8 to 9.11 of the format)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .conditions import Context, Work, is_unknown
from .constants import Ending, Level, Reason, Stage
from .json_values import BadJson, parse_object
from .model import Chain, OracleDecision, OracleRequest, OracleSession, OracleView, Scope
from .proofs import judge_proof, take_nonce
from .scopes import Failed, Match, check_where, first_unknown, match_layer, match_scopes
from .texts import is_action, is_plain_segment

_FAILED_REASONS = {
    "condition": Reason.CONDITION_FAILED,
    "scope": Reason.OUT_OF_SCOPE,
    "work": Reason.MALFORMED_REQUEST,
}


class _BadRequest(Exception):
    """A part of the request breaks section 8; the argument names it."""


def _read_action(action: bytes) -> str:
    text = action.decode("ascii", "replace")
    if not is_action(text):
        raise _BadRequest("action")
    return text


def _read_resource(resource: bytes) -> list[str]:
    try:
        segments = resource.decode("utf-8").split("/")
    except UnicodeDecodeError as error:
        raise _BadRequest("resource") from error
    if len(resource) > 1024 or len(segments) > 32 or not all(map(is_plain_segment, segments)):
        raise _BadRequest("resource")
    return segments


def _read_json(data: bytes, name: str) -> dict[str, object]:
    try:
        return parse_object(data)
    except BadJson as error:
        raise _BadRequest(name) from error


def _ceilings(session: OracleSession, view: OracleView) -> Iterator[tuple[tuple[Scope, ...], OracleSession]]:
    """The layers of the session, then those of its parent, and so on up; each with its session."""
    while True:
        for layer in session.ceilings:
            yield layer, session
        if not session.parent_id:
            return
        session = view.sessions[session.parent_id]


def _unknown_kind(chain: Chain) -> OracleDecision | None:
    """The first unknown kind of the chain (9.8 point 2)."""
    for index, block in enumerate(chain.blocks):
        found = first_unknown(block.scopes)
        clauses = [c for c, condition in enumerate(block.where) if is_unknown(condition)]
        if found is None and clauses:
            found = (-1, clauses[0])
        if found is not None:
            return OracleDecision(Reason.UNKNOWN_KIND, Stage.SCOPE, Level.BLOCK, index, *found)
    return None


def judge_alone(chain: Chain) -> OracleDecision:
    """The end of a check of the token alone (9.14), for a chain that passed the stages before ``scope``."""
    return _unknown_kind(chain) or OracleDecision(Reason.ALLOWED)


def judge(
    chain: Chain, request: OracleRequest, view: OracleView, session: OracleSession, now_ms: int
) -> OracleDecision:
    """The stages from ``scope`` on, for a live session of the view and a chain that passed the others."""
    try:
        action, segments = _read_action(request.action), _read_resource(request.resource)
        arguments = _read_json(request.arguments, "arguments")
        work = Work.of(len(request.arguments))
        context = Context(arguments, _read_json(request.tool, "tool"), session.facts, work)
    except _BadRequest as bad:
        return OracleDecision(Reason.MALFORMED_REQUEST, Stage.SCOPE, argument=str(bad))
    unknown = _unknown_kind(chain)
    if unknown is not None:
        return unknown
    observed: OracleDecision | None = None
    for index, (layer, owner) in enumerate(_ceilings(session, view)):
        try:
            match_layer(layer, action, segments, replace(context, facts=owner.facts))
        except Failed as failed:
            refusal = _refusal(failed, Level.CEILING, index)
            if not owner.observe or failed.kind == "work":
                return refusal
            observed = observed or refusal
    matches: list[tuple[int, Match]] = []
    for index, block in enumerate(chain.blocks):
        # A holder's blocks see only the facts that are marked visible. The work counter is shared.
        context = replace(context, only_visible=index > 0)
        try:
            if block.scopes or index == 0:
                matches.append((index, match_scopes(block.scopes, action, segments, context)))
            check_where(block.where, context)
        except Failed as failed:
            return _refusal(failed, Level.BLOCK, index)
    return (
        _proof(chain, judge_proof(chain.blocks[-1], request, view.host, now_ms))
        or _needs(chain, matches)
        or _proof(chain, take_nonce(chain.blocks[-1], request, view.host))
        or _allowed(matches, observed)
    )


def _refusal(failed: Failed, level: Level, index: int) -> OracleDecision:
    argument = "arguments" if failed.kind == "work" else failed.argument
    reason = _FAILED_REASONS[failed.kind]
    return OracleDecision(reason, Stage.SCOPE, level, index, failed.scope, failed.clause, argument)


def _proof(chain: Chain, reason: Reason | None) -> OracleDecision | None:
    """The refusal of a bound chain; another chain's proof is not looked at."""
    if reason is None or chain.blocks[-1].ending != Ending.BOUND:
        return None
    return OracleDecision(reason, Stage.PROOF, Level.BLOCK, len(chain.blocks) - 1)


def _needs(chain: Chain, matches: list[tuple[int, Match]]) -> OracleDecision | None:
    for index, match in matches:
        if match.needs:
            needs = chain.blocks[index].scopes[match.scope].needs
            approval = needs is not None and needs.approval
            reason = Reason.APPROVAL_REQUIRED if approval else Reason.NEEDS_SERVER
            return OracleDecision(reason, Stage.NEEDS, Level.BLOCK, index, match.scope)
    return None


def _allowed(matches: list[tuple[int, Match]], observed: OracleDecision | None) -> OracleDecision:
    """An allow; its position is that of the first refusal by a ceiling in observe mode (9.8 point 3)."""
    index, match = matches[-1]
    allow = OracleDecision(Reason.ALLOWED, matched_index=index, matched_scope=match.scope)
    if observed is None:
        return allow
    return replace(
        allow,
        level=observed.level,
        index=observed.index,
        scope=observed.scope,
        clause=observed.clause,
        argument=observed.argument,
    )

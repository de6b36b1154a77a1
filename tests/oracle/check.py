"""The check (section 9 of the format): the stages in their order, the first refusal decides."""

from __future__ import annotations

from collections.abc import Callable

from .addresses import in_cidr, parse_ip
from .constants import EndCause, KeyStatus, Level, Reason, SessionStatus, Stage
from .crypto import signed_bytes, verify
from .decode import Refused, decode_token
from .judge import judge, judge_alone
from .model import Chain, OracleDecision, OracleKey, OracleRequest, OracleSession, OracleView

ISSUED_AT_LEEWAY_MS = 30_000
MAX_ANCESTORS = 3

_END_REASONS: dict[int, Reason] = {
    EndCause.LEASE_LAPSED: Reason.LEASE_LAPSED,
    EndCause.EXPIRED: Reason.SESSION_EXPIRED,
}


def first_bad_signature(chain: Chain, issuer_public_key: bytes) -> int:
    """The index of the first block whose signature is wrong, or -1."""
    key, previous = issuer_public_key, bytes(64)
    for index, block in enumerate(chain.blocks):
        if not verify(key, signed_bytes(index, previous, block.payload), block.signature):
            return index
        key, previous = block.next_key, block.signature
    return -1


def check(
    token: bytes,
    request: OracleRequest,
    view: OracleView,
    now_ms: int,
    *,
    decode: Callable[[bytes], Chain] = decode_token,
    bad_signature: Callable[[Chain, bytes], int] = first_bad_signature,
) -> OracleDecision:
    """Judge one request. ``decode`` and ``bad_signature`` may be given to remember what never changes."""
    try:
        chain = decode(token)
    except Refused as refused:
        return OracleDecision(refused.reason, Stage.DECODE)
    session = view.sessions.get(chain.session_id)
    reason = _session(chain, request, view, now_ms)
    if reason is not None or session is None:
        return OracleDecision(reason or Reason.UNKNOWN_SESSION, Stage.SESSION)
    key = view.keys.get(chain.issuer_key_id)
    reason = _issuer(chain, key, session)
    if reason is not None or key is None:
        return OracleDecision(reason or Reason.UNKNOWN_ISSUER, Stage.ISSUER)
    wrong = bad_signature(chain, key.public_key)
    if wrong >= 0:
        return _at_block(Reason.BAD_SIGNATURE, Stage.SIGNATURE, wrong)
    return (
        _time(chain, view, now_ms)
        or _audience(chain, request)
        or _revocation(chain, view)
        or (judge_alone(chain) if request.token_only else judge(chain, request, view, session, now_ms))
    )


def _at_block(reason: Reason, stage: Stage, index: int) -> OracleDecision:
    return OracleDecision(reason, stage, Level.BLOCK, index)


def _session(chain: Chain, request: OracleRequest, view: OracleView, now_ms: int) -> Reason | None:
    if view.braked:
        return Reason.STATE_BRAKED
    if request.at_least_revision > view.revision or chain.min_revision > view.revision:
        return Reason.STALE_STATE
    if chain.session_id not in view.sessions:
        return Reason.UNKNOWN_SESSION
    if request.session and request.session != chain.session_id:
        return Reason.WRONG_SESSION
    session_id = chain.session_id
    for _ in range(MAX_ANCESTORS + 1):
        session = view.sessions.get(session_id)
        reason = Reason.UNKNOWN_SESSION if session is None else _status(session, now_ms)
        if reason is not None or session is None:
            return reason
        session_id = session.parent_id
        if not session_id:
            return None
    return Reason.UNKNOWN_SESSION


def _status(session: OracleSession, now_ms: int) -> Reason | None:
    if session.status == SessionStatus.ENDED:
        return _END_REASONS.get(session.end_cause, Reason.SESSION_ENDED)
    if now_ms >= session.expires_at_ms:
        return Reason.SESSION_EXPIRED
    if session.lease_deadline_ms is not None and now_ms >= session.lease_deadline_ms:
        return Reason.LEASE_LAPSED
    if session.status == SessionStatus.SUSPENDED:
        return Reason.SESSION_SUSPENDED
    return None if session.status == SessionStatus.ACTIVE else Reason.UNKNOWN_SESSION


def _issuer(chain: Chain, key: OracleKey | None, session: OracleSession) -> Reason | None:
    if key is None:
        return Reason.UNKNOWN_ISSUER
    if key.status == KeyStatus.DISTRUSTED:
        return Reason.ISSUER_DISTRUSTED
    if key.status == KeyStatus.PREPARED:
        return Reason.ISSUER_PREPARED
    if key.status == KeyStatus.RETIRED:
        if chain.blocks[0].issued_at_ms > key.retired_at_ms:
            return Reason.ISSUER_RETIRED
    elif key.status != KeyStatus.ACTIVE:
        return Reason.UNKNOWN_ISSUER
    foreign = key.owner != "" and key.owner != session.owner
    if foreign or (session.issuer_key_ids and key.id not in session.issuer_key_ids):
        return Reason.ISSUER_NOT_OF_SESSION
    return None


def _time(chain: Chain, view: OracleView, now_ms: int) -> OracleDecision | None:
    if view.clock_suspect:
        return OracleDecision(Reason.CLOCK_SUSPECT, Stage.TIME)
    for index, block in enumerate(chain.blocks):
        if block.expires_at_ms and block.expires_at_ms <= now_ms:
            return _at_block(Reason.EXPIRED, Stage.TIME, index)
    for index, block in enumerate(chain.blocks):
        if block.not_before_ms > now_ms or block.issued_at_ms > now_ms + ISSUED_AT_LEEWAY_MS:
            return _at_block(Reason.NOT_YET_VALID, Stage.TIME, index)
    return None


def _audience(chain: Chain, request: OracleRequest) -> OracleDecision | None:
    source = parse_ip(request.source)
    for index, block in enumerate(chain.blocks):
        if block.audience and request.audience not in block.audience:
            return _at_block(Reason.WRONG_AUDIENCE, Stage.AUDIENCE, index)
        if block.source and (source is None or not any(in_cidr(source, cidr) for cidr in block.source)):
            return _at_block(Reason.WRONG_SOURCE, Stage.AUDIENCE, index)
        if block.peer and not set(block.peer) & set(request.peer):
            return _at_block(Reason.WRONG_PEER, Stage.AUDIENCE, index)
    return None


def _revocation(chain: Chain, view: OracleView) -> OracleDecision | None:
    for index, block_id in enumerate(chain.block_ids):
        if block_id in view.revoked:
            return _at_block(Reason.REVOKED, Stage.REVOCATION, index)
    return None

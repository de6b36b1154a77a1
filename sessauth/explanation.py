"""Explains a decision to the operator of a gateway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .block import BlockInfo
from .errors import TokenError, UsageError
from .path import Source
from .reasons import Level, Reason, Stage
from .scope import Scope
from .token import Token

if TYPE_CHECKING:
    from .decision_base import DecisionBase

# What it means and what to do, where no position is to be told. Longer in docs/reasons.md.
_MEANINGS = {
    Reason.UNSPECIFIED: "no decision was made",
    Reason.INTERNAL_ERROR: "the verifier failed, which never allows; see its log",
    Reason.MALFORMED_TOKEN: "these are no bytes of a token; hand on what was minted, unchanged",
    Reason.TOKEN_TOO_LARGE: "a presented token has at most 8192 bytes; attenuate with fewer scopes",
    Reason.UNSUPPORTED_VERSION: "the token's version is not this verifier's; upgrade the older of the two",
    Reason.OPEN_TOKEN: "an open token is never presented; present() makes a sealed copy",
    Reason.CHAIN_TOO_LONG: "the chain is longer than a max_blocks stated in it",
    Reason.UNKNOWN_SESSION: "this view has no such session, or not all its ancestors",
    Reason.SESSION_ENDED: "the session has ended, and with it every token of it; open another",
    Reason.SESSION_SUSPENDED: "the session is suspended; resume it to go on",
    Reason.LEASE_LAPSED: "the session's lease was not kept alive in time, which is final; open another",
    Reason.WRONG_SESSION: "the token belongs to another session than the caller says the call does",
    Reason.STALE_STATE: "the verifier's view is older than was asked for; retry once it has caught up",
    Reason.SESSION_EXPIRED: "the session, or an ancestor, has reached its hard end; open another",
    Reason.STATE_BRAKED: "a change could not be persisted, so this host denies all until an operator clears it",
    Reason.UNKNOWN_ISSUER: "the token's root names an issuer key that this state does not know",
    Reason.ISSUER_RETIRED: "the issuer key was retired before the token was issued; mint with the active key",
    Reason.ISSUER_NOT_OF_SESSION: "this issuer key may not root tokens of this session",
    Reason.ISSUER_DISTRUSTED: "the issuer key is distrusted, and so is all it signed",
    Reason.ISSUER_PREPARED: "the issuer key is not active yet; activate it",
    Reason.CLOCK_SUSPECT: "the verifier's wall clock jumped; it judges no times until the clock is sane",
    Reason.UNKNOWN_TOOL: "the tool is not in the operator's pinned catalogue; pin it first",
    Reason.PROOF_REQUIRED: "a bound token needs a proof for each request",
    Reason.BAD_PROOF: "the proof does not belong to this token and request",
    Reason.REPLAYED: "the proof was seen before, or is too old to tell",
    Reason.USES_EXHAUSTED: "the scope's number of uses is spent",
    Reason.BUDGET_EXHAUSTED: "the scope's budget does not cover this call",
}
_MAX_LISTED = 8
_END_OF_DATES_MS = 253_402_300_800_000


def explain(
    decision: DecisionBase, token: Token | str | bytes | None, ceilings: Sequence[Sequence[Scope]]
) -> str:
    """Return one line; :meth:`DecisionBase.explain` says of what.

    Raises:
        UsageError: if ``token`` is another token than the one judged.
    """
    reason = decision.reason
    detail = ""
    if token is not None and not isinstance(token, Token):
        try:
            token = Token.parse(token)
        except TokenError as error:
            detail = str(error) if decision.stage == Stage.DECODE else ""
            token = None
    if token is not None and decision.block_ids and token.block_ids != decision.block_ids:
        raise UsageError("explain() was given another token than the one judged")
    if decision:
        return f"ALLOWED{_allowed(decision, token)}"
    # Before the signature stands nothing that the token says is repeated.
    blocks = token.inspect().blocks if token is not None and decision.stage > Stage.SIGNATURE else ()
    block = blocks[decision.index] if 0 <= decision.index < len(blocks) else None
    told = detail or _denied(decision, block, ceilings) or _MEANINGS.get(reason, "denied")
    return f"{reason.name}: {told}"


def _allowed(decision: DecisionBase, token: Token | None) -> str:
    if decision.matched_index < 0:
        return ""
    if token is None:
        return f" by block {decision.matched_index}, scope {decision.matched_scope}"
    block = token.inspect().blocks[decision.matched_index]
    return f" by {block.name}, scope {decision.matched_scope} `{block.scopes[decision.matched_scope]}`"


def _denied(decision: DecisionBase, block: BlockInfo | None, ceilings: Sequence[Sequence[Scope]]) -> str:
    match decision.reason:
        case Reason.BAD_SIGNATURE:
            return f"the signature of block {decision.index} is wrong; the token was altered or forged"
        case Reason.EXPIRED:
            return f"{_where(decision, block)} expired{_time(block and block.expires_at_ms)}; mint another"
        case Reason.NOT_YET_VALID:
            begins = block and max(block.not_before_ms, block.issued_at_ms)
            return f"{_where(decision, block)} is not valid yet{_time(begins, 'it begins ')}"
        case Reason.WRONG_AUDIENCE:
            return f"{_where(decision, block)} is not for this verifier{_only(block and block.audience)}"
        case Reason.WRONG_SOURCE:
            return f"{_where(decision, block)} admits no call from this address{_only(block and block.source)}"
        case Reason.WRONG_PEER:
            return f"{_where(decision, block)} admits none of the caller's identities{_only(block and block.peer)}"
        case Reason.REVOKED:
            named = f" (id {block.block_id.hex()})" if block else ""
            return f"{_where(decision, block)}{named} was revoked, and all below it; mint or attenuate afresh"
        case Reason.MALFORMED_REQUEST:
            return f"the request's `{decision.argument}` is against the format, or costs too much to judge"
        case Reason.UNKNOWN_KIND:
            return f"{_clause(decision, block, ceilings)} has a kind of a later version; upgrade the verifier"
        case Reason.OUT_OF_SCOPE:
            return _out_of_scope(decision, block, ceilings)
        case Reason.CONDITION_FAILED:
            return _condition_failed(decision, block, ceilings)
        case Reason.APPROVAL_REQUIRED | Reason.NEEDS_SERVER:
            scope = _scope(decision, block, ceilings)
            needed = f" {scope.needs}" if scope and scope.needs else ""
            return f"{_clause(decision, block, ceilings)} needs{needed or ' what this verifier can not meet'}"
        case _:
            return ""


def _out_of_scope(decision: DecisionBase, block: BlockInfo | None, ceilings: Sequence[Sequence[Scope]]) -> str:
    where = _where(decision, block)
    scopes = _scopes(decision, block, ceilings)
    if scopes is None:
        return f"no scope of {where} covers this action on this resource"
    if not scopes:
        return f"{where} states no scopes, so it permits nothing"
    return f"no scope of {where} covers this action on this resource; it would allow {_listed(scopes)}"


def _condition_failed(
    decision: DecisionBase, block: BlockInfo | None, ceilings: Sequence[Sequence[Scope]]
) -> str:
    where = _clause(decision, block, ceilings)
    scope = _scope(decision, block, ceilings)
    if decision.clause < 0:
        told = f"{where}: argument `{decision.argument}` is named by no condition and is not free"
        return f"{told}; it would allow only {_listed(_mentioned(scope))}" if scope else told
    told = f"{where}: condition {decision.clause} on argument `{decision.argument}` does not hold"
    conditions = scope.conditions if scope else block.where if block and decision.scope < 0 else ()
    if decision.clause >= len(conditions):
        return told
    return f"{told}; it would allow `{conditions[decision.clause]}`"


def _mentioned(scope: Scope) -> list[str]:
    paths = [*(c.path for c in scope.conditions), *scope.free_paths]
    named = list(dict.fromkeys(p.argument for p in paths if p.source == Source.ARGS))
    return named or ["no arguments"]


def _where(decision: DecisionBase, block: BlockInfo | None) -> str:
    if decision.level == Level.CEILING:
        return f"ceiling layer {decision.index}"
    return block.name if block else f"block {decision.index}"


def _clause(decision: DecisionBase, block: BlockInfo | None, ceilings: Sequence[Sequence[Scope]]) -> str:
    where = _where(decision, block)
    if decision.scope < 0:
        return f"{where}, where"
    scope = _scope(decision, block, ceilings)
    return f"{where}, scope {decision.scope}" + (f" `{scope}`" if scope else "")


def _scopes(
    decision: DecisionBase, block: BlockInfo | None, ceilings: Sequence[Sequence[Scope]]
) -> Sequence[Scope] | None:
    """The scopes of the layer or block in question; None if they aren't known here."""
    if decision.level == Level.CEILING:
        return ceilings[decision.index] if 0 <= decision.index < len(ceilings) else None
    return block.scopes if block else None


def _scope(
    decision: DecisionBase, block: BlockInfo | None, ceilings: Sequence[Sequence[Scope]]
) -> Scope | None:
    scopes = _scopes(decision, block, ceilings) or ()
    return scopes[decision.scope] if 0 <= decision.scope < len(scopes) else None


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(f"`{item}`" for item in items[:_MAX_LISTED])
    return shown + (f" and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else "")


def _only(texts: Iterable[str] | None) -> str:
    return f", only for {_listed(list(map(_shown, texts)))}" if texts else ""


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _time(ms: int | None, before: str = "") -> str:
    if not ms:
        return ""
    # Years beyond 9999 have no date; the number says enough.
    dated = ms < _END_OF_DATES_MS
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds") if dated else f"{ms} ms"
    return f", {before}{text}" if before else f" at {text}"

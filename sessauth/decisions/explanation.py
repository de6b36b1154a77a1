"""Explains a decision to the operator of a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import StateError, TokenError, UsageError
from ..reasons import Level, Reason, Stage
from ..scopes.parts import ValueSource
from ..scopes.scope import Scope
from ..scopes.value import quoted, shows
from ..tokens.inspection import BlockInfo
from ..tokens.token import Token
from .decision_fields import DecisionFields
from .reason_texts import REASON_TEXTS

_JSON = (
    "is no JSON object of the format: at most 1 MiB of valid UTF-8, 32 levels and 10,000 values, no name"
    " twice in an object, no NaN, nothing behind it"
)
# The form that each part of a request must have (docs/token-format.md, section 8).
_FORMS = {
    "action": "is not 1 to 64 characters of `A-Z a-z 0-9 _ . -`",
    "resource": "is not 1 to 32 segments joined by `/`, 1024 bytes at most: a segment is not empty, `.` or"
    r" `..`, and has no control character, none of `\ * { }`, and no `%` before two hexadecimal digits",
    "arguments": _JSON,
    "tool": _JSON,
    "watch": "can't be had: the stream watches as many calls as it may",
}
APPROVAL_HINT = (
    "have it looked at with 'sessauth approval list' and granted, then ask again for the same call with the "
    "same token"
)
_MAX_LISTED = 8
_MAX_SHOWN_CHARS = 200
_END_OF_DATES_MS = 253_402_300_800_000


def explain(
    decision: DecisionFields, token: Token | str | bytes | None, ceilings: Sequence[Sequence[Scope]]
) -> str:
    """Return the line of :meth:`DecisionBase.explain`.

    Raises:
        UsageError: if ``token`` is another token than the one checked.
    """
    detail = ""
    if token is not None and not isinstance(token, Token):
        try:
            token = Token.parse(token)
        except TokenError as error:
            detail = str(error) if decision.stage == Stage.DECODE else ""
            token = None
    if token is not None and decision.block_ids and token.block_ids != decision.block_ids:
        raise UsageError("explain() was given another token than the one judged")
    # Nothing of a token is repeated before its signature was verified.
    named = decision.allowed or decision.stage > Stage.SIGNATURE
    blocks = token.inspect().blocks if token is not None and named else ()
    return explain_blocks(decision, blocks, ceilings, detail)


def explain_blocks(
    decision: DecisionFields,
    blocks: Sequence[BlockInfo],
    ceilings: Sequence[Sequence[Scope]],
    detail: str = "",
) -> str:
    """Return one line, by the blocks of the token: all of them, or none where they are not known.

    ``detail`` replaces the explanation if it is not empty.
    """
    if decision:
        return f"ALLOWED{_allowed(decision, blocks)}{_observed(decision, ceilings)}"
    block = blocks[decision.index] if 0 <= decision.index < len(blocks) else None
    text = detail or _Failure(decision, block, ceilings).text() or REASON_TEXTS[decision.reason]
    return f"{decision.reason.name}: {text}"


def _observed(decision: DecisionFields, ceilings: Sequence[Sequence[Scope]]) -> str:
    """Return the refusal by a ceiling in observe mode; empty without one."""
    if decision.level != Level.CEILING:
        return ""
    return f"; in observe mode, since {_Failure(decision, None, ceilings).by_ceiling()}"


def _allowed(decision: DecisionFields, blocks: Sequence[BlockInfo]) -> str:
    if decision.matched_index < 0:
        return " by no scope: the token stands, and no call was judged"
    if decision.matched_index >= len(blocks):
        return f" by block {decision.matched_index}, scope {decision.matched_scope}"
    block = blocks[decision.matched_index]
    return f" by {block.name}, scope {decision.matched_scope} `{_cut(block.scopes[decision.matched_scope])}`"


@dataclass(frozen=True, slots=True)
class _Failure:
    """A denial, the block that it names (None if it is not known here), and the layers of ceilings."""

    decision: DecisionFields
    block: BlockInfo | None
    ceilings: Sequence[Sequence[Scope]]

    def text(self) -> str:
        """Return the failure and the permitted values; empty where the reason alone explains it."""
        block = self.block
        if self.decision.stage == Stage.NEEDS and (unmet := self._unmet_need()):
            return unmet
        match self.decision.reason:
            case Reason.INTERNAL_ERROR:
                # The message of a StateError names the remedy.
                fault = getattr(self.decision, "fault", None)
                return str(fault) if isinstance(fault, StateError) else ""
            case Reason.BAD_SIGNATURE:
                return f"the signature of block {self.decision.index} is wrong; it was altered or forged"
            case Reason.EXPIRED:
                ended = f" at {_dated(block.expires_at_ms)}" if block else ""
                return f"{self.where} expired{ended}; mint another"
            case Reason.NOT_YET_VALID:
                begins = (
                    f"; it begins {_dated(max(block.not_before_ms, block.issued_at_ms))}" if block else ""
                )
                return f"{self.where} is not valid yet{begins}"
            case Reason.WRONG_AUDIENCE:
                return f"{self.where} is not for this verifier{_only(block.audience if block else ())}"
            case Reason.WRONG_SOURCE:
                return f"{self.where} admits no call from this address{_only(block.source if block else ())}"
            case Reason.WRONG_PEER:
                return f"{self.where} admits no identity of the caller{_only(block.peer if block else ())}"
            case Reason.REVOKED:
                named = f" (id {block.block_id.hex()})" if block else ""
                return f"{self.where}{named} was revoked, and all below it; mint or attenuate afresh"
            case Reason.MALFORMED_REQUEST:
                return self._malformed_request()
            case Reason.UNKNOWN_KIND:
                return f"{self.clause} has a kind of a later version; upgrade the verifier"
            case Reason.OUT_OF_SCOPE:
                return self._out_of_scope()
            case Reason.CONDITION_FAILED:
                return self._condition_failed()
            case Reason.APPROVAL_REQUIRED:
                return f"{self.clause} needs an approval of this very call; {APPROVAL_HINT}"
            case Reason.NEEDS_SERVER:
                return f"{self.clause} has a cost that only the server can charge"
            case _:
                return ""

    def by_ceiling(self) -> str:
        """Return the refusal of a ceiling that did not count."""
        return self._out_of_scope() if self.decision.scope < 0 else self._condition_failed()

    def _unmet_need(self) -> str:
        """Return the failure in stage needs; empty for a reason that means the same in the other stages."""
        reason = self.decision.reason
        if reason == Reason.CONDITION_FAILED:
            argument = _shown(self.decision.argument)
            return f"{self.clause}: argument `{argument}` is no number of 0 or more, so no budget can pay it"
        if reason == Reason.MALFORMED_REQUEST:
            return "the retry id was used for another call; make one for each call"
        if reason == Reason.NEEDS_SERVER and self.decision.level == Level.NONE:
            return (
                "a permit, or a proof that counts once for several attempts, is the server's to give; ask it"
            )
        return ""

    def _malformed_request(self) -> str:
        part = _shown(self.decision.argument)
        if self.decision.level != Level.NONE:
            return f"{self.clause}: the request's `{part}` takes more work than a check may; send less of it"
        return f"the request's `{part}` {_FORMS.get(part, 'is against the format')}"

    def _out_of_scope(self) -> str:
        text = f"no scope of {self.where} covers this action on this resource"
        if self.scopes is None:
            return text
        if not self.scopes:
            return f"{self.where} states no scopes, so it permits nothing"
        return f"{text}; it would allow {_listed(self.scopes)}"

    def _condition_failed(self) -> str:
        clause, argument, scope = self.decision.clause, self.decision.argument, self.scope
        if clause < 0:
            text = f"{self.clause}: argument `{_shown(argument)}` is named by no condition and is not free"
            return f"{text}; it would allow only {_mentioned(scope)}" if scope else text
        text = f"{self.clause}: condition {clause} on argument `{_shown(argument)}` does not hold"
        in_block = self.block.where if self.block and self.decision.scope < 0 else ()
        conditions = scope.conditions if scope else in_block
        return f"{text}; it would allow `{_cut(conditions[clause])}`" if clause < len(conditions) else text

    @property
    def where(self) -> str:
        """The block, or the layer of the ceiling."""
        if self.decision.level == Level.CEILING:
            return f"ceiling layer {self.decision.index}"
        return self.block.name if self.block else f"block {self.decision.index}"

    @property
    def clause(self) -> str:
        """The scope in it, or its own conditions."""
        if self.decision.scope < 0:
            return f"{self.where}, where"
        shown = f" `{_cut(self.scope)}`" if self.scope else ""
        return f"{self.where}, scope {self.decision.scope}{shown}"

    @property
    def scopes(self) -> Sequence[Scope] | None:
        """The scopes of the layer or block; None if they aren't known here."""
        if self.decision.level == Level.CEILING:
            index = self.decision.index
            return self.ceilings[index] if 0 <= index < len(self.ceilings) else None
        return self.block.scopes if self.block else None

    @property
    def scope(self) -> Scope | None:
        """The scope in question, if there is one and it is known here."""
        scopes, index = self.scopes or (), self.decision.scope
        return scopes[index] if 0 <= index < len(scopes) else None


def _mentioned(scope: Scope) -> str:
    paths = [*(c.path for c in scope.conditions), *scope.free_paths]
    return (
        _listed(list(dict.fromkeys(p.argument for p in paths if p.source == ValueSource.ARGS)))
        or "no arguments"
    )


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(f"`{_cut(item)}`" for item in items[:_MAX_LISTED])
    return shown + (f" and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else "")


def _shown(text: str) -> str:
    """Return a text of an agent or a holder so that it can't disturb a terminal or fill a log."""
    short = _cut(text)
    return short if shows(short) else quoted(short)


def _cut(item: object) -> str:
    text = str(item)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"


def _only(texts: Sequence[str]) -> str:
    return f", only for {_listed(list(map(_shown, texts)))}" if texts else ""


def _dated(ms: int) -> str:
    # Years beyond 9999 have no date; the number says enough.
    if ms >= _END_OF_DATES_MS:
        return f"{ms} ms"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")

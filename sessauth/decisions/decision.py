"""A decision: its fields, the meaning of its reason, and its explanation to an operator.

An agent never gets any of this: ``outward.py`` has the part that it may learn.

:class:`DecisionFields` are the attributes of every decision, made in this process or by a server.
:class:`DecisionBase` adds the methods; the kernel's own class has both, and returns the enums of Python.

The meaning of a reason is the first sentence of its paragraph in docs/reasons.md. After a semicolon follows
the remedy, where there is one.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self, TypeGuard, TypeVar

from .._fast import _check as kernel
from .._fast._check import Decision, StoredDecision, bind_enums
from ..errors import SessauthError, StateError, TokenError, UsageError
from ..model.notebook import html_table
from ..reasons import Level, Reason, Stage
from ..scopes.parts import ValueSource
from ..scopes.scope import Scope
from ..scopes.value import quoted, shows
from ..tokens.block_draft import BlockInfo
from ..tokens.token import Token

__all__ = ["Decision", "DecisionBase", "Denied"]


class DecisionFields:
    """Types of a decision's attributes; a subclass supplies the values.

    ``index``, ``scope`` and ``clause`` are -1, ``argument`` is empty, where they don't apply.
    Of an allow they are set where a ceiling in observe mode would have refused it.
    ``matched_index`` and ``matched_scope`` are -1 for a denial, and for an allow of the token alone
    (``Verifier.stands``), which is of no call. ``session_id`` and ``block_ids`` are empty until the signature
    is verified. ``expires_at_ms`` is the earliest moment, in ms since 1970, at which the answer can stop
    being true by time alone.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def allowed(self) -> bool: ...
        @property
        def reason(self) -> Reason: ...
        @property
        def stage(self) -> Stage: ...
        @property
        def level(self) -> int: ...
        @property
        def index(self) -> int: ...
        @property
        def scope(self) -> int: ...
        @property
        def clause(self) -> int: ...
        @property
        def argument(self) -> str: ...
        @property
        def matched_index(self) -> int: ...
        @property
        def matched_scope(self) -> int: ...
        @property
        def session_id(self) -> bytes: ...
        @property
        def epoch(self) -> int: ...
        @property
        def block_ids(self) -> tuple[bytes, ...]: ...
        @property
        def revision(self) -> int: ...
        @property
        def view_age_ms(self) -> int: ...
        @property
        def expires_at_ms(self) -> int: ...
        @property
        def decision_id(self) -> bytes: ...

        def __bool__(self) -> bool: ...


REASON_TEXTS: Final[Mapping[Reason, str]] = {
    Reason.UNSPECIFIED: "no check ran: the default of the enum, never produced by a check",
    Reason.ALLOWED: "every stage passed for this request, at this revision and time",
    Reason.INTERNAL_ERROR: "the check met something it can't explain: an exception inside, a record in the "
    "state that can't be read; see the decision's fault, or the verifier's log",
    Reason.AUDIT_UNAVAILABLE: "this verifier's audit stream can't be written, or decisions were lost on the "
    "way to it, and `audit.when_full` is `deny`: then no call is judged",
    Reason.MALFORMED_TOKEN: "the bytes are no token of this format: not canonical, cut, damaged, or against "
    "a rule of token-format.md, sections 2 to 6; hand on what was minted, unchanged",
    Reason.TOKEN_TOO_LARGE: "the token has more than 8192 bytes in presented form; attenuate with fewer "
    "scopes",
    Reason.UNSUPPORTED_VERSION: "the token's version is one that this verifier doesn't know, newer or older; "
    "upgrade the older of the two",
    Reason.OPEN_TOKEN: "the last block is open: its secret is meant for the holder alone, and an open chain "
    "is never presented; present() makes a sealed copy",
    Reason.CHAIN_TOO_LONG: "the chain has more blocks than some block of it permits with `max_blocks`",
    Reason.UNKNOWN_SESSION: "the state holds no such session, or no such ancestor of it: never opened here, "
    "or ended so long ago that its row was purged",
    Reason.SESSION_ENDED: "the session has ended, and with it every token of it; open another",
    Reason.SESSION_SUSPENDED: "the session or an ancestor is suspended for now; resume it to go on",
    Reason.LEASE_LAPSED: "the orchestrator missed the deadline of the lease of this session or of an "
    "ancestor; that is final, so open another session",
    Reason.WRONG_SESSION: "the token belongs to another session than the one that the caller states",
    Reason.STALE_STATE: "the verifier's view is too old to allow by, or older than was asked for; retry once "
    "it has caught up",
    Reason.SESSION_EXPIRED: "the hard end of the session or of an ancestor has passed; open another",
    Reason.STATE_BRAKED: "the brake of this host is engaged: a change could not be made durable, or an "
    "operator froze the host or its cluster; remove the cause, or thaw it, to go on",
    Reason.UNKNOWN_ISSUER: "no key with the root's key id is in the state",
    Reason.ISSUER_RETIRED: "the key was retired before the token was issued, by the token's own statement; "
    "mint with the active key",
    Reason.ISSUER_NOT_OF_SESSION: "the key may not root tokens of this session: its owner is not the "
    "session's, or the session lists its keys and this is none of them",
    Reason.ISSUER_DISTRUSTED: "the key is distrusted: every token it ever signed is denied, at once",
    Reason.ISSUER_PREPARED: "the key is known but not yet active; activate it",
    Reason.BAD_SIGNATURE: "the signature of the block at this position does not verify over the bytes "
    "received",
    Reason.EXPIRED: "a block's `expires_at_ms` has passed",
    Reason.NOT_YET_VALID: "a block's `not_before_ms` lies ahead, or it claims to be issued more than 30 s in "
    "the future",
    Reason.CLOCK_SUSPECT: "this host's wall clock can't be believed: it moved more than 60 s against the "
    "monotonic clock since the process started, or it lies more than 60 s before the state's clock floor; "
    "no times are judged until the clock is sane",
    Reason.WRONG_AUDIENCE: "a block names its verifiers and this one is not among them, or has not said who "
    "it is",
    Reason.WRONG_SOURCE: "a block limits the address the call may come from, and it comes from elsewhere or "
    "from an address the gateway did not state",
    Reason.WRONG_PEER: "a block names the certificate identities that may present it, and the connection has "
    "none of them",
    Reason.REVOKED: "the block at this position was revoked, and with it all below",
    Reason.OUT_OF_SCOPE: "at this position (a layer of the session's ceiling, or a block) no scope has this "
    "action and resource, or an exception of the ceiling denies the call",
    Reason.CONDITION_FAILED: "action and resource matched a scope here, but a condition did not hold, or an "
    "argument was given that no condition mentions and that is not listed `free`",
    Reason.UNKNOWN_KIND: "the chain uses an operator, accessor, path source or segment kind of a later "
    "version",
    Reason.MALFORMED_REQUEST: "action, resource, arguments or tool are against the format: an empty or `..` "
    "segment, a wildcard, a control character, `%` with two hexadecimal digits, JSON that is not strict, or "
    "more work than a check may cost",
    Reason.UNKNOWN_TOOL: "the catalogue which the operator pinned does not know the tool, so no action can "
    "be given to it; pin it first",
    Reason.PROOF_REQUIRED: "the chain ends bound: it counts only with a proof by its holder for this very "
    "request, and none came; HolderKey.prove() makes one",
    Reason.BAD_PROOF: "the proof of the call does not count: by another key than the chain names, for "
    "another request or host, or for a verifier key that has expired",
    Reason.REPLAYED: "this proof was used before, on any verifier of this host; make one for each call",
    Reason.STALE_PROOF: "the proof's time lies more than 30 s from the verifier's, or before this host began "
    "to remember proofs; set the clocks",
    Reason.PROOF_UNAVAILABLE: "this verifier can't tell a proof from a replay now: it has no verifier key or "
    "no replay table, the table is full, or this holder has used its share of it; look at its log",
    Reason.APPROVAL_REQUIRED: "the deciding scope of a block asks for an approval of this very call, and it "
    "has not been given (yet)",
    Reason.USES_EXHAUSTED: "a scope's number of uses is spent, by all tokens that share its block",
    Reason.BUDGET_EXHAUSTED: "the call costs more than the budget has left, after earlier calls and open "
    "permits",
    Reason.NEEDS_SERVER: "the call costs something (uses, a budget, a permit), which only the writer of the "
    "state can take, and this verifier was given no way to it, or had no answer from it in time",
    Reason.BAD_APPROVAL: "an approval that came with the call does not count: malformed, expired, used up, "
    "signed by a key that the scope does not name or that signed already, for another request, session or "
    "epoch, or more than are needed; ask for it again and sign that",
    Reason.APPROVAL_DENIED: "an approver looked at this very call and said no; don't ask again for the same",
    Reason.BAD_PERMIT: "the permit is not open for this gateway, token and call: used, released, expired, "
    "made up, or of a session whose epoch moved; check again, commit in time",
}


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

    Raises UsageError if ``token`` is another token than the one checked.
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
        return (
            self._out_of_scope() if self.decision.scope < 0 or self._is_excepted else self._condition_failed()
        )

    @property
    def _is_excepted(self) -> bool:
        """True if an exception refused. Where the ceiling is not known, by what the position lacks."""
        if self.scope is not None:
            return self.scope.exception
        return self.decision.clause < 0 and not self.decision.argument

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
        if self.decision.scope >= 0:
            text = f"an exception of {self.where} denies this call, scope {self.decision.scope}"
            return text if self.scope is None else f"{text} `{_cut(self.scope)}`"
        text = f"no scope of {self.where} covers this action on this resource"
        if self.scopes is None:
            return text
        if not self.scopes:
            return f"{self.where} states no scopes, so it permits nothing"
        return f"{text}; it would allow {_listed([scope for scope in self.scopes if not scope.exception])}"

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


D = TypeVar("D", bound=type)


class DecisionBase(DecisionFields, ABC):
    """The surface of a decision; a subclass supplies the attributes of :class:`DecisionFields`.

    ``bool(decision)`` is ``allowed``, and only an explicit ALLOWED is true.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        """Return True if the call may be made."""
        return self.allowed is True and self.reason == Reason.ALLOWED

    @property
    def observed(self) -> bool:
        """True for an allow that the ceiling of a session in observe mode would have refused."""
        return bool(self) and self.level == Level.CEILING

    def raise_if_denied(self) -> None:
        """Return if the call may be made. Raises Denied otherwise, with this decision."""
        if not self:
            raise Denied(self)

    def explain(
        self, token: Token | str | bytes | None = None, ceilings: Sequence[Sequence[Scope]] = ()
    ) -> str:
        """Return a line: the failure, its position, and the nearest call that would have been allowed.

        It is for the gateway's operator, not for the agent. The token's bytes are never in it. Raises
        UsageError if ``token`` is another token than the one checked.

        Args:
            token: the token that was checked; without it only positions can be named.
            ceilings: the layers of the session's ceiling and its ancestors', in order, to name their
                scopes.
        """
        return explain(self, token, ceilings)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: words for enums, ids in hex, None where nothing applies."""
        failed = {
            "level": Level(self.level).name,
            "index": self.index,
            "scope": self.scope,
            "clause": self.clause,
            "argument": self.argument,
        }
        matched = {"block": self.matched_index, "scope": self.matched_scope}
        at_fault = self.level != Level.NONE or (not self and self.argument)
        return {
            "allowed": bool(self),
            "reason": self.reason.name,
            "stage": self.stage.name,
            "failed": failed if at_fault and not self else None,
            "observed": failed if at_fault and self else None,
            "matched": matched if self and self.matched_index >= 0 else None,
            "session_id": self.session_id.hex(),
            "epoch": self.epoch,
            "block_ids": [block_id.hex() for block_id in self.block_ids],
            "revision": self.revision,
            "view_age_ms": self.view_age_ms,
            "expires_at_ms": self.expires_at_ms,
            "decision_id": self.decision_id.hex(),
        }

    def __repr__(self) -> str:
        """Show the answer and its id."""
        answer = "allowed" if self else f"denied {self.reason.name} at {self.stage.name.lower()}"
        return f"<{type(self).__name__} {answer} {self.decision_id.hex()}>"

    def _repr_html_(self) -> str:
        """Return a table for a notebook: the answer, and the line of :meth:`explain`."""
        # The decision of a check in this process borrows this method, and inherits no other.
        facts: list[tuple[str, object]] = [
            ("reason", self.reason.name),
            ("stage", self.stage.name.lower()),
            ("why", self.explain()),
            ("session", self.session_id.hex()),
            ("decision", self.decision_id.hex()),
        ]
        return html_table("ALLOWED" if self else "DENIED", [row for row in facts if row[1]])


class Denied(SessauthError):
    """A decision that is not ALLOWED."""

    def __init__(self, decision: DecisionBase) -> None:
        """Keep the decision."""
        super().__init__(f"denied: {decision.reason.name} at stage {decision.stage.name.lower()}")
        self.decision = decision

    def __reduce__(self) -> tuple[type[Self], tuple[DecisionBase]]:
        """Have it pickled and copied by its decision."""
        return type(self), (self.decision,)


def restore(facts: tuple[Any, ...], fault: Exception | None = None) -> Decision:
    """Return the decision of a pickle, which names this function; ``fault`` is the cause of INTERNAL_ERROR.

    A pickle is as trustworthy as its writer: read none that others could have changed. Raises ValueError for
    facts that no decision has, above all for a denial that calls itself allowed; so do TypeError and
    OverflowError.
    """
    return kernel.restore_decision(facts, fault)


# Calling an enum costs several times a lookup, and gateways ask for every call.
bind_enums(
    {int(reason): reason for reason in Reason}, {int(stage): stage for stage in Stage}, DecisionBase, restore
)
DecisionBase.register(Decision)

_ANSWERS: Final[set[type]] = {Decision, StoredDecision}


def answer(decision_class: D) -> D:
    """Have the decisions of a class taken for answers of a verifier; those of its subclasses are not."""
    _ANSWERS.add(decision_class)
    return decision_class


def is_answer(value: object) -> TypeGuard[DecisionBase]:
    """Return True for a decision that this package made; an imitation may call anything allowed."""
    return type(value) in _ANSWERS


def allows(value: object) -> bool:
    """Return True for an answer that is ALLOWED, and for nothing else that is true."""
    if type(value) is Decision:
        # The kernel's own type: it says so for this reason alone.
        return value.allowed is True
    return is_answer(value) and value.allowed is True and value.reason is Reason.ALLOWED

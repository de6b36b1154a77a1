"""Decisions: the surface of every decision, and the kernel's own class, given enums and that surface."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeGuard, TypeVar

from .._fast import _check as kernel
from .._fast._check import Decision, StoredDecision, bind_enums
from ..errors import SessauthError
from ..reasons import Level, Reason, Stage
from .decision_fields import DecisionFields

if TYPE_CHECKING:
    from ..scopes.scope import Scope
    from ..tokens.token import Token

__all__ = ["Decision", "DecisionBase", "Denied"]

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
        """Return if the call may be made.

        Raises:
            Denied: otherwise, with this decision.
        """
        if not self:
            raise Denied(self)

    def explain(
        self, token: Token | str | bytes | None = None, ceilings: Sequence[Sequence[Scope]] = ()
    ) -> str:
        """Return a line: the failure, its position, and the nearest call that would have been allowed.

        It is for the gateway's operator, not for the agent. The token's bytes are never in it.

        Args:
            token: the token that was checked; without it only positions can be named.
            ceilings: the layers of the session's ceiling and its ancestors', in order, to name their
                scopes.

        Raises:
            UsageError: if ``token`` is another token than the one checked.
        """
        from .explanation import explain

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

    A pickle is as trustworthy as its writer: read none that others could have changed.

    Raises:
        ValueError: for facts that no decision has, above all for a denial that calls itself allowed; so do
            TypeError and OverflowError.
    """
    return kernel.restore_decision(facts, fault)


# Calling an enum costs several times a lookup, and gateways ask for every call.
bind_enums(
    {int(reason): reason for reason in Reason},
    {int(stage): stage for stage in Stage},
    DecisionBase,
    restore,
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

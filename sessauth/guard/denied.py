"""The refusal of a tool call: one sentence for the agent, the reason and the decision for the operator."""

from __future__ import annotations

from typing import Self

from ..decisions.decision import DecisionBase
from ..decisions.outward import Outward, outward
from ..errors import SessauthError
from ..reasons import Reason

# A name is a segment of a resource, and logged.
MAX_TOOL_CHARS = 256

# Reasons of refusals that no verifier decided.
NO_TOKEN = "NO_TOKEN"
"""The call came without a token."""
BAD_CALL = "BAD_CALL"
"""The arguments can't be judged: values that JSON has no form for, a name that is no text."""
NO_ANSWER = "NO_ANSWER"
"""The verifier, its server or a callback failed, or the answer came too late."""
NO_GUARD = "NO_GUARD"
"""A guarded function was called where no guard is active."""
CHANGED = "CHANGED"
"""The arguments changed between the check and the call."""
USED = "USED"
"""A held call was committed or released before."""
WITHDRAWN = "WITHDRAWN"
"""The permission ended while the tool ran."""

_OUTWARD = {
    Reason.UNKNOWN_TOOL.name: Outward.DENIED,
    NO_TOKEN: Outward.UNAUTHENTICATED,
    BAD_CALL: Outward.DENIED,
    CHANGED: Outward.DENIED,
    USED: Outward.DENIED,
}
_OUTWARD |= {
    NO_ANSWER: Outward.UNAVAILABLE,
    NO_GUARD: Outward.DENIED,
    WITHDRAWN: Outward.UNAUTHENTICATED,
}


FORGOTTEN_GUARD = "no guard is active here: pass one, or call within guard.activate()"
"""The note of a refusal with NO_GUARD, for the developer."""


class ToolDenied(SessauthError):
    """A tool call that must not be made.

    ``str(error)`` is what an agent may see. The rest is for the operator.

    Attributes:
        tool: the name of the tool, as the agent wrote it, and no more of it than could be a name.
        reason: the name of a :class:`~sessauth.reasons.Reason`, or a word of this module.
        outward: the answer in each protocol's terms.
        decision: the verifier's decision; None where none was made.
        observed: True if the call is made nevertheless, by a guard that only observes.
    """

    def __init__(
        self,
        tool: object,
        reason: str = "",
        decision: DecisionBase | None = None,
        detail: str = "",
        *,
        observed: bool = False,
    ) -> None:
        """Refuse a call by a decision, or for a ``reason`` of this module; an agent may see ``detail``."""
        self.reason = reason or (decision.reason.name if decision is not None else NO_ANSWER)
        self.outward = _OUTWARD.get(self.reason) or outward(decision)
        if self.outward is Outward.ALLOWED:
            self.outward = Outward.DENIED
        super().__init__(self.outward.text + detail)
        if self.reason == NO_GUARD:
            self.add_note(FORGOTTEN_GUARD)
        self._detail = detail
        self.tool = (tool if isinstance(tool, str) else ascii(tool))[:MAX_TOOL_CHARS]
        self.decision = decision
        self.observed = observed

    @property
    def decision_id(self) -> bytes:
        """The id of the decision, 16 bytes; empty without one. An agent may be given it."""
        return self.decision.decision_id if self.decision is not None else b""

    def __reduce__(self) -> tuple[type[Self], tuple[object, str, DecisionBase | None, str]]:
        """Have it pickled and copied by its parts."""
        return type(self), (self.tool, self.reason, self.decision, self._detail)

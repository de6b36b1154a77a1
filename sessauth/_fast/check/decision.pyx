"""The decision of a check in this process.

Its words and what it can say of itself are not the kernel's: ``sessauth.decisions.decision`` hands them over.
"""

cimport cython

from sessauth._fast.base.limits cimport ALLOWED, INTERNAL_ERROR, LEVEL_BLOCK, MAX_BLOCKS, STAGE_NONE
from sessauth._fast.call.check_state cimport CheckOutcome, outcome_init
from sessauth._fast.token.chain cimport Chain

__all__ = ["Decision", "StoredDecision", "bind_enums", "restore"]

cdef dict REASONS = {}
cdef dict STAGES = {}
cdef object DECISION_BASE = None
cdef object RESTORE = None
# Of whose exceptions a pickle tells.
cdef str ERRORS = "sessauth.errors"


def bind_enums(dict reasons not None, dict stages not None, decision_base, restore):
    """Give numbers their words, decisions the methods of ``surface``, and pickles what reads them."""
    global REASONS, STAGES, DECISION_BASE, RESTORE
    REASONS, STAGES, DECISION_BASE, RESTORE = reasons, stages, decision_base, restore


@cython.no_gc
@cython.freelist(64)
cdef class Decision:
    """What a check came to; ``sessauth.decisions.decision_base.DecisionBase`` says what it offers.

    Everything is kept as the kernel found it, and made into an object when it is asked for.
    """

    cdef int fill(self, const CheckOutcome *outcome, Chain chain) except -1:
        """Take over what was found, but for the finding's own text."""
        self.outcome = outcome[0]
        self.outcome.argument = NULL
        if outcome.argument != NULL:
            self._argument = outcome.argument[: outcome.argument_n].decode("utf-8", "replace")
        if outcome.signature_valid:
            self.chain = chain
        return 0

    def __bool__(self):
        return self.outcome.allowed and self.outcome.reason == ALLOWED

    @property
    def allowed(self):
        """Whether the call may be made."""
        return self.outcome.allowed

    @property
    def reason(self):
        """Why the check ended as it did: a ``Reason``."""
        return REASONS.get(self.outcome.reason, self.outcome.reason)

    @property
    def stage(self):
        """The ``Stage`` that refused; ``NONE`` if none did."""
        return STAGES.get(self.outcome.stage, self.outcome.stage)

    @property
    def level(self):
        """Where it was refused: 1 in a ceiling, 2 in a block, 0 in neither."""
        return self.outcome.level

    @property
    def index(self):
        """The ceiling layer or block that refused."""
        return self.outcome.index

    @property
    def scope(self):
        """The scope of it that came closest."""
        return self.outcome.scope

    @property
    def clause(self):
        """The condition that failed."""
        return self.outcome.clause

    @property
    def argument(self):
        """The argument at fault; empty if there is none."""
        return "" if self._argument is None else self._argument

    @property
    def matched_index(self):
        """The last block whose scope admitted the call."""
        return self.outcome.matched_index

    @property
    def matched_scope(self):
        """The scope of it that did."""
        return self.outcome.matched_scope

    @property
    def epoch(self):
        """The session's epoch; 0 until the signature stands."""
        return self.outcome.epoch

    @property
    def revision(self):
        """The revision of the state that was judged by."""
        return self.outcome.revision

    @property
    def expires_at_ms(self):
        """When this answer can first stop being true by time alone, in ms since 1970; 0 for a denial."""
        return self.outcome.expires_at_ms

    @property
    def checked_at_ms(self):
        """The time that was judged by, in ms since 1970."""
        return self.outcome.checked_at_ms

    @property
    def fault(self):
        """The exception behind INTERNAL_ERROR, or None."""
        return self._fault

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty until the signature stands."""
        return b"" if self.chain is None else self.chain.session_id

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty until the signature stands."""
        return () if self.chain is None else self.chain.block_ids

    @property
    def view_age_ms(self):
        """How old the view may be, in ms: 0, since every check reads the state it shares a host with."""
        return 0

    @property
    def decision_id(self):
        """16 bytes, of this decision alone."""
        return self.prefix + self.number.to_bytes(8, "big")

    def raise_if_denied(self):
        """Return if the call may be made; raises Denied otherwise, with this decision."""
        DECISION_BASE.raise_if_denied(self)

    def explain(self, token=None, ceilings=()):
        """Say in a line what failed, where, and what would have been allowed."""
        return DECISION_BASE.explain(self, token, ceilings)

    def to_dict(self):
        """Return plain values for JSON."""
        return DECISION_BASE.to_dict(self)

    def __repr__(self):
        return object.__repr__(self) if DECISION_BASE is None else DECISION_BASE.__repr__(self)

    def __eq__(self, other):
        return _facts(self) == _facts(other) if isinstance(other, Decision) else NotImplemented

    def __hash__(self):
        return hash(self.decision_id)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        """Have it pickled by what it says, and a fault that is an error of the package; the token stays behind."""
        fault = self._fault if type(self._fault).__module__ == ERRORS else None
        return RESTORE, (_facts(self), fault)


@cython.no_gc
@cython.final
cdef class StoredDecision(Decision):
    """A decision that was pickled and read again; equal to the one that was made."""

    cdef bytes _session_id
    cdef tuple _block_ids

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty until the signature stands."""
        return self._session_id

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty until the signature stands."""
        return self._block_ids


cdef tuple _facts(Decision decision):
    """All that a decision says, in the order in which ``restore`` reads it."""
    cdef const CheckOutcome *outcome = &decision.outcome
    return (
        bool(outcome.allowed), outcome.reason, outcome.stage, outcome.level, outcome.index, outcome.scope, outcome.clause,
        decision.argument, outcome.matched_index, outcome.matched_scope, decision.session_id, outcome.epoch,
        decision.block_ids, outcome.revision, outcome.expires_at_ms, outcome.checked_at_ms, decision.decision_id,
    )  # fmt: skip


def restore(tuple facts not None, fault=None):
    """Return the decision of some facts, and of the exception behind INTERNAL_ERROR, if it was kept.

    Raises ValueError, TypeError or OverflowError for facts that no decision has. Above all an allow says so
    twice, by flag and reason, names its session and its blocks, and no place that refused.
    """
    cdef StoredDecision out = StoredDecision.__new__(StoredDecision)
    cdef CheckOutcome *outcome = &out.outcome
    cdef bytes decision_id
    outcome_init(outcome)
    (
        allowed, outcome.reason, outcome.stage, outcome.level, outcome.index, outcome.scope, outcome.clause,
        out._argument, outcome.matched_index, outcome.matched_scope, out._session_id, outcome.epoch,
        out._block_ids, outcome.revision, outcome.expires_at_ms, outcome.checked_at_ms, decision_id,
    ) = facts  # fmt: skip
    if not _is_whole(out, decision_id) or allowed is not (outcome.reason == ALLOWED):
        raise ValueError("these are not the facts of a decision")
    if allowed and not _could_allow(out):
        raise ValueError("these are not the facts of an allow")
    if fault is not None and not (isinstance(fault, Exception) and outcome.reason == INTERNAL_ERROR):
        raise ValueError("only INTERNAL_ERROR has a fault")
    out._fault = fault
    out.prefix = decision_id[:8]
    out.number = int.from_bytes(decision_id[8:], "big")
    # Nothing allows before this line.
    outcome.allowed = allowed is True
    return out


cdef bint _is_whole(StoredDecision out, bytes decision_id):
    """Tell whether words and ids are those that a decision can have."""
    cdef CheckOutcome *outcome = &out.outcome
    return (
        out._argument is not None
        and out._session_id is not None
        and out._block_ids is not None
        and decision_id is not None
        and len(decision_id) == 16
        and outcome.reason in REASONS
        and outcome.stage in STAGES
        and 0 <= outcome.level <= LEVEL_BLOCK
        and len(out._block_ids) <= MAX_BLOCKS
        and all([type(each) is bytes and len(each) == 32 for each in out._block_ids])
        and len(out._session_id) == (16 if out._block_ids else 0)
    )


cdef bint _could_allow(StoredDecision out):
    """Tell whether an allow could say what this one says beside its flag and reason."""
    cdef CheckOutcome *outcome = &out.outcome
    return (
        outcome.stage == STAGE_NONE
        and outcome.level == 0
        and outcome.index == outcome.scope == outcome.clause == -1
        and not out._argument
        and 0 <= outcome.matched_index < len(out._block_ids)
        and outcome.matched_scope >= 0
        and outcome.expires_at_ms > outcome.checked_at_ms
    )

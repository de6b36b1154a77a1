"""The decision of a check in this process.

Its words and what it can say of itself are not the kernel's: ``sessauth.decisions.decision`` hands them over.
"""

cimport cython

from sessauth._fast.base.limits cimport ALLOWED, INTERNAL_ERROR, LEVEL_BLOCK, MAX_BLOCKS, STAGE_NONE
from sessauth._fast.call.check_state cimport CheckOutcome, finding_init
from sessauth._fast.token.chain cimport Chain

__all__ = ["Decision", "StoredDecision", "restore", "speak"]

cdef dict REASONS = {}
cdef dict STAGES = {}
cdef object SURFACE = None
cdef object RESTORE = None
# Of whose exceptions a pickle tells.
cdef str ERRORS = "sessauth.errors"


def speak(dict reasons not None, dict stages not None, surface, restore):
    """Give numbers their words, decisions the methods of ``surface``, and pickles what reads them."""
    global REASONS, STAGES, SURFACE, RESTORE
    REASONS, STAGES, SURFACE, RESTORE = reasons, stages, surface, restore


@cython.no_gc
@cython.freelist(64)
cdef class Decision:
    """What a check came to; ``sessauth.decisions.decision_base.DecisionBase`` says what it offers.

    Everything is kept as the kernel found it, and made into an object when it is asked for.
    """

    cdef int settle(self, const CheckOutcome *found, Chain chain) except -1:
        """Take over what was found, but for the finding's own text."""
        self.found = found[0]
        self.found.argument = NULL
        if found.argument != NULL:
            self._argument = found.argument[: found.argument_n].decode("utf-8", "replace")
        if found.named:
            self.chain = chain
        return 0

    def __bool__(self):
        return self.found.allowed and self.found.reason == ALLOWED

    @property
    def allowed(self):
        """Whether the call may be made."""
        return self.found.allowed

    @property
    def reason(self):
        """Why the check ended as it did: a ``Reason``."""
        return REASONS.get(self.found.reason, self.found.reason)

    @property
    def stage(self):
        """The ``Stage`` that refused; ``NONE`` if none did."""
        return STAGES.get(self.found.stage, self.found.stage)

    @property
    def level(self):
        """Where it was refused: 1 in a ceiling, 2 in a block, 0 in neither."""
        return self.found.level

    @property
    def index(self):
        """The ceiling layer or block that refused."""
        return self.found.index

    @property
    def scope(self):
        """The scope of it that came closest."""
        return self.found.scope

    @property
    def clause(self):
        """The condition that failed."""
        return self.found.clause

    @property
    def argument(self):
        """The argument at fault; empty if there is none."""
        return "" if self._argument is None else self._argument

    @property
    def matched_index(self):
        """The last block whose scope admitted the call."""
        return self.found.matched_index

    @property
    def matched_scope(self):
        """The scope of it that did."""
        return self.found.matched_scope

    @property
    def epoch(self):
        """The session's epoch; 0 until the signature stands."""
        return self.found.epoch

    @property
    def revision(self):
        """The revision of the state that was judged by."""
        return self.found.revision

    @property
    def expires_at_ms(self):
        """When this answer can first stop being true by time alone, in ms since 1970; 0 for a denial."""
        return self.found.expires_at_ms

    @property
    def checked_at_ms(self):
        """The time that was judged by, in ms since 1970."""
        return self.found.checked_at_ms

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
        SURFACE.raise_if_denied(self)

    def explain(self, token=None, ceilings=()):
        """Say in a line what failed, where, and what would have been allowed."""
        return SURFACE.explain(self, token, ceilings)

    def to_dict(self):
        """Return plain values for JSON."""
        return SURFACE.to_dict(self)

    def __repr__(self):
        return object.__repr__(self) if SURFACE is None else SURFACE.__repr__(self)

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
    cdef const CheckOutcome *found = &decision.found
    return (
        bool(found.allowed), found.reason, found.stage, found.level, found.index, found.scope, found.clause,
        decision.argument, found.matched_index, found.matched_scope, decision.session_id, found.epoch,
        decision.block_ids, found.revision, found.expires_at_ms, found.checked_at_ms, decision.decision_id,
    )  # fmt: skip


def restore(tuple facts not None, fault=None):
    """Return the decision of some facts, and of the exception behind INTERNAL_ERROR, if it was kept.

    Raises ValueError, TypeError or OverflowError for facts that no decision has. Above all an allow says so
    twice, by flag and reason, names its session and its blocks, and no place that refused.
    """
    cdef StoredDecision out = StoredDecision.__new__(StoredDecision)
    cdef CheckOutcome *found = &out.found
    cdef bytes decision_id
    finding_init(found)
    (
        allowed, found.reason, found.stage, found.level, found.index, found.scope, found.clause,
        out._argument, found.matched_index, found.matched_scope, out._session_id, found.epoch,
        out._block_ids, found.revision, found.expires_at_ms, found.checked_at_ms, decision_id,
    ) = facts  # fmt: skip
    if not _is_whole(out, decision_id) or allowed is not (found.reason == ALLOWED):
        raise ValueError("these are not the facts of a decision")
    if allowed and not _could_allow(out):
        raise ValueError("these are not the facts of an allow")
    if fault is not None and not (isinstance(fault, Exception) and found.reason == INTERNAL_ERROR):
        raise ValueError("only INTERNAL_ERROR has a fault")
    out._fault = fault
    out.prefix = decision_id[:8]
    out.number = int.from_bytes(decision_id[8:], "big")
    # Nothing allows before this line.
    found.allowed = allowed is True
    return out


cdef bint _is_whole(StoredDecision out, bytes decision_id):
    """Tell whether words and ids are those that a decision can have."""
    cdef CheckOutcome *found = &out.found
    return (
        out._argument is not None
        and out._session_id is not None
        and out._block_ids is not None
        and decision_id is not None
        and len(decision_id) == 16
        and found.reason in REASONS
        and found.stage in STAGES
        and 0 <= found.level <= LEVEL_BLOCK
        and len(out._block_ids) <= MAX_BLOCKS
        and all([type(each) is bytes and len(each) == 32 for each in out._block_ids])
        and len(out._session_id) == (16 if out._block_ids else 0)
    )


cdef bint _could_allow(StoredDecision out):
    """Tell whether an allow could say what this one says beside its flag and reason."""
    cdef CheckOutcome *found = &out.found
    return (
        found.stage == STAGE_NONE
        and found.level == 0
        and found.index == found.scope == found.clause == -1
        and not out._argument
        and 0 <= found.matched_index < len(out._block_ids)
        and found.matched_scope >= 0
        and found.expires_at_ms > found.checked_at_ms
    )

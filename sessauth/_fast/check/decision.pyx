"""The decision of a check in this process, and two numbers in mapped files that show if its state is current.

The numbers are the id of LMDB's last commit and the freshness bound of the host. The kernel has no enums and texts for a
decision: ``sessauth.decisions.decision`` binds them.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from sessauth._fast.base.boot import clock_id


# The id of the last commit, read without a transaction.
#
# LMDB writes the id of each transaction into one of two meta pages, in turn, before the commit returns.
# While the newer id equals the one that a mirror was read at, nothing was committed since, and nothing need be
# read again (docs/decisions.md#7-freshness-without-a-transaction). In doubt the number differs from the
# mirror's, and the check asks LMDB.

# The number after close: no transaction has this id.
cdef uint64_t NEVER = 0


cdef class CommitId:
    """Two 64-bit words of a mapped file, in the machine's byte order. The larger one counts."""

    def __cinit__(self, buffer not None, size_t first, size_t second):
        """Read the words at two offsets of a buffer, multiples of 8 inside it."""
        cdef Py_buffer view
        self._first = self._second = &NEVER
        # The memory outlives the release: the memoryview keeps it mapped.
        self._buffer = memoryview(buffer)
        PyObject_GetBuffer(self._buffer, &view, PyBUF_SIMPLE)
        try:
            for offset in (first, second):
                if offset % 8 or offset + 8 > <size_t> view.len or (<size_t> view.buf) % 8:
                    raise ValueError("the words of a pulse lie at multiples of 8 inside the buffer")
            self._first = <const uint64_t *> (<const unsigned char *> view.buf + first)
            self._second = <const uint64_t *> (<const unsigned char *> view.buf + second)
        finally:
            PyBuffer_Release(&view)

    @property
    def number(self):
        """The current number; 0 when closed."""
        return self.current()

    @property
    def numbers(self):
        """Both numbers, the first page's first; zeros when closed."""
        return self._first[0], self._second[0]

    def close(self):
        """Return 0 from now on, which is no transaction's id: every check asks the source."""
        self._closed = True
        self._first = self._second = &NEVER


cdef dict REASON_MEMBERS = {}
cdef dict STAGE_MEMBERS = {}
cdef object DECISION_BASE = None
cdef object RESTORE = None
# A pickle includes exceptions of this module only.
cdef str ERRORS = "sessauth.errors"


def bind_enums(dict reasons not None, dict stages not None, decision_base, restore):
    """Bind enum members to numbers, the methods of ``decision_base`` to decisions, and the function that unpickles."""
    global REASON_MEMBERS, STAGE_MEMBERS, DECISION_BASE, RESTORE
    REASON_MEMBERS, STAGE_MEMBERS, DECISION_BASE, RESTORE = reasons, stages, decision_base, restore


@cython.no_gc
@cython.freelist(64)
cdef class Decision:
    """The decision of a check; ``sessauth.decisions.decision.DecisionBase`` documents its members.

    Stores the kernel's outcome and creates Python objects on access.
    """

    cdef int fill(self, const CheckOutcome *outcome, Chain chain) except -1:
        """Copy an outcome, without its own copy of the argument's name."""
        self.outcome = outcome[0]
        self.outcome.argument = self.outcome.observed_argument = NULL
        if outcome.argument != NULL:
            self._argument = outcome.argument[: outcome.argument_n].decode("utf-8", "replace")
        if outcome.signature_valid:
            self.chain = chain
        return 0

    def __bool__(self):
        return self.outcome.allowed and self.outcome.reason == ALLOWED

    @property
    def allowed(self):
        """True if the call is allowed."""
        return self.outcome.allowed

    @property
    def observed(self):
        """True for an allow that the ceiling of a session in observe mode would have refused."""
        return bool(self) and self.outcome.level == LEVEL_CEILING

    @property
    def reason(self):
        """The ``Reason``."""
        return REASON_MEMBERS.get(self.outcome.reason, self.outcome.reason)

    @property
    def stage(self):
        """The ``Stage`` that refused; ``NONE`` if none did."""
        return STAGE_MEMBERS.get(self.outcome.stage, self.outcome.stage)

    @property
    def level(self):
        """The level that refused: 1 a ceiling, 2 a block, 0 neither. Of an allow 1: a ceiling in observe mode."""
        return self.outcome.level

    @property
    def index(self):
        """The ceiling layer or block that refused."""
        return self.outcome.index

    @property
    def scope(self):
        """The closest scope of that layer or block."""
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
        """The scope of that block."""
        return self.outcome.matched_scope

    @property
    def epoch(self):
        """The session's epoch; 0 unless the signatures are valid."""
        return self.outcome.epoch

    @property
    def revision(self):
        """The revision of the state at the check."""
        return self.outcome.revision

    @property
    def expires_at_ms(self):
        """The earliest time at which an allow can lapse by time alone, in ms since 1970; 0 for a denial."""
        return self.outcome.expires_at_ms

    @property
    def checked_at_ms(self):
        """The time of the check, in ms since 1970."""
        return self.outcome.checked_at_ms

    @property
    def fault(self):
        """The exception that caused INTERNAL_ERROR, or None."""
        return self._fault

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty unless the signatures are valid."""
        return b"" if self.chain is None else self.chain.session_id

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty unless the signatures are valid."""
        return () if self.chain is None else self.chain.block_ids

    @property
    def view_age_ms(self):
        """The possible age of the view, in ms: 0, since every check reads the state on its own host."""
        return 0

    @property
    def decision_id(self):
        """The unique id of this decision, 16 bytes."""
        return self.prefix + self.number.to_bytes(8, "big")

    def raise_if_denied(self):
        """Raise Denied with this decision unless the call is allowed."""
        DECISION_BASE.raise_if_denied(self)

    def explain(self, token=None, ceilings=()):
        """Return a line with the failure, its position, and the calls that are allowed instead."""
        return DECISION_BASE.explain(self, token, ceilings)

    def to_dict(self):
        """Return plain values for JSON."""
        return DECISION_BASE.to_dict(self)

    def __repr__(self):
        return object.__repr__(self) if DECISION_BASE is None else DECISION_BASE.__repr__(self)

    def _repr_html_(self):
        """Return a table for a notebook."""
        return DECISION_BASE._repr_html_(self)

    def __eq__(self, other):
        return _facts(self) == _facts(other) if isinstance(other, Decision) else NotImplemented

    def __hash__(self):
        return hash(self.decision_id)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        """Pickle the facts, and a fault of the package's own error types. The token is left out."""
        fault = self._fault if type(self._fault).__module__ == ERRORS else None
        return RESTORE, (_facts(self), fault)


@cython.no_gc
@cython.final
cdef class StoredDecision(Decision):
    """An unpickled decision; equal to the original."""

    cdef bytes _session_id
    cdef tuple _block_ids

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty unless the signatures are valid."""
        return self._session_id

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty unless the signatures are valid."""
        return self._block_ids


cdef tuple _facts(Decision decision):
    """Return the facts of a decision, in the order that ``restore_decision`` expects."""
    cdef const CheckOutcome *outcome = &decision.outcome
    return (
        bool(outcome.allowed), outcome.reason, outcome.stage, outcome.level, outcome.index, outcome.scope, outcome.clause,
        decision.argument, outcome.matched_index, outcome.matched_scope, decision.session_id, outcome.epoch,
        decision.block_ids, outcome.revision, outcome.expires_at_ms, outcome.checked_at_ms, decision.decision_id,
    )  # fmt: skip


def restore_decision(tuple facts not None, fault=None):
    """Return the decision of some facts, with the exception that caused INTERNAL_ERROR, if it was pickled.

    Raises ValueError, TypeError or OverflowError for facts that no decision has. In particular the flag and the
    reason of an allow agree, and it has a session and blocks but no refused position.
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
    if not _decision_is_whole(out, decision_id) or allowed is not (outcome.reason == ALLOWED):
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


cdef bint _decision_is_whole(StoredDecision out, bytes decision_id):
    """Return True if enums and ids are those of a possible decision."""
    cdef CheckOutcome *outcome = &out.outcome
    return (
        out._argument is not None
        and out._session_id is not None
        and out._block_ids is not None
        and decision_id is not None
        and len(decision_id) == 16
        and outcome.reason in REASON_MEMBERS
        and outcome.stage in STAGE_MEMBERS
        and 0 <= outcome.level <= LEVEL_BLOCK
        and len(out._block_ids) <= MAX_BLOCKS
        and all([type(each) is bytes and len(each) == 32 for each in out._block_ids])
        and len(out._session_id) == (16 if out._block_ids else 0)
    )


cdef bint _could_allow(StoredDecision out):
    """Return True if the other facts are those of a possible allow."""
    cdef CheckOutcome *outcome = &out.outcome
    return (
        outcome.stage == STAGE_NONE
        and (
            outcome.level == LEVEL_CEILING and outcome.index >= 0
            or outcome.level == 0 and outcome.index == outcome.scope == outcome.clause == -1 and not out._argument
        )
        # No scope decided on a token alone.
        and (
            outcome.matched_index == outcome.matched_scope == -1
            or 0 <= outcome.matched_index < len(out._block_ids) and outcome.matched_scope >= 0
        )
        and outcome.expires_at_ms > outcome.checked_at_ms
    )


# The freshness bound of a host: until when checks may use its copy of the state.
#
# A follower of the log writes the bound into the brake page (``state/host/brake.py``): a time of the steady clock in ms,
# 0 for no bound, and the identity of that clock. Every process of the host maps the page, so the bound needs no message,
# and a follower that was killed or stopped lets it pass.

cdef enum:
    # Places in the page, as in state/host/brake.py.
    FRESH_UNTIL_AT = 4048
    CLOCK_AT = 4080
    CLOCK_BYTES = 16
    PAGE_BYTES = 4096

# The word of a shorter buffer.
cdef int64_t NO_BOUND = 0


cdef class FreshnessBound:
    """The bound in a page. A buffer shorter than a page has none."""

    def __cinit__(self, page not None):
        """Raises ValueError for a page that does not begin at a multiple of 8."""
        cdef Py_buffer view
        self.word = &NO_BOUND
        # The memory outlives the release: the memoryview keeps it mapped.
        self._page = memoryview(page)
        PyObject_GetBuffer(self._page, &view, PyBUF_SIMPLE)
        try:
            if view.len < PAGE_BYTES:
                return
            if (<size_t> view.buf) % 8:
                raise ValueError("the brake page does not begin at a multiple of 8")
            self._clock_id = clock_id()
            self._clock_of_page = <const unsigned char *> view.buf + CLOCK_AT
            self.word = <const int64_t *> (<const unsigned char *> view.buf + FRESH_UNTIL_AT)
        finally:
            PyBuffer_Release(&view)

    @property
    def passed(self):
        """True if there is a bound and it has passed."""
        return self.passed_at(steady_ms())

    cdef bint passed_at(self, int64_t now_ms) noexcept:
        if load_word(self.word) == 0:
            return False
        # The clock is read before the word: a follower that starts writes them in the other order.
        if memcmp(self._clock_of_page, PyBytes_AS_STRING(self._clock_id), CLOCK_BYTES) != 0:
            return True
        # Unsigned, so that 0 and a past time are far ahead. A follower's bound is never that far ahead.
        return <uint64_t> load_word(self.word) - <uint64_t> now_ms - 1 >= <uint64_t> MAX_STALENESS_MS

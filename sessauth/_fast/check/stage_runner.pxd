"""Runs the stages of a check in their order."""

from libc.stdint cimport int64_t, uint64_t

cdef class StageRunner:
    cdef readonly View view
    cdef readonly ChainCache cache
    cdef readonly uint64_t bad_signatures
    cdef readonly uint64_t signatures
    # Receives a record of every decision, unless None.
    cdef public DecisionQueue decision_queue
    # Counts every decision, unless None.
    cdef public CheckCounters counters
    cdef bytes _prefix
    cdef uint64_t _count
    cdef int64_t _offset_ms
    cdef int64_t _files_checked_ms
    cdef bint _clock_jumped
    cdef ScratchBox box

    cdef Decision new_decision(self)
    # Set the time of a request: `now_ms`, or the clock's for -1.
    cdef bint clock(self, CheckInput *input, int64_t now_ms) except -1
    # The file and clock checks of `clock`, if they are due, for callers that read the checker before it.
    cdef int recheck_if_due(self) except -1
    cdef int _recheck(self, int64_t wall) except -1
    # The chain of a token's bytes, which `data` may own. None: the outcome is a denial.
    cdef Chain chain_of(self, CheckInput *input, object data, CheckOutcome *out)
    # Judge one call by the current state. `apply_floor`: the time is the clock's and must not go back.
    cdef bint judge(self, Chain chain, CheckInput *input, bint apply_floor, CheckOutcome *out) except -1
    # Run the stages before the scopes: all that read state, and the signatures.
    cdef bint judge_before_scope(
        self, ReadPoint *point, Chain chain, CheckInput *input, bint apply_floor, Lineage *lineage, CheckOutcome *out
    ) except -1
    # Take memory for a request's JSON that no other thread uses. Put it back as `box`.
    cdef ScratchBox take_box(self)
    cdef bint _judge_at(self, ReadPoint *point, Chain chain, CheckInput *input, bint apply_floor, CheckOutcome *out) except -1
    cdef bint _charge(
        self, Chain chain, const Lineage *lineage, const CheckInput *input, Scratch *scratch, CheckOutcome *out
    ) except -1
    cdef bint _session(self, ReadPoint *point, Chain chain, CheckInput *input, Lineage *lineage, CheckOutcome *out) except -1
    cdef KeyEntry _issuer(self, ReadPoint *point, Chain chain, SessionEntry session, CheckOutcome *out)
    cdef bint _signature(
        self, Chain chain, SessionEntry session, KeyEntry key, const CheckInput *input, CheckOutcome *out
    ) except -1
    cdef bint _find_revocation(self, ReadPoint *point, Chain chain, SessionEntry session, CheckOutcome *out) except -1

# A denial discloses no match.
cdef void set_observed_position(CheckOutcome *out) noexcept nogil
cdef void set_fault(CheckOutcome *out) noexcept nogil

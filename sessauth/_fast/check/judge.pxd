"""The stages of a check, and what they are judged by."""

from libc.stdint cimport int64_t, uint64_t

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, Scratch, ScratchBox
from sessauth._fast.check.chain_cache cimport ChainCache
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.lineage cimport Lineage
from sessauth._fast.check.view cimport KeyEntry, ReadPoint, SessionEntry, View
from sessauth._fast.record.counters cimport CheckCounters
from sessauth._fast.record.queue cimport DecisionQueue
from sessauth._fast.token.chain cimport Chain

cdef class StageRunner:
    cdef readonly View view
    cdef readonly ChainCache cache
    cdef readonly uint64_t bad_signatures
    cdef readonly uint64_t signatures
    # Told of every decision; None: nobody is.
    cdef public DecisionQueue tap
    # Counts every decision; None: nothing does.
    cdef public CheckCounters tally
    cdef bytes _prefix
    cdef uint64_t _count
    cdef int64_t _offset_ms
    cdef int64_t _looked_ms
    cdef bint _stepped
    cdef ScratchBox box

    cdef Decision new_decision(self)
    # Set the time of a request: `now_ms`, or the clock's for -1.
    cdef bint clock(self, CheckInput *asked, int64_t now_ms) except -1
    # What `clock` looks at, for what is taken from the checker before.
    cdef int look_first(self) except -1
    cdef int _look(self, int64_t wall) except -1
    # The chain of a token's bytes, which `data` may hold as an object; None with a finding.
    cdef Chain chain_of(self, CheckInput *asked, object data, CheckOutcome *out)
    # Judge one call by the state of now. `floored`: the time is the clock's, and not believed to go back.
    cdef bint judge(self, Chain chain, CheckInput *asked, bint floored, CheckOutcome *out) except -1
    # The stages up to the scopes: all that asks for the state, and the signatures.
    cdef bint stand(
        self, ReadPoint *moment, Chain chain, CheckInput *asked, bint floored, Lineage *ground, CheckOutcome *out
    ) except -1
    # Memory for a request's JSON that no other thread is using; to be put back as `box`.
    cdef ScratchBox take_box(self)
    cdef bint _judge_at(self, ReadPoint *moment, Chain chain, CheckInput *asked, bint floored, CheckOutcome *out) except -1
    cdef bint _pay(
        self, Chain chain, const Lineage *ground, const CheckInput *asked, Scratch *scratch, CheckOutcome *out
    ) except -1
    cdef bint _session(self, ReadPoint *moment, Chain chain, CheckInput *asked, Lineage *ground, CheckOutcome *out) except -1
    cdef KeyEntry _issuer(self, ReadPoint *moment, Chain chain, SessionEntry session, CheckOutcome *out)
    cdef bint _signature(
        self, Chain chain, SessionEntry session, KeyEntry key, const CheckInput *asked, CheckOutcome *out
    ) except -1
    cdef bint _look_for_revocations(self, ReadPoint *moment, Chain chain, SessionEntry session) except -1

# All that the chain was asked for stands.
cdef void allow(Chain chain, CheckOutcome *out) noexcept nogil
# A denial says nothing of what would have been.
cdef void forget_match(CheckOutcome *out) noexcept nogil
cdef void set_fault(CheckOutcome *out) noexcept nogil

"""The stages of a check, and what they are judged by."""

from libc.stdint cimport int64_t, uint64_t

from sessauth._fast.call.check_state cimport Asked, Finding, Scratch, ScratchBox
from sessauth._fast.check.chain_cache cimport Cache
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.lineage cimport Ground
from sessauth._fast.check.view cimport KeyEntry, Moment, SessionEntry, View
from sessauth._fast.record.counters cimport Tally
from sessauth._fast.record.queue cimport Tap
from sessauth._fast.token.chain cimport Chain

cdef class Judge:
    cdef readonly View view
    cdef readonly Cache cache
    cdef readonly uint64_t bad_signatures
    cdef readonly uint64_t signatures
    # Told of every decision; None: nobody is.
    cdef public Tap tap
    # Counts every decision; None: nothing does.
    cdef public Tally tally
    cdef bytes _prefix
    cdef uint64_t _count
    cdef int64_t _offset_ms
    cdef int64_t _looked_ms
    cdef bint _stepped
    cdef ScratchBox box

    cdef Decision new_decision(self)
    # Set the time of a request: `now_ms`, or the clock's for -1.
    cdef bint clock(self, Asked *asked, int64_t now_ms) except -1
    # What `clock` looks at, for what is taken from the checker before.
    cdef int look_first(self) except -1
    cdef int _look(self, int64_t wall) except -1
    # The chain of a token's bytes, which `data` may hold as an object; None with a finding.
    cdef Chain chain_of(self, Asked *asked, object data, Finding *out)
    # Judge one call by the state of now. `floored`: the time is the clock's, and not believed to go back.
    cdef bint judge(self, Chain chain, Asked *asked, bint floored, Finding *out) except -1
    # The stages up to the scopes: all that asks for the state, and the signatures.
    cdef bint stand(
        self, Moment *moment, Chain chain, Asked *asked, bint floored, Ground *ground, Finding *out
    ) except -1
    # Memory for a request's JSON that no other thread is using; to be put back as `box`.
    cdef ScratchBox take_box(self)
    cdef bint _judge_at(self, Moment *moment, Chain chain, Asked *asked, bint floored, Finding *out) except -1
    cdef bint _pay(
        self, Chain chain, const Ground *ground, const Asked *asked, Scratch *scratch, Finding *out
    ) except -1
    cdef bint _session(self, Moment *moment, Chain chain, Asked *asked, Ground *ground, Finding *out) except -1
    cdef KeyEntry _issuer(self, Moment *moment, Chain chain, SessionEntry session, Finding *out)
    cdef bint _signature(
        self, Chain chain, SessionEntry session, KeyEntry key, const Asked *asked, Finding *out
    ) except -1
    cdef bint _look_for_revocations(self, Moment *moment, Chain chain, SessionEntry session) except -1

# All that the chain was asked for stands.
cdef void allow(Chain chain, Finding *out) noexcept nogil
# A denial says nothing of what would have been.
cdef void forget_match(Finding *out) noexcept nogil
cdef void set_fault(Finding *out) noexcept nogil

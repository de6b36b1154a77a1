"""The bounded queue of decision records."""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

cdef struct QueueSegment:
    char *memory
    size_t used
    # Each chain of its records, once; owned.
    PyObject **chains
    Py_ssize_t chain_count
    Py_ssize_t chain_room
    # The weight of those chains, in bytes.
    size_t weight

cdef class DecisionQueue:
    cdef readonly size_t capacity
    cdef readonly uint64_t queued
    cdef readonly uint64_t lost
    # Every call is denied, since its decision can't be recorded.
    cdef public bint refusing
    # The first lost record sets `refusing`.
    cdef public bint refuse_when_lost
    cdef public object on_half_full
    cdef QueueSegment _active
    cdef QueueSegment _spare
    cdef bint _draining
    cdef bint _notified
    # Marks of chains in `_active`, and of chains whose payloads were drained.
    cdef uint32_t _segment_mark
    cdef uint32_t _payload_mark

    # Add a decision's record, or count it as lost without room. With the GIL.
    cdef void put(
        self,
        const CheckInput *input,
        const CheckOutcome *outcome,
        Chain chain,
        const unsigned char *prefix,
        uint64_t number,
        bint watched,
    ) noexcept
    cdef RecordHead *_reserve(self, size_t size, Chain chain) noexcept
    cdef bint _retain_chain(self, Chain chain) noexcept
    cdef void _notify(self) noexcept

# A mark that no chain has.
cdef uint32_t new_mark() noexcept

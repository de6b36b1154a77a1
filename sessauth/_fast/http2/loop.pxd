"""The event loop of a server of calls."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from sessauth._fast.http2.admission cimport Admission
from sessauth._fast.http2.listeners cimport Listeners

cdef class Loop(Admission):
    cdef uint8_t *buffer
    cdef Listeners _listeners
    cdef int64_t _swept_ns
    cdef int64_t _slow_reader_ns
    cdef readonly bint stopping
    # Calls that were answered before the last turn.
    cdef uint64_t _answered_before
    # Times in a row that the loop lingered for nothing, and turns behind answers.
    cdef int _misses
    cdef uint64_t _answering_turns
    cdef bint _woken
    # poll() runs.
    cdef bint _polls

    cdef int _require_no_poll(self) except -1
    cdef int _turn(self, int64_t until_ns) except -1
    cdef int _advance(self) except -1
    cdef int _wait(self, int timeout_ms, bint lingers, uint64_t *accepting) noexcept nogil
    cdef bint _may_linger(self) noexcept
    cdef int _linger(self, void *events) noexcept nogil
    cdef int _sweep(self) except -1
    cdef void _write_dirty(self) noexcept nogil

"""Answers to checks that need no thread."""

from libc.stdint cimport int64_t, uint64_t
from sessauth._fast._check cimport Checker, Histograms

cdef class DirectMethod:
    cdef str _kind
    cdef Checker _checker
    cdef object _explain
    cdef Histograms _times
    cdef Py_ssize_t _row
    cdef int _most
    # Calls that were answered.
    cdef readonly uint64_t answered

cdef class DirectCaller:
    cdef DirectMethod _method
    cdef object _gate
    cdef tuple _audiences

    # The answer to a request that came at `started_ns` of the monotonic clock. None: it needs a thread.
    cdef bytes answer(self, bytes data, int64_t started_ns)
    cdef str _audience_of(self, CheckMessage message)

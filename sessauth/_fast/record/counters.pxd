"""Counters of checks, in memory that other processes may read."""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    # Powers of two above the largest Stage and Reason.
    STAGES = 16
    REASONS = 128
    # 1, 2, 5 in each decade from 500 ns to 1 s.
    CHECK_BOUNDS = 20

cdef class CheckCounters:
    # A word for each stage and reason; a word for each bucket and the overflow bucket; the sum in ns; a word for allows
    # by observe mode alone.
    cdef uint64_t *_decisions
    cdef uint64_t *_checks
    cdef object _memory

    # Count an outcome.
    cdef void count_outcome(self, const CheckOutcome *outcome) noexcept nogil
    # The current time, for `add_time`.
    cdef int64_t begin(self) noexcept nogil
    # Count checks that were judged together since `started`, each with its share of the time.
    cdef void add_time(self, int64_t started, Py_ssize_t checks) noexcept nogil
    # Count one check: its time, and its outcome if `counted`.
    cdef void count_check(self, const CheckOutcome *outcome, int64_t started, bint counted) noexcept nogil

cdef class Histograms:
    cdef readonly Py_ssize_t rows
    cdef readonly tuple bounds
    cdef uint64_t *_cells
    cdef int64_t _bounds[32]
    cdef int _bound_count
    cdef object _memory

    # Count a value in a row that exists.
    cdef void count(self, Py_ssize_t row, int64_t value) noexcept nogil
    cdef uint64_t *_row(self, Py_ssize_t row) except NULL

"""Counters of check outcomes and check times.

The counters are 64-bit words in memory that may be shared. Another process can read them, also after this one was
killed. Only one process writes to a memory, with the GIL or from one thread.
"""

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    static const int64_t sessauth_check_bounds[20] = {
        500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000,
        1000000, 2000000, 5000000, 10000000, 20000000, 50000000, 100000000, 200000000, 500000000, 1000000000,
    };
    """
    const int64_t check_bounds "sessauth_check_bounds"[20]

cdef enum:
    MAX_BOUNDS = 32

COUNTERS_BYTES = (STAGES * REASONS + CHECK_BOUNDS + 3) * sizeof(uint64_t)
CHECK_BOUNDS_NS = tuple([check_bounds[i] for i in range(CHECK_BOUNDS)])


def histogram_bytes(Py_ssize_t rows, Py_ssize_t bounds):
    """Return the size in bytes of ``rows`` histograms with ``bounds`` bounds."""
    return rows * (bounds + 2) * sizeof(uint64_t)


cdef class CheckCounters:
    """Counts decisions by stage and reason, and the time of checks. ``checker.counters`` is one, or None.

    ``memory`` is a writable buffer of at least ``COUNTERS_BYTES`` bytes at a multiple of 8, whose counts continue.
    None allocates memory. Raises ValueError for another buffer.
    """

    def __cinit__(self, memory=None):
        self._memory = bytearray(COUNTERS_BYTES) if memory is None else memoryview(memory)
        self._decisions = _words(self._memory, COUNTERS_BYTES)
        self._checks = self._decisions + STAGES * REASONS

    cdef void count_outcome(self, const CheckOutcome *outcome) noexcept nogil:
        # Numbers beyond the tables count as UNSPECIFIED.
        cdef unsigned int stage = <unsigned int> outcome.stage
        cdef unsigned int reason = <unsigned int> outcome.reason
        self._decisions[stage * REASONS + reason if stage < STAGES and reason < REASONS else 0] += 1
        if outcome.allowed and outcome.level == LEVEL_CEILING:
            self._checks[CHECK_BOUNDS + 2] += 1

    cdef int64_t begin(self) noexcept nogil:
        return monotonic_ns()

    cdef void add_time(self, int64_t started, Py_ssize_t checks) noexcept nogil:
        cdef int64_t ns = monotonic_ns() - started
        if checks > 0:
            self._checks[_place(check_bounds, CHECK_BOUNDS, ns // checks)] += checks
            self._checks[CHECK_BOUNDS + 1] += ns

    cdef void count_check(self, const CheckOutcome *outcome, int64_t started, bint counted) noexcept nogil:
        if counted:
            self.count_outcome(outcome)
        self.add_time(started, 1)

    def decisions(self):
        """Return the counts above zero, by (stage, reason)."""
        cdef int stage, reason
        cdef dict counts = {}
        for stage in range(STAGES):
            for reason in range(REASONS):
                if self._decisions[stage * REASONS + reason]:
                    counts[stage, reason] = self._decisions[stage * REASONS + reason]
        return counts

    @property
    def buckets(self):
        """The number of checks up to each bound and above the one before; the last: above all bounds."""
        return tuple([self._checks[i] for i in range(CHECK_BOUNDS + 1)])

    @property
    def total_ns(self):
        """The total time of all checks, in ns."""
        return self._checks[CHECK_BOUNDS + 1]

    @property
    def observed(self):
        """The number of calls that only observe mode allowed."""
        return self._checks[CHECK_BOUNDS + 2]


cdef class Histograms:
    """``rows`` histograms of integers (times in ns, sizes) with the same 1 to 32 ascending bounds.

    ``memory`` is as for :class:`CheckCounters`, with at least ``histogram_bytes(rows, len(bounds))`` bytes.
    """

    def __cinit__(self, Py_ssize_t rows, bounds, memory=None):
        cdef int i
        self.bounds = tuple(bounds)
        if rows < 1 or not 1 <= len(self.bounds) <= MAX_BOUNDS or list(bounds) != sorted(set(bounds)):
            raise ValueError("a histogram has rows, and 1 to 32 bounds, each above the one before")
        self.rows = rows
        self._bound_count = len(self.bounds)
        for i in range(self._bound_count):
            self._bounds[i] = self.bounds[i]
        size = histogram_bytes(rows, self._bound_count)
        self._memory = bytearray(size) if memory is None else memoryview(memory)
        self._cells = _words(self._memory, size)

    def observe(self, Py_ssize_t row, int64_t value):
        """Count a value in a row. Values below 0 count as 0."""
        cdef uint64_t *cells = self._row(row)
        cells[_place(self._bounds, self._bound_count, value)] += 1
        cells[self._bound_count + 1] += <uint64_t> max(value, 0)

    cdef void count(self, Py_ssize_t row, int64_t value) noexcept nogil:
        cdef uint64_t *cells = self._cells + row * (self._bound_count + 2)
        cells[_place(self._bounds, self._bound_count, value)] += 1
        cells[self._bound_count + 1] += <uint64_t> max(value, 0)

    def buckets(self, Py_ssize_t row):
        """Return a row's counts, as ``CheckCounters.buckets``."""
        cdef uint64_t *cells = self._row(row)
        return tuple([cells[i] for i in range(self._bound_count + 1)])

    def total(self, Py_ssize_t row):
        """Return the sum of a row's values."""
        return self._row(row)[self._bound_count + 1]

    cdef uint64_t *_row(self, Py_ssize_t row) except NULL:
        if not 0 <= row < self.rows:
            raise IndexError("no such row")
        return self._cells + row * (self._bound_count + 2)


cdef uint64_t *_words(object memory, size_t size) except NULL:
    """Return the words of a buffer. The memoryview or bytearray pins it."""
    cdef Py_buffer view
    cdef uint64_t *words
    PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE)
    try:
        if <size_t> view.len < size or (<size_t> view.buf) % sizeof(uint64_t):
            raise ValueError(f"{size} bytes are needed, at a multiple of 8")
        words = <uint64_t *> view.buf
    finally:
        PyBuffer_Release(&view)
    return words


cdef inline int _place(const int64_t *bounds, int count, int64_t ns) noexcept nogil:
    """Return the bucket of a time. The search starts at the lowest, since most times are short."""
    cdef int i = 0
    while i < count and ns > bounds[i]:
        i += 1
    return i

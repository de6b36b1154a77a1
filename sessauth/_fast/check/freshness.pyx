"""The freshness bound of a host: until when checks may use its copy of the state.

A follower of the log writes the bound into the brake page (``state/host/brake.py``): a time of the steady clock in ms,
0 for no bound, and the identity of that clock. Every process of the host maps the page, so the bound needs no message,
and a follower that was killed or stopped lets it pass.
"""

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from sessauth._fast.base.boot import clock_id

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
        # Unsigned, so that 0 and a past time are far ahead. What is too far ahead can't be a follower's bound.
        return <uint64_t> load_word(self.word) - <uint64_t> now_ms - 1 >= <uint64_t> MAX_STALENESS_MS

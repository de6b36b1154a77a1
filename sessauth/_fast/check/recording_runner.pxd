"""Prepared tokens, and records of decisions."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memcmp

cdef class Prepared:
    cdef object checker
    cdef readonly bytes data
    cdef Chain chain
    cdef int reason

cdef class RecordingRunner(BatchRunner):
    cdef readonly str audience
    cdef object _token_type

    # The bytes of a token in any form, or its chain from the cache; None if it is refused, with the reason.
    cdef object read_token(self, object token, int *reason)
    # The same for a text form.
    cdef object read_text(self, bytes_t p, size_t n, int *reason)
    cdef int judge_timed(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1
    # Record an item's outcome, once. `watched`: it withdraws an allow.
    cdef void record_item(self, Batch batch, Item *item, bint watched) noexcept

cdef inline bint is_token_text(bytes_t p, size_t n) noexcept nogil:
    """Return 1 for a prefix of a token's text form."""
    return n > 9 and memcmp(p, <const char *> "sessauth_", 9) == 0

cdef inline bint holds_token_text(object token) noexcept:
    """Apply ``is_token_text`` to a bytes object."""
    return is_token_text(<bytes_t> PyBytes_AS_STRING(token), PyBytes_GET_SIZE(token))

"""The id of the last commit, read without a transaction."""

from libc.stdint cimport uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint64_t sessauth_newest(const uint64_t *first, const uint64_t *second) {
        uint64_t a = __atomic_load_n(first, __ATOMIC_ACQUIRE);
        uint64_t b = __atomic_load_n(second, __ATOMIC_ACQUIRE);
        return a > b ? a : b;
    }
    """
    uint64_t newest "sessauth_newest"(const uint64_t *first, const uint64_t *second)

cdef class CommitId:
    cdef object _buffer
    cdef const uint64_t *_first
    cdef const uint64_t *_second

    cdef bint _closed

    cdef inline uint64_t current(self) noexcept nogil:
        return newest(self._first, self._second)

    # True if the file has fewer commits than `number`. False when closed.
    cdef inline bint is_behind(self, uint64_t number) noexcept nogil:
        return not self._closed and newest(self._first, self._second) < number

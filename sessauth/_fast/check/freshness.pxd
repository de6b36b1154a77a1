"""The freshness bound of a host: two fields of its brake page."""

from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline int64_t sessauth_fresh_until(const int64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    """
    int64_t load_word "sessauth_fresh_until"(const int64_t *word)

cdef class FreshnessBound:
    cdef object _page
    cdef bytes _clock_id
    # 0: no bound.
    cdef const int64_t *word
    cdef const unsigned char *_clock_of_page

    # True if there is a bound that does not reach beyond `now_ms` of the steady clock.
    cdef bint passed_at(self, int64_t now_ms) noexcept

"""The cache of verified chains: what is immutable, by exact bytes."""

from sessauth._fast.chain cimport Chain

cdef class Cache:
    cdef readonly size_t capacity
    cdef readonly size_t quota
    cdef readonly size_t used
    cdef readonly unsigned long long hits
    cdef readonly unsigned long long misses
    cdef readonly unsigned long long evicted
    cdef dict _chains
    cdef object _small
    cdef object _main
    cdef object _ghost
    cdef size_t _small_used
    cdef dict _shares
    cdef object _prefixes

    cdef Chain find(self, bytes token)
    cdef int verified_blocks(self, Chain chain) except -1
    cdef int keep(self, Chain chain) except -1
    cdef object _share(self, bytes session_id)
    cdef int _drop(self, Chain chain) except -1
    cdef int _make_room(self) except -1
    cdef int _keep_prefixes(self, Chain chain) except -1

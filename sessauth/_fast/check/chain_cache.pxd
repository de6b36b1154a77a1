"""The cache of verified chains, by exact bytes."""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

# A verified run of blocks from the root: the first `count` of a cached chain. The low four bits of the tag are
# count - 1, the others a keyed hash of the last block's signature.
cdef struct CacheEntry:
    uint64_t tag
    PyObject *chain

# A tag that left the small queue (half of it), and the number of the eviction.
cdef struct GhostEntry:
    uint32_t tag
    uint32_t evicted

cdef class ChainCache:
    cdef readonly size_t capacity
    cdef readonly size_t quota
    cdef readonly size_t used
    cdef readonly unsigned long long hits
    cdef readonly unsigned long long misses
    cdef readonly unsigned long long evicted
    cdef uint64_t _keys[2]
    cdef CacheEntry *_slots
    cdef GhostEntry *_ghosts
    cdef size_t _mask
    cdef size_t _filled
    cdef size_t _count
    cdef Link _small
    cdef Link _main
    cdef size_t _small_used
    cdef dict _shares

    # The cached chain of exactly these bytes, or None.
    cdef Chain find(self, bytes_t p, size_t n)
    # The same by exactly this text form, if the cache keeps it. A miss is not counted.
    cdef Chain find_text(self, bytes_t p, size_t n)
    # Keep the text form of a cached chain, unless that is beyond its session's quota.
    cdef int keep_text(self, Chain chain, bytes_t p, size_t n) except -1
    # Number of leading blocks that are verified already.
    cdef int verified_blocks(self, Chain chain) noexcept
    cdef int add(self, Chain chain) except -1
    cdef uint64_t _hash(self, bytes_t signature) noexcept
    cdef uint64_t _hash_half(self, bytes_t half) noexcept
    cdef CacheEntry *_find_run(self, Chain chain, int count) noexcept
    cdef bint _insert(self, uint64_t tag, Chain chain) noexcept
    cdef void _erase(self, CacheEntry *slot) noexcept
    cdef bint _grow(self) noexcept
    cdef GhostEntry *_ghost(self, uint64_t tag) noexcept
    cdef void _register(self, Chain chain) noexcept
    cdef int _drop(self, Chain chain) except -1
    cdef int _make_room(self) except -1

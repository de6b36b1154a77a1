"""The replay table: the used proofs of a host, in one file that all its processes map."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    BUCKET_WORDS = 16

# A mapped table, usable without the GIL.
cdef struct Table:
    int descriptor
    size_t length
    # Time of the last check of the file, by the steady clock.
    int64_t checked_ms
    # In the file's header: the latest time of a use, in seconds.
    uint64_t *latest_s
    uint64_t *counters
    uint64_t *buckets
    # One less than the number of buckets, and of counters.
    uint64_t mask
    uint64_t made_at_ms
    uint32_t quota
    # SipHash keys for nonces and for holders.
    unsigned char keys[2][16]

cdef class ReplayTable:
    cdef Table table
    cdef object _map
    cdef readonly str path

    cdef int _open(self, str path) except -1

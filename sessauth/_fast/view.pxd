"""What a verifier knows: an in-memory mirror of the rows it met, as fresh as the transaction."""

from libc.stdint cimport uint32_t, uint64_t

from sessauth._fast.arena cimport Arena
from sessauth._fast.condition cimport Fact
from sessauth._fast.limits cimport MAX_CEILING_LAYERS
from sessauth._fast.scope cimport ScopeList
from sessauth._fast.text cimport bytes_t

cdef enum:
    STATUS_ACTIVE = 1
    STATUS_SUSPENDED = 2
    STATUS_ENDED = 3
    CAUSE_LEASE_LAPSED = 2
    CAUSE_EXPIRED = 3
    KEY_PREPARED = 1
    KEY_ACTIVE = 2
    KEY_RETIRED = 3
    KEY_DISTRUSTED = 4

cdef class SessionEntry:
    cdef bytes raw
    cdef size_t length
    # The transaction that this was last read in.
    cdef object seen_in
    cdef int status
    cdef int end_cause
    cdef uint64_t epoch
    cdef uint64_t expires_at_ms
    cdef uint64_t lease_ms
    cdef uint64_t lease_deadline_ms
    cdef uint64_t revoked_count
    cdef bytes parent_id
    cdef str owner
    cdef frozenset issuer_key_ids
    cdef Arena arena
    cdef ScopeList layers[MAX_CEILING_LAYERS]
    cdef int layer_count
    cdef Fact *facts
    cdef int fact_count
    cdef bytes_t base

    cdef const char *_compile(self) noexcept nogil

cdef class KeyEntry:
    cdef uint64_t generation
    cdef int status
    cdef bytes public_key
    cdef str owner
    cdef uint64_t retired_at_ms

cdef class Head:
    cdef object identity
    cdef object transaction
    cdef uint64_t revision
    cdef uint64_t clock_floor_ms
    cdef uint64_t keys_generation

    cdef Head within(self, object transaction)

cdef class View:
    cdef object source
    cdef object _begin
    cdef object _still_mine
    cdef object _brake
    cdef const unsigned char *brake
    cdef dict _sessions
    cdef dict _keys
    cdef Head _head
    cdef readonly int max_sessions
    cdef readonly bint lost

    cdef int look(self) except -1
    # The caller aborts the transaction of the head it got.
    cdef Head begin(self)
    cdef SessionEntry session(self, Head head, bytes session_id, uint64_t now_ms)
    cdef KeyEntry key(self, Head head, bytes key_id)
    cdef bint revoked(self, Head head, bytes session_id, bytes block_id) except -1

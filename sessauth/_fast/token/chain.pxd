"""A chain: the blocks of a token and their signatures (docs/token-format.md, section 3)."""

from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t, uint64_t

# A link of a ring. The ring's end has no owner.
cdef struct Link:
    Link *before
    Link *behind
    PyObject *owner

# MAC keys that holder and verifier agreed on, by verifier id and key id. Shared by threads.
cdef struct MacKeys:
    uint32_t lock
    # Index of the key to replace next.
    uint32_t next
    unsigned char names[2][48]
    unsigned char keys[2][32]

cdef class Chain:
    cdef readonly bytes raw
    cdef readonly int block_count
    cdef bytes_t base
    cdef size_t length
    cdef Arena arena
    cdef Root root
    cdef Block *blocks
    cdef unsigned char *ids             # 32 bytes a block, once computed
    # NULL unless the last block is bound with a proof_key.
    cdef MacKeys *mac_keys
    cdef readonly bytes session_id
    cdef readonly bytes issuer_key_id
    cdef readonly uint64_t expires_at_ms
    cdef readonly uint64_t not_before_ms
    cdef readonly uint64_t issued_at_ms
    cdef readonly int max_blocks
    # Offsets into raw behind each block, where a prefix of the chain ends.
    cdef uint16_t ends[MAX_BLOCKS]
    cdef bint any_unknown
    # The first revoked block, or -1, as of the session's `revocation_mark`; 0: not checked.
    cdef uint64_t revocation_mark
    cdef int revoked_index
    # Results of verification, which never change: all signatures are valid; or the first wrong block, else -1.
    cdef bint signatures_valid
    cdef int wrong_index
    # State of the chain cache.
    cdef int hits
    cdef int queue
    cdef size_t cached_bytes
    cdef Link queue_link
    cdef Link session_link
    # The text form, if the cache keeps it.
    cdef bytes text
    # Behind all fields that a check reads: BLAKE2b-256 of raw, once computed.
    cdef unsigned char *digest
    # Marks of the decision queue: the segment that owns the chain, the drain of its payloads, the stream that has them.
    cdef uint32_t segment_mark
    cdef uint32_t payload_mark
    cdef uint32_t written_mark

    cdef const char *_parse(self, int *reason, int *at) noexcept nogil
    cdef const char *_relate(self, int *reason, int *at) noexcept nogil
    cdef int verify_from(self, int first, bytes_t issuer_key) noexcept nogil
    cdef bint compute_ids(self) noexcept nogil
    # NULL without memory. With the GIL, as compute_ids: threads share the arena.
    cdef const unsigned char *compute_digest(self) noexcept nogil
    cdef size_t weight(self) noexcept nogil

# Returns a Chain, or None with the reason, the block and the fault.
cdef Chain parse_chain(bytes token, int *reason, int *at, const char **wrong)

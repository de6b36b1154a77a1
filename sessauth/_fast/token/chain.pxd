"""A chain: blocks that belong together, and their signatures (docs/token-format.md, section 3)."""

from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from sessauth._fast.base.arena cimport Arena
from sessauth._fast.base.limits cimport MAX_BLOCKS
from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.token.block cimport Block, Root

cdef enum:
    SIGNATURE_BYTES = 64

# A place in a ring; the ring's end owns nothing.
cdef struct Link:
    Link *before
    Link *behind
    PyObject *owner

# Keys that holder and verifier agreed on, by verifier id and key id. Used by several threads at once.
cdef struct MacKeys:
    uint32_t lock
    # Which of the two is replaced next.
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
    cdef unsigned char *ids             # 32 bytes a block, once they were computed
    # Room for its holder's; NULL where it ends otherwise than bound with a proof_key.
    cdef MacKeys *mac_keys
    cdef readonly bytes session_id
    cdef readonly bytes issuer_key_id
    cdef readonly uint64_t expires_at_ms
    cdef readonly uint64_t not_before_ms
    cdef readonly uint64_t issued_at_ms
    cdef readonly int max_blocks
    # Offsets into raw behind each block: a prefix of the chain ends there.
    cdef uint16_t ends[MAX_BLOCKS]
    cdef bint any_unknown
    # The first of its blocks, or -1, that is among the session's revocations as of `looked_mark`; 0: not looked.
    cdef uint64_t revocation_mark
    cdef int revoked_index
    # Its signatures stood once, so they stand; or the one of this block was wrong, so it is; else -1.
    cdef bint signatures_valid
    cdef int wrong_index
    # The verified-chain cache's own.
    cdef int hits
    cdef int queue
    cdef size_t cached_bytes
    cdef Link queue_link
    cdef Link session_link
    # Behind all that a check reads: BLAKE2b-256 of raw, once it was computed.
    cdef unsigned char *digest
    # The tap's marks: of the notes that hold it, and of whom its payloads were given and written for.
    cdef uint32_t segment_mark
    cdef uint32_t payload_mark
    cdef uint32_t written_mark

    cdef const char *_parse(self, int *reason, int *at) noexcept nogil
    cdef const char *_relate(self, int *reason, int *at) noexcept nogil
    cdef int verify_from(self, int first, bytes_t issuer_key) noexcept nogil
    cdef bint compute_ids(self) noexcept nogil
    # NULL when memory is out. With the GIL, as compute_ids: the arena is nobody's own.
    cdef const unsigned char *compute_digest(self) noexcept nogil
    cdef size_t weight(self) noexcept nogil

# Returns a Chain, or None with the reason, the block and what is wrong.
cdef Chain parse_chain(bytes token, int *reason, int *at, const char **wrong)
# Where the last block's signature lies in what may be a token, or NULL; nothing else is looked at.
cdef bytes_t last_signature(bytes_t p, size_t n) noexcept nogil

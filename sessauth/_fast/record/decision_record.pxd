"""What is kept of a decision until it was recorded: a head, and behind it the texts."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.token.chain cimport Chain

cdef enum:
    RECORD_ALLOWED = 1
    # The signature stands, so what the token says may be told; without, a digest stands behind the head.
    RECORD_SIGNATURE_VALID = 2
    RECORD_WATCHED = 4
    # Behind the digest stands the session that an unverified token names.
    RECORD_CLAIMS_SESSION = 8

cdef enum:
    DIGEST_BYTES = 32
    SESSION_BYTES = 16
    PREFIX_BYTES = 8

cdef struct RecordHead:
    # Of head and texts, a multiple of 8.
    size_t size
    # Borrowed from whoever holds the note; NULL unless it is named.
    PyObject *chain
    uint64_t number
    uint64_t at_ms
    uint64_t epoch
    uint64_t revision
    uint64_t expires_at_ms
    int reason
    int stage
    int level
    int index
    int scope
    int clause
    int matched_index
    int matched_scope
    uint32_t arguments_n
    uint16_t action_n
    uint16_t resource_n
    uint16_t source_n
    uint16_t audience_n
    uint16_t argument_n
    uint8_t flags
    unsigned char prefix[PREFIX_BYTES]

cdef struct RecordParts:
    # NULL where the chain has it, or there is none.
    bytes_t digest
    bytes_t claimed
    TextSlice action
    TextSlice resource
    TextSlice source
    TextSlice audience
    TextSlice argument
    TextSlice arguments

# What notes of one drain lie in; frees it with the last of them.
cdef class DrainedRecords:
    cdef char *memory
    cdef size_t used
    cdef PyObject **chains
    cdef Py_ssize_t chain_count

    cdef int allocate(self, size_t n) except -1

cdef class DecisionRecord:
    cdef DrainedRecords drained
    cdef const RecordHead *head
    # The first note of its chain that anybody is given.
    cdef bint first

cdef inline void record_parts(const RecordHead *head, RecordParts *out) noexcept nogil:
    """Point at what stands behind a head."""
    cdef bytes_t p = <bytes_t> head + sizeof(RecordHead)
    out.digest = NULL
    out.claimed = NULL
    if not head.flags & RECORD_SIGNATURE_VALID:
        out.digest = p
        p += DIGEST_BYTES
        if head.flags & RECORD_CLAIMS_SESSION:
            out.claimed = p
            p += SESSION_BYTES
    out.action.p = p
    out.action.n = head.action_n
    p += head.action_n
    out.resource.p = p
    out.resource.n = head.resource_n
    p += head.resource_n
    out.source.p = p
    out.source.n = head.source_n
    p += head.source_n
    out.audience.p = p
    out.audience.n = head.audience_n
    p += head.audience_n
    out.argument.p = p
    out.argument.n = head.argument_n
    p += head.argument_n
    out.arguments.p = p
    out.arguments.n = head.arguments_n

cdef inline void record_id(const RecordHead *head, unsigned char *out) noexcept nogil:
    """Write the 16 bytes of the decision's id."""
    cdef int i
    for i in range(PREFIX_BYTES):
        out[i] = head.prefix[i]
        out[PREFIX_BYTES + i] = <unsigned char> (head.number >> (56 - 8 * i))

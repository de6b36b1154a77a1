"""The memory layout of a decision record: a head, followed by the texts."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    RECORD_ALLOWED = 1
    # All signatures are valid, so the token's content may be disclosed. Otherwise a digest follows the head.
    RECORD_SIGNATURE_VALID = 2
    RECORD_WATCHED = 4
    # The session that an unverified token claims follows the digest.
    RECORD_CLAIMS_SESSION = 8
    # The token alone was judged: there is no call.
    RECORD_TOKEN_ONLY = 16

cdef enum:
    SESSION_BYTES = 16
    PREFIX_BYTES = 8

cdef struct RecordHead:
    # Size of head and texts, a multiple of 8.
    size_t size
    # Borrowed from the queue or DrainedRecords. NULL unless the signatures are valid.
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
    # NULL if the chain has it, or it is absent.
    bytes_t digest
    bytes_t claimed
    TextSlice action
    TextSlice resource
    TextSlice source
    TextSlice audience
    TextSlice argument
    TextSlice arguments

# The memory of the records of one drain, freed with the last of them.
cdef class DrainedRecords:
    cdef char *memory
    cdef size_t used
    cdef PyObject **chains
    cdef Py_ssize_t chain_count

    cdef int allocate(self, size_t n) except -1

cdef class DecisionRecord:
    cdef DrainedRecords drained
    cdef const RecordHead *head
    # The first drained record of its chain.
    cdef bint first

cdef inline void record_parts(const RecordHead *head, RecordParts *out) noexcept nogil:
    """Point at the parts that follow a head."""
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

"""Counters, decision records and their queue. A record is a head, followed by the texts."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t


# Counters of checks, in memory that other processes may read.

cdef enum:
    # Powers of two above the largest Stage and Reason.
    STAGES = 16
    REASONS = 128
    # 1, 2, 5 in each decade from 500 ns to 1 s.
    CHECK_BOUNDS = 20

cdef class CheckCounters:
    # A word for each stage and reason; a word for each bucket and the overflow bucket; the sum in ns; a word for allows
    # by observe mode alone.
    cdef uint64_t *_decisions
    cdef uint64_t *_checks
    cdef object _memory

    # Count an outcome.
    cdef void count_outcome(self, const CheckOutcome *outcome) noexcept nogil
    # The current time, for `add_time`.
    cdef int64_t begin(self) noexcept nogil
    # Count checks that were made together since `started`, each with its share of the time.
    cdef void add_time(self, int64_t started, Py_ssize_t checks) noexcept nogil
    # Count one check: its time, and its outcome if `counted`.
    cdef void count_check(self, const CheckOutcome *outcome, int64_t started, bint counted) noexcept nogil

cdef class Histograms:
    cdef readonly Py_ssize_t rows
    cdef readonly tuple bounds
    cdef uint64_t *_cells
    cdef int64_t _bounds[32]
    cdef int _bound_count
    cdef object _memory

    # Count a value in a row that exists.
    cdef void count(self, Py_ssize_t row, int64_t value) noexcept nogil
    cdef uint64_t *_row(self, Py_ssize_t row) except NULL


cdef enum:
    RECORD_ALLOWED = 1
    # All signatures are valid, so the token's content may be disclosed. Otherwise a digest follows the head.
    RECORD_SIGNATURE_VALID = 2
    RECORD_WATCHED = 4
    # The session that an unverified token claims follows the digest.
    RECORD_CLAIMS_SESSION = 8
    # The token alone was checked: there is no call.
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


# The bounded queue of decision records.

cdef struct QueueSegment:
    char *memory
    size_t used
    # Each chain of its records, once; owned.
    PyObject **chains
    Py_ssize_t chain_count
    Py_ssize_t chain_room
    # The weight of those chains, in bytes.
    size_t weight

cdef class DecisionQueue:
    cdef readonly size_t capacity
    cdef readonly uint64_t queued
    cdef readonly uint64_t lost
    # Every call is denied, since its decision can't be recorded.
    cdef public bint refusing
    # The first lost record sets `refusing`.
    cdef public bint refuse_when_lost
    cdef public object on_half_full
    cdef QueueSegment _active
    cdef QueueSegment _spare
    cdef bint _draining
    cdef bint _notified
    # Marks of chains in `_active`, and of chains whose payloads were drained.
    cdef uint32_t _segment_mark
    cdef uint32_t _payload_mark

    # Add a decision's record, or count it as lost without space. With the GIL.
    cdef void put(
        self,
        const CheckInput *input,
        const CheckOutcome *outcome,
        Chain chain,
        const unsigned char *prefix,
        uint64_t number,
        bint watched,
    ) noexcept
    cdef RecordHead *_reserve(self, size_t size, Chain chain) noexcept
    cdef bint _retain_chain(self, Chain chain) noexcept
    cdef void _notify(self) noexcept

# A mark that no chain has.
cdef uint32_t new_mark() noexcept

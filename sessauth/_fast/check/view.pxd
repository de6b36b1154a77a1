"""A view: an in-memory mirror of state rows, as fresh as its transaction."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    STATUS_ACTIVE = 1
    STATUS_SUSPENDED = 2
    STATUS_ENDED = 3
    CAUSE_LEASE_LAPSED = 2
    CAUSE_EXPIRED = 3
    CAUSE_RESTORED = 5
    KEY_PREPARED = 1
    KEY_ACTIVE = 2
    KEY_RETIRED = 3
    KEY_DISTRUSTED = 4
    BLOCK_NOT_REVOKED = 0
    BLOCK_REVOKED = 1
    # The rows of the session's revocations do not add up: some are lost.
    BLOCK_UNPROVEN = 2

# The compiled rules of a session: the layers of its ceiling, and the facts that their conditions read. `observe`: its
# ceiling refuses nothing.
cdef struct SessionRules:
    ScopeList layers[MAX_CEILING_LAYERS]
    int layer_count
    Fact *facts
    int fact_count
    bint observe
    bytes_t base

cdef class SessionEntry:
    cdef bytes id
    cdef bytes raw
    cdef size_t length
    # Id of the transaction of the last read.
    cdef uint64_t read_in
    cdef uint64_t revision
    cdef int status
    cdef int end_cause
    cdef uint64_t epoch
    cdef uint64_t expires_at_ms
    cdef uint64_t lease_ms
    cdef uint64_t lease_deadline_ms
    cdef uint64_t revoked_count
    # Identifies the session and its number of revocations: an id may be reused long after a session's end.
    cdef uint64_t revocation_mark
    # None: no parent.
    cdef bytes parent_id
    cdef str owner
    # None: any.
    cdef frozenset issuer_key_ids
    cdef Arena arena
    cdef SessionRules rules

    cdef const char *_compile(self) noexcept nogil

cdef class KeyEntry:
    cdef bytes id
    cdef uint64_t generation
    cdef int status
    cdef bytes public_key
    # None: for every owner.
    cdef str owner
    cdef uint64_t retired_at_ms

# The state as of one transaction.
cdef struct ReadPoint:
    uint64_t identity
    uint64_t revision
    uint64_t clock_floor_ms
    uint64_t keys_generation
    # A session with an older row ended at that revision.
    uint64_t incarnation_revision
    # Borrowed from the caller that began it. NULL: none is open, and only mirrored rows are available.
    PyObject *transaction
    # A row is missing in the mirror.
    bint needs_read

cdef class View:
    cdef object source
    cdef object _files_unchanged
    cdef object _brake
    cdef const unsigned char *brake
    # The host's bound; its word, for one load a check; and this view's own: stale from this steady ms on; 0: never.
    cdef FreshnessBound _host_bound
    cdef const int64_t *_fresh_until
    cdef int64_t _stale_at_ms
    cdef CommitId _commit_id
    cdef dict _sessions
    cdef dict _keys
    cdef ReadPoint _latest
    cdef bint _any
    cdef readonly int max_sessions
    cdef readonly bint lost

    cdef int recheck_files(self) except -1
    # True once `_stale_at_ms` or the host's bound has passed. Without either this reads no clock.
    cdef inline bint stale(self) noexcept:
        return (self._stale_at_ms | load_word(self._fresh_until)) != 0 and self._bound_passed()
    cdef bint _bound_passed(self) noexcept
    # True if nothing was committed since the latest read point, which `out` then is.
    cdef bint is_unchanged(self, ReadPoint *out) noexcept
    # Returns the transaction; the caller aborts it.
    cdef object begin(self, ReadPoint *out)
    # None also if the read point needs a read.
    cdef SessionEntry session(self, ReadPoint *point, bytes session_id, uint64_t now_ms)
    cdef KeyEntry key(self, ReadPoint *point, bytes key_id)
    # One of the three; of a read point that needs a read, BLOCK_NOT_REVOKED.
    cdef int revoked(self, ReadPoint *point, SessionEntry session, bytes block_id) except -1
    cdef bint _proves_absence(self, object transaction, object tallies, SessionEntry session, bytes block_id) except -1
    cdef bint _adds_up(
        self, object transaction, bytes prefix, bytes key, uint64_t count, uint64_t total, bint has_total
    ) except -1

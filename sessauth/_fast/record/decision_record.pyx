"""Counters of checks, decision records as sinks read them, and the queue that the recorder drains."""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset


# Counters of check outcomes and check times.
#
# The counters are 64-bit words in memory that may be shared. Another process can read them, also after this one was
# killed. Only one process writes to a memory, with the GIL or from one thread.

cdef extern from * nogil:
    """
    #include <stdint.h>
    static const int64_t sessauth_check_bounds[20] = {
        500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000,
        1000000, 2000000, 5000000, 10000000, 20000000, 50000000, 100000000, 200000000, 500000000, 1000000000,
    };
    """
    const int64_t check_bounds "sessauth_check_bounds"[20]

cdef enum:
    MAX_BOUNDS = 32

COUNTERS_BYTES = (STAGES * REASONS + CHECK_BOUNDS + 3) * sizeof(uint64_t)
CHECK_BOUNDS_NS = tuple([check_bounds[i] for i in range(CHECK_BOUNDS)])


def histogram_bytes(Py_ssize_t rows, Py_ssize_t bounds):
    """Return the size in bytes of ``rows`` histograms with ``bounds`` bounds."""
    return rows * (bounds + 2) * sizeof(uint64_t)


cdef class CheckCounters:
    """Counts decisions by stage and reason, and the time of checks. ``checker.counters`` is one, or None.

    ``memory`` is a writable buffer of at least ``COUNTERS_BYTES`` bytes at a multiple of 8, whose counts continue.
    None allocates memory. Raises ValueError for another buffer.
    """

    def __cinit__(self, memory=None):
        self._memory = bytearray(COUNTERS_BYTES) if memory is None else memoryview(memory)
        self._decisions = _words(self._memory, COUNTERS_BYTES)
        self._checks = self._decisions + STAGES * REASONS

    cdef void count_outcome(self, const CheckOutcome *outcome) noexcept nogil:
        # Numbers beyond the tables count as UNSPECIFIED.
        cdef unsigned int stage = <unsigned int> outcome.stage
        cdef unsigned int reason = <unsigned int> outcome.reason
        self._decisions[stage * REASONS + reason if stage < STAGES and reason < REASONS else 0] += 1
        if outcome.allowed and outcome.level == LEVEL_CEILING:
            self._checks[CHECK_BOUNDS + 2] += 1

    cdef int64_t begin(self) noexcept nogil:
        return monotonic_ns()

    cdef void add_time(self, int64_t started, Py_ssize_t checks) noexcept nogil:
        cdef int64_t ns = monotonic_ns() - started
        if checks > 0:
            self._checks[_place(check_bounds, CHECK_BOUNDS, ns // checks)] += checks
            self._checks[CHECK_BOUNDS + 1] += ns

    cdef void count_check(self, const CheckOutcome *outcome, int64_t started, bint counted) noexcept nogil:
        if counted:
            self.count_outcome(outcome)
        self.add_time(started, 1)

    def decisions(self):
        """Return the counts above zero, by (stage, reason)."""
        cdef int stage, reason
        cdef dict counts = {}
        for stage in range(STAGES):
            for reason in range(REASONS):
                if self._decisions[stage * REASONS + reason]:
                    counts[stage, reason] = self._decisions[stage * REASONS + reason]
        return counts

    @property
    def buckets(self):
        """The number of checks up to each bound and above the one before; the last: above all bounds."""
        return tuple([self._checks[i] for i in range(CHECK_BOUNDS + 1)])

    @property
    def total_ns(self):
        """The total time of all checks, in ns."""
        return self._checks[CHECK_BOUNDS + 1]

    @property
    def observed(self):
        """The number of calls that only observe mode allowed."""
        return self._checks[CHECK_BOUNDS + 2]


cdef class Histograms:
    """``rows`` histograms of integers (times in ns, sizes) with the same 1 to 32 ascending bounds.

    ``memory`` is as for :class:`CheckCounters`, with at least ``histogram_bytes(rows, len(bounds))`` bytes.
    """

    def __cinit__(self, Py_ssize_t rows, bounds, memory=None):
        cdef int i
        self.bounds = tuple(bounds)
        if rows < 1 or not 1 <= len(self.bounds) <= MAX_BOUNDS or list(bounds) != sorted(set(bounds)):
            raise ValueError("a histogram has rows, and 1 to 32 bounds, each above the one before")
        self.rows = rows
        self._bound_count = len(self.bounds)
        for i in range(self._bound_count):
            self._bounds[i] = self.bounds[i]
        size = histogram_bytes(rows, self._bound_count)
        self._memory = bytearray(size) if memory is None else memoryview(memory)
        self._cells = _words(self._memory, size)

    def observe(self, Py_ssize_t row, int64_t value):
        """Count a value in a row. Values below 0 count as 0."""
        cdef uint64_t *cells = self._row(row)
        cells[_place(self._bounds, self._bound_count, value)] += 1
        cells[self._bound_count + 1] += <uint64_t> max(value, 0)

    cdef void count(self, Py_ssize_t row, int64_t value) noexcept nogil:
        cdef uint64_t *cells = self._cells + row * (self._bound_count + 2)
        cells[_place(self._bounds, self._bound_count, value)] += 1
        cells[self._bound_count + 1] += <uint64_t> max(value, 0)

    def buckets(self, Py_ssize_t row):
        """Return a row's counts, as ``CheckCounters.buckets``."""
        cdef uint64_t *cells = self._row(row)
        return tuple([cells[i] for i in range(self._bound_count + 1)])

    def total(self, Py_ssize_t row):
        """Return the sum of a row's values."""
        return self._row(row)[self._bound_count + 1]

    cdef uint64_t *_row(self, Py_ssize_t row) except NULL:
        if not 0 <= row < self.rows:
            raise IndexError("no such row")
        return self._cells + row * (self._bound_count + 2)


cdef uint64_t *_words(object memory, size_t size) except NULL:
    """Return the words of a buffer. The memoryview or bytearray pins it."""
    cdef Py_buffer view
    cdef uint64_t *words
    PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE)
    try:
        if <size_t> view.len < size or (<size_t> view.buf) % sizeof(uint64_t):
            raise ValueError(f"{size} bytes are needed, at a multiple of 8")
        words = <uint64_t *> view.buf
    finally:
        PyBuffer_Release(&view)
    return words


cdef inline int _place(const int64_t *bounds, int count, int64_t ns) noexcept nogil:
    """Return the bucket of a time. The search starts at the lowest, since most times are short."""
    cdef int i = 0
    while i < count and ns > bounds[i]:
        i += 1
    return i


@cython.final
@cython.no_gc
cdef class DrainedRecords:
    """The memory of drained records, and their chains."""

    cdef int allocate(self, size_t n) except -1:
        self.memory = <char *> malloc(n)
        if self.memory == NULL:
            raise MemoryError
        self.used = n
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.chain_count):
            Py_DECREF(<object> self.chains[i])
        free(self.chains)
        free(self.memory)


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class DecisionRecord:
    """The record of one decision and its call. Read-only; Python objects are created on access.

    All records of one drain share one memory, which lives as long as any of them. Copy parts that must live longer.

    Without valid signatures (``signature_valid``) a record has nothing of the token but a digest of its bytes and the
    session that it claims. It never has signatures or secrets. ``action``, ``resource``, ``arguments`` and ``source``
    come from the caller.
    """

    def __init__(self):
        raise TypeError("a DecisionRecord is drained from a DecisionQueue")

    @property
    def at_ms(self):
        """The time of the check, in ms since 1970."""
        return self.head.at_ms

    @property
    def decision_id(self):
        """The decision's id, 16 bytes."""
        return PyBytes_FromStringAndSize(<const char *> self.head.prefix, 8) + self.head.number.to_bytes(8, "big")

    @property
    def allowed(self):
        """True if the call is allowed."""
        return self.head.flags & RECORD_ALLOWED != 0

    @property
    def reason(self):
        """The number of the reason."""
        return self.head.reason

    @property
    def stage(self):
        """The number of the stage that refused; 0: none."""
        return self.head.stage

    @property
    def signature_valid(self):
        """True if all signatures are valid, so that session, epoch and blocks are authentic."""
        return self.head.flags & RECORD_SIGNATURE_VALID != 0

    @property
    def watched(self):
        """True if this withdraws a watched allow."""
        return self.head.flags & RECORD_WATCHED != 0

    @property
    def token_only(self):
        """True if the token alone was checked, and no call."""
        return self.head.flags & RECORD_TOKEN_ONLY != 0

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty unless the signatures are valid."""
        return (<Chain> self.head.chain).session_id if self.head.chain != NULL else b""

    @property
    def claimed_session(self):
        """The session that an unverified token claims; else empty. Not trustworthy."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return b"" if parts.claimed == NULL else PyBytes_FromStringAndSize(<const char *> parts.claimed, SESSION_BYTES)

    @property
    def epoch(self):
        """The session's epoch; 0 unless the signatures are valid."""
        return self.head.epoch

    @property
    def revision(self):
        """The revision of the state at the check."""
        return self.head.revision

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty unless the signatures are valid."""
        return (<Chain> self.head.chain).block_ids if self.head.chain != NULL else ()

    @property
    def payloads(self):
        """The signed payloads of the blocks in the first record of a chain; else empty."""
        return (<Chain> self.head.chain).payloads if self.first else ()

    @property
    def token_digest(self):
        """BLAKE2b-256 of the presented token's bytes, also if they are no token.

        Covers at most the first 8,192 bytes. Longer input is no token.
        """
        cdef RecordParts parts
        cdef const unsigned char *digest
        record_parts(self.head, &parts)
        digest = parts.digest
        if self.head.chain != NULL:
            digest = (<Chain> self.head.chain).compute_digest()
            if digest == NULL:
                raise MemoryError
        return PyBytes_FromStringAndSize(<const char *> digest, DIGEST_BYTES)

    @property
    def action(self):
        """The action; at most 1 KiB, like the other texts."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.action)

    @property
    def resource(self):
        """The resource."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.resource)

    @property
    def arguments(self):
        """The JSON bytes of the arguments, at most 1 MiB. For digests only: never store them."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return PyBytes_FromStringAndSize(<const char *> parts.arguments.p, parts.arguments.n)

    @property
    def audience(self):
        """The audience of the check."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.audience)

    @property
    def source(self):
        """The agent's IP address as the gateway stated it, or empty."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.source)

    @property
    def level(self):
        """The level that refused: 1 a ceiling, 2 a block, 0 neither. Of an allow 1: a ceiling in observe mode."""
        return self.head.level

    @property
    def index(self):
        """The ceiling layer or block that refused; -1: none."""
        return self.head.index

    @property
    def scope(self):
        """The closest scope of that layer or block; -1: none."""
        return self.head.scope

    @property
    def clause(self):
        """The condition that failed; -1: none."""
        return self.head.clause

    @property
    def argument(self):
        """The name of the argument at fault; empty if there is none. Never its value."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.argument)

    @property
    def matched_index(self):
        """The last block whose scope admitted the call; -1: none."""
        return self.head.matched_index

    @property
    def matched_scope(self):
        """The scope of that block; -1: none."""
        return self.head.matched_scope

    @property
    def expires_at_ms(self):
        """The earliest time at which an allow can lapse by time alone, in ms since 1970; 0 for a denial."""
        return self.head.expires_at_ms

    def __repr__(self):
        # Without texts of the call: a repr may end up in a log.
        return f"<{type(self).__name__} {self.decision_id.hex()} allowed={self.allowed} reason={self.reason}>"


cdef str _record_text(const TextSlice *part):
    return part.p[: part.n].decode("utf-8", "replace")


# The bounded queue of decision records.
#
# A check pays one copy into preallocated memory: it creates no object, takes no lock beside the GIL, and hashes only
# input that is not a valid token. The recorder drains all records at once. Memory is bounded: a record without space
# is counted as lost, and the call continues.

cdef enum:
    # Limit of each text. A longer action, resource, source or audience is invalid.
    MAX_TEXT_BYTES = 1024
    FIRST_CHAINS = 64

cdef uint32_t _last_mark = 0


cdef uint32_t new_mark() noexcept:
    global _last_mark
    _last_mark += 1
    if _last_mark == 0:
        _last_mark = 1
    return _last_mark


@cython.final
cdef class DecisionQueue:
    """Records of a checker's decisions: at most ``capacity_bytes`` with their chains.

    ``on_half_full`` is called when half of the capacity is used, at most once between two drains. ``queued`` counts
    queued records, ``lost`` those without space. While ``refusing`` is set, every call is denied AUDIT_UNAVAILABLE.
    With ``refuse_when_lost`` the first loss sets it, since the recorder may be blocked then.
    """

    def __cinit__(self, size_t capacity_bytes, *, on_half_full=None):
        if capacity_bytes < 4096:
            raise ValueError("capacity_bytes: must be at least 4096")
        self.capacity = capacity_bytes
        self.on_half_full = on_half_full
        self._segment_mark = new_mark()
        self._payload_mark = new_mark()
        # The system allocates pages on first write.
        self._active.memory = <char *> malloc(capacity_bytes)
        self._spare.memory = <char *> malloc(capacity_bytes)
        if self._active.memory == NULL or self._spare.memory == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self._active.chain_count):
            Py_DECREF(<object> self._active.chains[i])
        free(self._active.chains)
        free(self._active.memory)
        free(self._spare.memory)

    @property
    def waiting_bytes(self):
        """The bytes of the queued records and their chains."""
        return self._active.used + self._active.weight

    def forget_chains(self):
        """Add the payloads of every chain to its next record again."""
        self._payload_mark = new_mark()

    def drain(self):
        """Remove and return all records, the oldest first.

        Raises RuntimeError during another thread's drain. Raises MemoryError without memory for the records, which
        stay queued.
        """
        cdef DrainedRecords drained
        cdef DecisionRecord record
        cdef Chain chain
        cdef QueueSegment full
        cdef size_t at = 0
        cdef list out = []
        if self._draining:
            raise RuntimeError("one drain at a time")
        if self._active.used == 0:
            return out
        drained = DrainedRecords.__new__(DrainedRecords)
        drained.allocate(self._active.used)
        full = self._active
        self._active = self._spare
        self._segment_mark = new_mark()
        self._notified = False
        self._draining = True
        with nogil:
            memcpy(drained.memory, full.memory, full.used)
        drained.chains = full.chains
        drained.chain_count = full.chain_count
        memset(&self._spare, 0, sizeof(QueueSegment))
        self._spare.memory = full.memory
        self._draining = False
        while at < drained.used:
            record = DecisionRecord.__new__(DecisionRecord)
            record.drained = drained
            record.head = <const RecordHead *> (drained.memory + at)
            at += record.head.size
            if record.head.chain != NULL:
                chain = <Chain> record.head.chain
                record.first = chain.payload_mark != self._payload_mark
                chain.payload_mark = self._payload_mark
            out.append(record)
        return out

    cdef void put(
        self,
        const CheckInput *input,
        const CheckOutcome *outcome,
        Chain chain,
        const unsigned char *prefix,
        uint64_t number,
        bint watched,
    ) noexcept:
        cdef size_t action_n = min(input.action.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t resource_n = min(input.resource.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t source_n = min(input.source.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t audience_n = min(input.audience.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t argument_n = min(outcome.argument_n, <size_t> MAX_TEXT_BYTES) if outcome.argument != NULL else 0
        cdef size_t arguments_n = min(input.arguments.n, <size_t> MAX_JSON_BYTES)
        cdef size_t size = action_n + resource_n + source_n + audience_n + argument_n + arguments_n
        cdef uint8_t flags = RECORD_WATCHED if watched else 0
        cdef RecordHead *head
        cdef char *p
        if outcome.allowed:
            flags |= RECORD_ALLOWED
        if input.token_only:
            flags |= RECORD_TOKEN_ONLY
        if outcome.signature_valid:
            flags |= RECORD_SIGNATURE_VALID
        else:
            size += DIGEST_BYTES
            if chain is not None:
                flags |= RECORD_CLAIMS_SESSION
                size += SESSION_BYTES
        head = self._reserve(size, chain if outcome.signature_valid else None)
        if head == NULL:
            self.lost += 1
            if self.refuse_when_lost:
                self.refusing = True
            self._notify()
            return
        self.queued += 1
        head.number = number
        head.at_ms = outcome.checked_at_ms or input.now_ms or <uint64_t> wall_ms()
        head.epoch = outcome.epoch
        head.revision = outcome.revision
        head.expires_at_ms = outcome.expires_at_ms
        head.reason = outcome.reason
        head.stage = outcome.stage
        head.level = outcome.level
        head.index = outcome.index
        head.scope = outcome.scope
        head.clause = outcome.clause
        head.matched_index = outcome.matched_index
        head.matched_scope = outcome.matched_scope
        head.arguments_n = <uint32_t> arguments_n
        head.action_n = <uint16_t> action_n
        head.resource_n = <uint16_t> resource_n
        head.source_n = <uint16_t> source_n
        head.audience_n = <uint16_t> audience_n
        head.argument_n = <uint16_t> argument_n
        head.flags = flags
        memcpy(head.prefix, prefix, PREFIX_BYTES)
        p = <char *> head + sizeof(RecordHead)
        if not flags & RECORD_SIGNATURE_VALID:
            # Store no reference to an unverified token: its bytes, possibly a secret, are freed with the call.
            _digest(<unsigned char *> p, &input.token, chain)
            p += DIGEST_BYTES
            if flags & RECORD_CLAIMS_SESSION:
                memcpy(p, chain.base + chain.root.session_id, SESSION_BYTES)
                p += SESSION_BYTES
        memcpy(p, input.action.p, action_n)
        p += action_n
        memcpy(p, input.resource.p, resource_n)
        p += resource_n
        memcpy(p, input.source.p, source_n)
        p += source_n
        memcpy(p, input.audience.p, audience_n)
        p += audience_n
        if argument_n:
            memcpy(p, outcome.argument, argument_n)
            p += argument_n
        memcpy(p, input.arguments.p, arguments_n)
        if 2 * (self._active.used + self._active.weight) > self.capacity:
            # Only after the record is complete: another thread may drain during this call.
            self._notify()

    cdef RecordHead *_reserve(self, size_t size, Chain chain) noexcept:
        """Reserve space for a head and its parts. NULL without space."""
        cdef QueueSegment *active = &self._active
        cdef RecordHead *head
        cdef size_t weight = 0
        size = (sizeof(RecordHead) + size + 7) & ~(<size_t> 7)
        if chain is not None and chain.segment_mark != self._segment_mark:
            weight = chain.weight()
        if active.used + active.weight + weight + size > self.capacity:
            return NULL
        if weight and not self._retain_chain(chain):
            return NULL
        head = <RecordHead *> (active.memory + active.used)
        head.size = size
        head.chain = NULL if chain is None else <PyObject *> chain
        active.used += size
        active.weight += weight
        return head

    cdef bint _retain_chain(self, Chain chain) noexcept:
        """Retain a chain for as long as its records. False without memory."""
        cdef QueueSegment *active = &self._active
        cdef Py_ssize_t room
        cdef PyObject **grown
        if active.chain_count == active.chain_room:
            room = 2 * active.chain_room if active.chain_room else FIRST_CHAINS
            grown = <PyObject **> realloc(active.chains, room * sizeof(PyObject *))
            if grown == NULL:
                return False
            active.chains = grown
            active.chain_room = room
        Py_INCREF(chain)
        active.chains[active.chain_count] = <PyObject *> chain
        active.chain_count += 1
        chain.segment_mark = self._segment_mark
        return True

    cdef void _notify(self) noexcept:
        if self._notified or self.on_half_full is None:
            return
        self._notified = True
        try:
            self.on_half_full()
        except Exception:  # The recorder finds the records at its next poll.
            return


cdef void _digest(unsigned char *out, const TextSlice *token, Chain chain) noexcept:
    if chain is not None:
        blake2b_256(out, chain.base, chain.length)
    else:
        blake2b_256(out, token.p, min(token.n, <size_t> MAX_TOKEN_BYTES))

"""The bounded queue of decision records.

A check pays one copy into preallocated memory: no object is created, no lock taken beside the GIL, and nothing hashed
but input that is not a valid token. The recorder drains all records at once. Memory is bounded: a record without room
is counted as lost, and the call continues.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

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
    queued records, ``lost`` those without room. While ``refusing`` is set, every call is denied AUDIT_UNAVAILABLE.
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
        """Reserve room for a head and its parts. NULL without room."""
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

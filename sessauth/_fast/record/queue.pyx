"""Where notes of decisions wait to be recorded.

A judged call costs its caller a copy into memory that is there already: no object is made, nothing is
hashed (but what stands in a token's place and is none), nothing is locked beside the GIL. Who records
takes all notes at once. Memory is bounded: what finds no room is counted, and the call goes on.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from sessauth._fast.base.clock cimport wall_ms
from sessauth._fast.base.limits cimport MAX_JSON_BYTES, MAX_TOKEN_BYTES
from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.crypto.ed25519 cimport blake2b_256
from sessauth._fast.record.note cimport (
    DIGEST_BYTES,
    NOTE_ALLOWED,
    NOTE_CLAIMS,
    NOTE_NAMED,
    NOTE_WATCHED,
    PREFIX_BYTES,
    SESSION_BYTES,
    DrainedRecords,
    DecisionRecord,
    RecordHead,
)
from sessauth._fast.token.chain cimport Chain

__all__ = ["DecisionQueue"]

cdef enum:
    # Of each text. What is longer is no valid action, resource, source or audience.
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
    """Notes of what one checker decides, at most ``capacity_bytes`` of them and of the chains they speak of.

    ``on_half_full`` is called, at most once between two drains, when half of that is taken. ``noted`` counts
    the notes that were kept, ``lost`` those that found no room. While ``refusing`` is set, every call is
    denied AUDIT_UNAVAILABLE; with ``refuse_when_lost`` the first loss sets it, since who records may be held
    up just then.
    """

    def __cinit__(self, size_t capacity_bytes, *, on_half_full=None):
        if capacity_bytes < 4096:
            raise ValueError("capacity_bytes: must be at least 4096")
        self.capacity = capacity_bytes
        self.on_half_full = on_half_full
        self._held_mark = new_mark()
        self._given_mark = new_mark()
        # The system gives their pages when they are first written to.
        self._filling.memory = <char *> malloc(capacity_bytes)
        self._other.memory = <char *> malloc(capacity_bytes)
        if self._filling.memory == NULL or self._other.memory == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self._filling.chain_count):
            Py_DECREF(<object> self._filling.chains[i])
        free(self._filling.chains)
        free(self._filling.memory)
        free(self._other.memory)

    @property
    def waiting_bytes(self):
        """What the notes that wait take, with their chains."""
        return self._filling.used + self._filling.weight

    def forget_chains(self):
        """Give the payloads of every chain again, with its next note."""
        self._given_mark = new_mark()

    def drain(self):
        """Take all notes, the oldest first.

        Raises RuntimeError while another thread does the same; MemoryError without room for them, which
        are kept then.
        """
        cdef DrainedRecords held
        cdef DecisionRecord note
        cdef Chain chain
        cdef QueueSegment full
        cdef size_t at = 0
        cdef list out = []
        if self._draining:
            raise RuntimeError("one drain at a time")
        if self._filling.used == 0:
            return out
        held = DrainedRecords.__new__(DrainedRecords)
        held.allocate(self._filling.used)
        full = self._filling
        self._filling = self._other
        self._held_mark = new_mark()
        self._called = False
        self._draining = True
        with nogil:
            memcpy(held.memory, full.memory, full.used)
        held.chains = full.chains
        held.chain_count = full.chain_count
        memset(&self._other, 0, sizeof(QueueSegment))
        self._other.memory = full.memory
        self._draining = False
        while at < held.used:
            note = DecisionRecord.__new__(DecisionRecord)
            note.held = held
            note.head = <const RecordHead *> (held.memory + at)
            at += note.head.size
            if note.head.chain != NULL:
                chain = <Chain> note.head.chain
                note.first = chain.given_mark != self._given_mark
                chain.given_mark = self._given_mark
            out.append(note)
        return out

    cdef void note(
        self,
        const CheckInput *asked,
        const CheckOutcome *found,
        Chain chain,
        const unsigned char *prefix,
        uint64_t number,
        bint watched,
    ) noexcept:
        cdef size_t action_n = min(asked.action.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t resource_n = min(asked.resource.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t source_n = min(asked.source.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t audience_n = min(asked.audience.n, <size_t> MAX_TEXT_BYTES)
        cdef size_t argument_n = min(found.argument_n, <size_t> MAX_TEXT_BYTES) if found.argument != NULL else 0
        cdef size_t arguments_n = min(asked.arguments.n, <size_t> MAX_JSON_BYTES)
        cdef size_t size = action_n + resource_n + source_n + audience_n + argument_n + arguments_n
        cdef uint8_t flags = NOTE_WATCHED if watched else 0
        cdef RecordHead *head
        cdef char *p
        if found.allowed:
            flags |= NOTE_ALLOWED
        if found.named:
            flags |= NOTE_NAMED
        else:
            size += DIGEST_BYTES
            if chain is not None:
                flags |= NOTE_CLAIMS
                size += SESSION_BYTES
        head = self._take(size, chain if found.named else None)
        if head == NULL:
            self.lost += 1
            if self.refuse_when_lost:
                self.refusing = True
            self._call()
            return
        self.noted += 1
        head.number = number
        head.at_ms = found.checked_at_ms or asked.now_ms or <uint64_t> wall_ms()
        head.epoch = found.epoch
        head.revision = found.revision
        head.expires_at_ms = found.expires_at_ms
        head.reason = found.reason
        head.stage = found.stage
        head.level = found.level
        head.index = found.index
        head.scope = found.scope
        head.clause = found.clause
        head.matched_index = found.matched_index
        head.matched_scope = found.matched_scope
        head.arguments_n = <uint32_t> arguments_n
        head.action_n = <uint16_t> action_n
        head.resource_n = <uint16_t> resource_n
        head.source_n = <uint16_t> source_n
        head.audience_n = <uint16_t> audience_n
        head.argument_n = <uint16_t> argument_n
        head.flags = flags
        memcpy(head.prefix, prefix, PREFIX_BYTES)
        p = <char *> head + sizeof(RecordHead)
        if not flags & NOTE_NAMED:
            # No reference to what may be anybody's: its bytes, a secret among them at worst, are gone with the call.
            _digest(<unsigned char *> p, &asked.token, chain)
            p += DIGEST_BYTES
            if flags & NOTE_CLAIMS:
                memcpy(p, chain.base + chain.root.session_id, SESSION_BYTES)
                p += SESSION_BYTES
        memcpy(p, asked.action.p, action_n)
        p += action_n
        memcpy(p, asked.resource.p, resource_n)
        p += resource_n
        memcpy(p, asked.source.p, source_n)
        p += source_n
        memcpy(p, asked.audience.p, audience_n)
        p += audience_n
        if argument_n:
            memcpy(p, found.argument, argument_n)
            p += argument_n
        memcpy(p, asked.arguments.p, arguments_n)
        if 2 * (self._filling.used + self._filling.weight) > self.capacity:
            # Only now: another thread may drain while this runs.
            self._call()

    cdef RecordHead *_take(self, size_t size, Chain chain) noexcept:
        """Take room for a head and what stands behind it; NULL if there is none."""
        cdef QueueSegment *filling = &self._filling
        cdef RecordHead *head
        cdef size_t weight = 0
        size = (sizeof(RecordHead) + size + 7) & ~(<size_t> 7)
        if chain is not None and chain.held_mark != self._held_mark:
            weight = chain.weight()
        if filling.used + filling.weight + weight + size > self.capacity:
            return NULL
        if weight and not self._hold(chain):
            return NULL
        head = <RecordHead *> (filling.memory + filling.used)
        head.size = size
        head.chain = NULL if chain is None else <PyObject *> chain
        filling.used += size
        filling.weight += weight
        return head

    cdef bint _hold(self, Chain chain) noexcept:
        """Keep a chain for as long as its notes; False without memory for that."""
        cdef QueueSegment *filling = &self._filling
        cdef Py_ssize_t room
        cdef PyObject **grown
        if filling.chain_count == filling.chain_room:
            room = 2 * filling.chain_room if filling.chain_room else FIRST_CHAINS
            grown = <PyObject **> realloc(filling.chains, room * sizeof(PyObject *))
            if grown == NULL:
                return False
            filling.chains = grown
            filling.chain_room = room
        Py_INCREF(chain)
        filling.chains[filling.chain_count] = <PyObject *> chain
        filling.chain_count += 1
        chain.held_mark = self._held_mark
        return True

    cdef void _call(self) noexcept:
        if self._called or self.on_half_full is None:
            return
        self._called = True
        try:
            self.on_half_full()
        except Exception:  # Whoever records finds the notes when it looks the next time.
            return


cdef void _digest(unsigned char *out, const TextSlice *token, Chain chain) noexcept:
    if chain is not None:
        blake2b_256(out, chain.base, chain.length)
    else:
        blake2b_256(out, token.p, min(token.n, <size_t> MAX_TOKEN_BYTES))

"""Options of a request's items, overrides by the writer, and the encoder of decisions.

Only the writer of the state can allow calls with costs or permits. A check in this process ends in stage ``needs`` then,
and the service overrides the item with the writer's decision.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from sessauth._fast._check cimport (
    CONSUMES_ONCE, CONSUMES_PERMIT, LEVEL_BLOCK, LEVEL_NONE, MAX_APPROVAL_KEYS, MAX_BLOCKS, MAX_PEERS,
    MAX_PERMIT_MS, MAX_RETRY_ID_BYTES, STAGE_NEEDS, WIRE_BYTES, WIRE_VARINT, Arena, Batch, Chain, CheckInput,
    CheckOutcome, Decision, DecisionQueue, Item, RecordingRunner, TextSlice, WireReader, arena_free,
    arena_init, arena_take, bytes_t, consume_nonce as consume_proof_nonce, outcome_free, read_bytes, read_tag,
    read_varint, set_argument,
)


# Encoder of decisions (proto/sessauth/v1/authorization_service.proto).
#
# The bytes equal those of a protobuf runtime: fields in the order of their numbers, defaults omitted.

# A growing buffer. `failed` is set without memory.
cdef struct ByteBuffer:
    unsigned char *p
    size_t n
    size_t room
    bint failed


cdef enum:
    # Upper bound of a Decision without its texts and block ids.
    PLAIN_DECISION_BYTES = 192
    BLOCK_ID_BYTES = 34


cdef void out_init(ByteBuffer *out) noexcept nogil:
    out.p = NULL
    out.n = 0
    out.room = 0
    out.failed = False


cdef void out_free(ByteBuffer *out) noexcept nogil:
    free(out.p)
    out_init(out)


cdef bint _reserve(ByteBuffer *out, size_t n) noexcept nogil:
    cdef size_t room
    cdef void *grown
    if out.room - out.n >= n:
        return True
    room = out.room * 2 if out.room * 2 >= out.n + n else out.n + n
    grown = realloc(out.p, room)
    if grown == NULL:
        out.failed = True
        return False
    out.p = <unsigned char *> grown
    out.room = room
    return True


cdef inline void _varint(ByteBuffer *out, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out.p[out.n] = <unsigned char> (value | 0x80)
        out.n += 1
        value >>= 7
    out.p[out.n] = <unsigned char> value
    out.n += 1


cdef inline size_t _varint_bytes(uint64_t value) noexcept nogil:
    cdef size_t n = 1
    while value >= 0x80:
        value >>= 7
        n += 1
    return n


cdef inline void _number(ByteBuffer *out, int field, uint64_t value) noexcept nogil:
    if value:
        _varint(out, field << 3)
        _varint(out, value)


cdef inline void _signed(ByteBuffer *out, int field, int64_t value) noexcept nogil:
    _number(out, field, (<uint64_t> value << 1) ^ <uint64_t> (value >> 63))


cdef inline void _put_bytes(ByteBuffer *out, int field, const void *p, size_t n) noexcept nogil:
    _varint(out, (field << 3) | 2)
    _varint(out, n)
    memcpy(out.p + out.n, p, n)
    out.n += n


cdef void put_number(ByteBuffer *out, int field, unsigned long long value) noexcept nogil:
    if _reserve(out, 16):
        _number(out, field, value)


cdef inline size_t _begin_message(ByteBuffer *out, int field) noexcept nogil:
    """Begin a message of unknown length. Return its start."""
    _varint(out, (field << 3) | 2)
    out.n += 1
    return out.n


cdef inline void _close(ByteBuffer *out, size_t begin) noexcept nogil:
    """Write the length of the message from ``begin``. Move the message if the length needs several bytes."""
    cdef size_t n = out.n - begin
    cdef size_t more = _varint_bytes(n) - 1
    cdef size_t i
    if more:
        for i in range(n, 0, -1):
            out.p[begin + more + i - 1] = out.p[begin + i - 1]
    out.n = begin - 1
    _varint(out, n)
    out.n += n


cdef void _position(
    ByteBuffer *out, int field, int level, int index, int scope, int clause, const char *argument, size_t argument_n
) noexcept nogil:
    cdef size_t begin = _begin_message(out, field)
    _number(out, 1, level)
    _signed(out, 2, index)
    _signed(out, 3, scope)
    _signed(out, 4, clause)
    if argument_n and argument != NULL:
        _put_bytes(out, 5, argument, argument_n)
    _close(out, begin)


def withdrawal(Batch batch not None, Py_ssize_t i, uint64_t stream_id, str explanation not None):
    """Return the bytes of a CheckStreamResponse that withdraws the allow of ``stream_id``.

    Item ``i`` of the batch is the new decision. ``explanation`` is for the gateway's operator. Raises ValueError for
    an item that is allowed.
    """
    cdef bytes text = explanation.encode()
    cdef Chain chain
    cdef Item *item
    cdef ByteBuffer out
    if not 0 <= i < batch.count:
        raise IndexError("no such item")
    item = &batch.items[i]
    if item.outcome.allowed:
        raise ValueError("an allow takes nothing back")
    chain = batch.chain_of(item)
    if item.outcome.signature_valid and not chain.compute_ids():
        raise MemoryError
    out_init(&out)
    try:
        put_number(&out, 1, stream_id)
        put_decision(
            &out,
            2,
            &item.outcome,
            chain,
            <const unsigned char *> PyBytes_AS_STRING(batch.prefix),
            batch.number + i,
            PyBytes_AS_STRING(text),
            PyBytes_GET_SIZE(text),
            NULL,
            0,
        )
        put_number(&out, 3, True)
        if out.failed:
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char *> out.p, out.n)
    finally:
        out_free(&out)


# Write a Decision as field `field`. The caller computed the chain's ids if its signatures are valid. `more` are encoded
# fields for the end of the message.
cdef void put_decision(
    ByteBuffer *out,
    int field,
    const CheckOutcome *outcome,
    Chain chain,
    const unsigned char *prefix,
    unsigned long long number,
    const char *explanation,
    size_t explanation_n,
    const char *more,
    size_t more_n,
) noexcept nogil:
    cdef unsigned char decision_id[16]
    cdef size_t begin
    cdef int i
    # Reserve an upper bound, so that no write below needs a check.
    if not _reserve(out, PLAIN_DECISION_BYTES + MAX_BLOCKS * BLOCK_ID_BYTES + outcome.argument_n + explanation_n + more_n):
        return
    begin = _begin_message(out, field)
    _number(out, 1, outcome.allowed)
    _number(out, 2, outcome.reason)
    if not outcome.allowed:
        _number(out, 3, outcome.stage)
    if not outcome.allowed or outcome.level != LEVEL_NONE:
        _position(
            out, 4, outcome.level, outcome.index, outcome.scope, outcome.clause, outcome.argument, outcome.argument_n
        )
    if outcome.allowed and outcome.matched_index >= 0:
        _position(out, 5, LEVEL_BLOCK, outcome.matched_index, outcome.matched_scope, -1, NULL, 0)
    if outcome.signature_valid:
        _put_bytes(out, 6, chain.base + chain.root.session_id, 16)
    _number(out, 7, outcome.epoch)
    if outcome.signature_valid:
        for i in range(chain.block_count):
            _put_bytes(out, 8, chain.ids + 32 * i, 32)
    _number(out, 9, outcome.revision)
    _number(out, 11, outcome.expires_at_ms)
    memcpy(decision_id, prefix, 8)
    for i in range(8):
        decision_id[8 + i] = <unsigned char> (number >> (56 - 8 * i))
    _put_bytes(out, 12, decision_id, 16)
    if explanation_n:
        _put_bytes(out, 13, explanation, explanation_n)
    if more_n:
        memcpy(out.p + out.n, more, more_n)
        out.n += more_n
    _close(out, begin)


cdef enum:
    # Fields of CheckItem.
    FIELD_APPROVALS = 11
    FIELD_RETRY = 12
    FIELD_PERMIT_MS = 13
    FIELD_TOKEN_ONLY = 14
    # Fields of Decision that the writer adds.
    ATTACHED_FIRST = 14
    ATTACHED_LAST = 16


cdef class ItemOptions(Batch):
    """A batch whose items have options, and which the writer may override."""

    def __cinit__(self):
        arena_init(&self.arena)

    def __dealloc__(self):
        arena_free(&self.arena)

    def session_bytes(self, Py_ssize_t i):
        """Return the length of the item's session id; 0 if not stated."""
        return self._item(i).input.session.n

    def peer_count(self, Py_ssize_t i):
        """Return the number of identities in the item."""
        return self._item(i).input.peer_count

    def states(self, Py_ssize_t i):
        """Return two flags: the item has an action, and a resource."""
        return self._item(i).input.action.n > 0, self._item(i).input.resource.n > 0

    def approvals(self, Py_ssize_t i):
        """Return the first 16 SignedApprovals of the item, encoded as received."""
        self._item(i)
        cdef ItemOption *option = NULL if self.options == NULL else &self.options[i]
        cdef int count = 0 if option == NULL else min(option.approval_count, <int> MAX_APPROVAL_KEYS)
        return tuple([_slice_bytes(&option.approvals[k]) for k in range(count)])

    def approval_count(self, Py_ssize_t i):
        """Return the number of SignedApprovals of the item."""
        self._item(i)
        return 0 if self.options == NULL else self.options[i].approval_count

    def retry_id(self, Py_ssize_t i):
        """Return the gateway's id for a retried call; empty without one."""
        self._item(i)
        return b"" if self.options == NULL else _slice_bytes(&self.options[i].retry_id)

    def permit_ms(self, Py_ssize_t i):
        """Return the deadline in ms for committing the requested permit; 0 without one."""
        self._item(i)
        return 0 if self.options == NULL else self.options[i].permit_ms

    def token_only(self, Py_ssize_t i):
        """Return True if the item asks about its token alone."""
        return self._item(i).input.token_only

    def has_call(self, Py_ssize_t i):
        """Return True if the item has any part of a call, a proof or an option. A Commit's has."""
        cdef CheckInput *input = &self._item(i).input
        cdef ItemOption *option = NULL if self.options == NULL else &self.options[i]
        if self.is_commit or option != NULL and (option.retry_id.n or option.permit_ms or option.approval_count):
            return True
        return input.action.n + input.resource.n + input.arguments.n + input.tool.n + input.proof.n > 0

    def wants_writer(self, Py_ssize_t i):
        """Return True if only stage ``needs`` denied the item: it has costs, or requests a permit.

        True also for an item with a retry id and a bound token, since its proof counts once.
        """
        cdef Item *item = self._item(i)
        return not item.outcome.allowed and item.outcome.stage == STAGE_NEEDS

    def call(self, Py_ssize_t i):
        """Return a checked item's token, action, resource, arguments, tool, session, source, identities and proof.

        The parts are those of a call of ``check_batch``.
        """
        cdef Item *item = self._item(i)
        cdef int k
        return (
            self.token_of(i),
            _slice_bytes(&item.input.action),
            _slice_bytes(&item.input.resource),
            _slice_bytes(&item.input.arguments),
            _slice_bytes(&item.input.tool),
            _slice_bytes(&item.input.session),
            _slice_bytes(&item.input.source).decode(),
            tuple([_slice_bytes(&item.input.peers[k]).decode() for k in range(item.input.peer_count)]),
            _slice_bytes(&item.input.proof),
        )

    def override(self, Py_ssize_t i, Decision decision not None):
        """Replace an item's outcome by a decision of another process."""
        cdef Item *item = self._item(i)
        outcome_free(&item.outcome)
        item.outcome = decision.outcome
        if decision._argument is not None:
            text = decision._argument.encode()
            set_argument(&item.outcome, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        if decision.chain is not None:
            Py_INCREF(decision.chain)
            if item.chain != NULL:
                Py_DECREF(<object> item.chain)
            item.chain = <PyObject *> decision.chain
        if self.overrides is None:
            self.overrides = {}
        self.overrides[i] = decision

    def consume_nonce(self, Py_ssize_t i):
        """Consume the nonce of a proof that was verified when the item was checked; True for an item without one.

        False: the item is denied now, e.g. REPLAYED.
        """
        cdef Item *item = self._item(i)
        if item.chain == NULL:
            return False
        if consume_proof_nonce(<Chain> item.chain, &item.input, &item.outcome):
            return True
        # The denial at stage needs may have had a position.
        item.outcome.scope = item.outcome.clause = -1
        return False

    def attach(self, Py_ssize_t i, bytes encoded not None):
        """Add encoded fields to the item's Decision: permit, its deadline, approval (fields 14 to 16).

        They replace fields added before. Raises ValueError for other fields, and for another order than by number.
        """
        self._item(i)
        if not _attachable(encoded):
            raise ValueError("only fields 14 to 16 of a Decision can be added to it")
        if self.attached is None:
            self.attached = {}
        self.attached[i] = encoded

    def __getitem__(self, index):
        cdef Decision decision
        if self.overrides is not None and isinstance(index, int):
            decision = self.override_of(index + self.count if index < 0 else index)
            if decision is not None:
                return decision
        return Batch.__getitem__(self, index)

    cdef int record_answers(self, RecordingRunner judge, elsewhere) except -1:
        """Record each decision: the writer's for an overridden item."""
        cdef DecisionQueue queue = judge.decision_queue
        cdef Decision decision
        cdef Py_ssize_t i
        for i in range(self.count):
            if i in elsewhere:
                continue
            decision = self.override_of(i)
            if decision is None:
                judge.record_item(self, &self.items[i], False)
                continue
            if judge.counters is not None:
                judge.counters.count_outcome(&self.items[i].outcome)
            if queue is not None:
                queue.put(
                    &self.items[i].input,
                    &self.items[i].outcome,
                    self.chain_of(&self.items[i]),
                    <bytes_t> PyBytes_AS_STRING(decision.prefix),
                    decision.number,
                    False,
                )
        return 0

    cdef Decision override_of(self, Py_ssize_t i):
        return None if self.overrides is None else self.overrides.get(i)

    cdef Item *_item(self, Py_ssize_t i) except NULL:
        if not 0 <= i < self.count:
            raise IndexError("no such item")
        return &self.items[i]

    cdef ItemOption *_make_option(self, Py_ssize_t i) noexcept:
        cdef size_t size = self.count * sizeof(ItemOption)
        if self.options == NULL:
            self.options = <ItemOption *> arena_take(&self.arena, size)
            if self.options == NULL:
                return NULL
            memset(self.options, 0, size)
        return &self.options[i]

    cdef bint read_option(self, WireReader *reader, Py_ssize_t i, uint32_t number, uint32_t wire) noexcept:
        cdef ItemOption *option
        cdef WireReader inner
        cdef TextSlice part
        cdef uint64_t value
        cdef bint is_permit = number == FIELD_PERMIT_MS and wire == WIRE_VARINT
        if number == FIELD_TOKEN_ONLY and wire == WIRE_VARINT:
            if not field_varint(reader, &value):
                return False
            self.items[i].input.token_only = value != 0
            return True
        if not is_permit and (wire != WIRE_BYTES or (number != FIELD_APPROVALS and number != FIELD_RETRY)):
            return field_skip(reader, number, wire, 1)
        option = self._make_option(i)
        if option == NULL:
            return False
        if is_permit:
            return field_varint(reader, &option.permit_ms)
        if not field_bytes(reader, &inner):
            return False
        part.p = inner.p
        part.n = inner.end - inner.p
        if number == FIELD_RETRY:
            option.retry_id = part
            return True
        return append_slice(&self.arena, &option.approvals, &option.approval_count, &part)

    cdef bint _options_formed(self) noexcept:
        """Return True if all options are within their limits."""
        cdef Py_ssize_t i
        cdef ItemOption *option
        for i in range(0 if self.options == NULL else self.count):
            option = &self.options[i]
            if option.retry_id.n > MAX_RETRY_ID_BYTES or option.permit_ms > MAX_PERMIT_MS:
                return False
            if option.approval_count > MAX_APPROVAL_KEYS:
                return False
        return True

    cdef int _reset_overrides(self, Py_ssize_t first, Py_ssize_t end) except -1:
        """Remove overrides and attached fields, and set the items' `consumes`."""
        cdef Py_ssize_t i
        for i in range(first, end):
            if self.overrides is not None:
                self.overrides.pop(i, None)
            if self.attached is not None:
                self.attached.pop(i, None)
            if self.options != NULL:
                self.items[i].input.consumes = CONSUMES_PERMIT if self.options[i].permit_ms else 0
                if self.options[i].retry_id.n:
                    self.items[i].input.consumes |= CONSUMES_ONCE
        return 0


# Append to at most 16 slices; above that only count. False without memory.
cdef bint append_slice(Arena *arena, const TextSlice **parts, int *count, const TextSlice *part) noexcept:
    cdef TextSlice *slices = <TextSlice *> parts[0]
    if slices == NULL:
        slices = <TextSlice *> arena_take(arena, MAX_PEERS * sizeof(TextSlice))
        if slices == NULL:
            return False
        parts[0] = slices
    if count[0] < MAX_PEERS:
        slices[count[0]] = part[0]
    count[0] += 1
    return True


cdef inline bytes _slice_bytes(const TextSlice *part):
    # A slice that was never set has no pointer either.
    return PyBytes_FromStringAndSize(<const char *> part.p, part.n) if part.n else b""


cdef bint _attachable(bytes encoded) noexcept:
    cdef WireReader reader
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = ATTACHED_FIRST - 1
    cdef uint64_t value
    reader.p = <const unsigned char *> PyBytes_AS_STRING(encoded)
    reader.end = reader.p + PyBytes_GET_SIZE(encoded)
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number <= last or number > ATTACHED_LAST:
            return False
        last = number
        if not (read_varint(&reader, &value) if wire == WIRE_VARINT else read_bytes(&reader, &inner)):
            return False
    return True

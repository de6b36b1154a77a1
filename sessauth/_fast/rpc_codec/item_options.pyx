"""Options of a request's items, and overrides by the writer.

Only the writer of the state can allow calls with costs or permits. A check in this process ends in stage needs then,
and the service overrides the item with the writer's decision.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from sessauth._fast._check cimport (
    CONSUMES_ONCE,
    CONSUMES_PERMIT,
    MAX_APPROVAL_KEYS,
    MAX_PEERS,
    MAX_PERMIT_MS,
    MAX_RETRY_ID_BYTES,
    STAGE_NEEDS,
    WIRE_BYTES,
    WIRE_VARINT,
    Arena,
    Batch,
    Chain,
    CheckInput,
    Decision,
    DecisionQueue,
    Item,
    RecordingRunner,
    TextSlice,
    WireReader,
    arena_free,
    arena_init,
    arena_take,
    bytes_t,
    consume_nonce as consume_proof_nonce,
    outcome_free,
    read_bytes,
    read_tag,
    read_varint,
    set_argument,
)

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
        """Return two flags: the item states an action, and a resource."""
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
        """Return a judged item's token, action, resource, arguments, tool, session, source, identities and proof.

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
        """Consume the nonce of a proof that was verified when the item was judged; True for an item without one.

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

"""Decoder of check requests and encoder of their responses, without protobuf objects.

Unlike a token, a request is parsed as by protobuf runtimes (proto/sessauth/v1/authorization_service.proto): fields in
any order, the last value of a scalar counts, repeated occurrences of a message are merged, unknown fields are skipped.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from sessauth._fast._check cimport (
    MAX_BATCH_ITEMS, MAX_PEERS, WIRE_BYTES, WIRE_VARINT,
    Chain,
    CheckInput,
    CheckOutcome,
    Checker,
    Decision,
    Item,
    TextSlice,
    WireReader,
    arena_take,
    bytes_t,
    input_init,
    is_token_text,
    outcome_init,
    slice_of,
    utf8_valid,
)

cdef enum:
    # Fields of CheckItem.
    FIELD_TOKEN = 1
    FIELD_ACTION = 2
    FIELD_RESOURCE = 3
    FIELD_ARGUMENTS = 4
    FIELD_TOOL = 5
    FIELD_SESSION = 6
    FIELD_SOURCE = 7
    FIELD_PEER = 8
    FIELD_TOKEN_INDEX = 9
    FIELD_PROOF = 10
    # A field of CheckBatchRequest alone.
    BATCH_TOKENS = 4


cdef class CheckMessage(ItemOptions):
    """A decoded Check, CheckBatch, CheckStream or Commit request; once checked, also its decisions.

    ``CheckMessage(checker, data, kind)``: ``kind`` is ``"check"``, ``"batch"``, ``"stream"`` or ``"commit"``. Raises
    ValueError for bytes that are not such a message. ``stated`` is the number of items in the message,
    ``stated_tokens`` the number of tokens in its table. Above 1,024 of either none is read.
    """

    def __cinit__(self, Checker checker not None, bytes data not None, str kind not None):
        cdef WireReader reader
        if kind not in ("check", "batch", "stream", "commit"):
            raise ValueError("kind is check, batch, stream or commit")
        self.stated_audience.p = <bytes_t> PyBytes_AS_STRING(NOTHING)
        self.checker = checker
        self.references = [data]
        self.is_stream = kind == "stream"
        self.is_commit = kind == "commit"
        self.shifted = self.is_stream or self.is_commit
        reader.p = <bytes_t> PyBytes_AS_STRING(data)
        reader.end = reader.p + PyBytes_GET_SIZE(data)
        self._count_items(reader, kind == "batch")
        self._read_items(reader, kind == "batch")
        checker.name(self)

    @property
    def audience(self):
        """The verifier that the request names; empty if it names none."""
        return _slice_text(&self.stated_audience)

    @property
    def permit(self):
        """The permit of a Commit; empty if it has none, and for other messages."""
        return PyBytes_FromStringAndSize(<const char *> self.stated_permit.p, self.stated_permit.n)

    def token_index(self, Py_ssize_t i):
        """Return the index of the item's token in the table, from 1; 0 for its own token, and once checked."""
        self._item(i)
        return 0 if self.token_indexes == NULL else self.token_indexes[i]

    def well_formed(self):
        """Return True if each item has a call, one token, at most one session and 16 identities.

        A call has an action and a resource; with ``token_only`` it has no part. False also for over 1,024 items or
        tokens, over 16 approvals, a retry id of over 64 bytes, or a permit deadline of over 300,000 ms.
        """
        cdef Py_ssize_t i
        cdef Item *item
        if self.stated > MAX_BATCH_ITEMS or self.stated_tokens > MAX_BATCH_ITEMS:
            return False
        for i in range(self.count):
            item = &self.items[i]
            if self.has_call(i) if item.input.token_only else not item.input.action.n or not item.input.resource.n:
                return False
            if item.input.peer_count > MAX_PEERS:
                return False
            if item.input.session.n != 0 and item.input.session.n != 16:
                return False
            if self.token_indexes != NULL and self.token_indexes[i]:
                if item.input.token.n or self.token_indexes[i] > <size_t> self.stated_tokens:
                    return False
        return self._options_formed()

    def token(self, Py_ssize_t i):
        """Return the item's token as checked. A token from the table is empty before that."""
        self._item(i)
        return self.token_of(i)

    def judge(
        self,
        str audience not None,
        gate=None,
        Py_ssize_t first=0,
        Py_ssize_t count=-1,
        *,
        int64_t now_ms=-1,
        bint consume_nonce=True,
        bint skip_proof=False,
        proven=None,
        bint timed=True,
    ):
        """Check ``count`` items from ``first``, or all remaining ones, by one state and one time.

        ``gate.may_fail(source) -> bool`` is called before new signatures are verified, ``gate.failed(source)`` after a
        wrong one. The others are as in ``Checker._check``; ``proven`` has the items that ``skip_proof`` counts for.
        Without ``timed`` the caller counts the time. Earlier outcomes of these items are reset. Raises ValueError for
        items that are not well-formed.
        """
        cdef Py_ssize_t i, end = self.count if count < 0 else min(self.count, first + count)
        cdef TextSlice shared
        if first < 0:
            raise IndexError("no such item")
        if not self.well_formed():
            raise ValueError("an item is not well-formed")
        self.references += [slice_of(audience, &shared), audience, gate]
        self.reset(first, end)
        if self.options != NULL or self.overrides is not None or self.attached is not None:
            self._reset_overrides(first, end)
        for i in range(first, end):
            self.items[i].input.audience = shared
            self.items[i].input.at_least_revision = self.at_least_revision
            self.items[i].input.gate = NULL if gate is None else <PyObject *> gate
            self.items[i].input.keep_nonce = not consume_nonce
            self.items[i].input.skip_proof = skip_proof or (proven is not None and i in proven)
            if self.items[i].input.proof.n:
                self._set_proof(&self.items[i].input)
            if self.token_indexes != NULL and self.token_indexes[i]:
                self._use_table_token(i)
            elif is_token_text(self.items[i].input.token.p, self.items[i].input.token.n):
                self.read_text(&self.items[i].input.token, &self.items[i].refused, &self.items[i].chain)
                if self.items[i].chain != NULL:
                    Py_INCREF(<object> self.items[i].chain)
        if timed:
            self.checker.judge_timed(self, first, end, now_ms)
        else:
            self.checker.judge_batch(self, first, end, now_ms)

    def answer(self, explain, elsewhere=()):
        """Return the response's bytes. ``explain(decision, token)`` returns the text of a denial.

        Its token is None from the ninth denial on: reading tokens would take longer than the checks.
        Records the items' decisions, except those in ``elsewhere``, which another process decided and records.
        """
        cdef ByteBuffer out
        cdef Item *item
        cdef Chain chain
        cdef Decision decision
        cdef Py_ssize_t i
        cdef int denied = 0
        cdef bytes text = NOTHING, more = NOTHING
        if self.checker.decision_queue is not None or self.checker.counters is not None:
            self.record_answers(self.checker, elsewhere)
        out_init(&out)
        try:
            if self.is_stream:
                put_number(&out, 1, self.id)
            for i in range(self.count):
                item = &self.items[i]
                chain = self.chain_of(item)
                if item.outcome.signature_valid and not chain.compute_ids():
                    raise MemoryError
                text = NOTHING
                if not item.outcome.allowed:
                    denied += 1
                    text = (<str?> explain(self[i], self.token_of(i) if denied <= MAX_EXPLANATIONS else None)).encode()
                decision = self.override_of(i)
                if self.attached is not None:
                    more = self.attached.get(i, NOTHING)
                put_decision(
                    &out,
                    2 if self.is_stream else 1,
                    &item.outcome,
                    chain,
                    <bytes_t> PyBytes_AS_STRING(self.prefix if decision is None else decision.prefix),
                    self.number + i if decision is None else decision.number,
                    PyBytes_AS_STRING(text),
                    PyBytes_GET_SIZE(text),
                    PyBytes_AS_STRING(more),
                    PyBytes_GET_SIZE(more),
                )
            if out.failed:
                raise MemoryError
            return PyBytes_FromStringAndSize(<const char *> out.p, out.n)
        finally:
            out_free(&out)

    cdef int read_text(self, TextSlice *token, int *refused, PyObject **chain) except -1:
        cdef object data
        refused[0] = 0
        data = self.checker.read_text(token.p, token.n, refused)
        if data is None:
            return 0
        self.references.append(data)
        if type(data) is Chain:
            chain[0] = <PyObject *> data
            data = (<Chain> data).raw
        slice_of(data, token)
        return 0

    cdef int _set_proof(self, CheckInput *input) except -1:
        """Point an item at the current proof keys, and replace a proof in text form by its bytes."""
        cdef object references = self.checker.proofs
        if is_token_text(input.proof.p, input.proof.n):
            text = PyBytes_FromStringAndSize(<const char *> input.proof.p, input.proof.n)
            references = self.checker._set_proof(text, input)
        else:
            input.proofs = NULL if references is None else <PyObject *> references
        self.references.append(references)
        return 0

    cdef int _use_table_token(self, Py_ssize_t i) except -1:
        """Point an item at its token in the table. The first such item looks the token up."""
        cdef Item *item = &self.items[i]
        cdef TokenTableEntry *entry = &self.table[self.token_indexes[i] - 1]
        if not entry.looked_up:
            self._look_up(entry)
            entry.looked_up = True
        item.input.token = entry.token
        item.refused = entry.refused
        if entry.chain != NULL:
            Py_INCREF(<object> entry.chain)
            item.chain = entry.chain
        self.token_indexes[i] = 0
        return 0

    cdef int _look_up(self, TokenTableEntry *entry) except -1:
        cdef CheckInput input
        cdef CheckOutcome outcome
        cdef Chain chain
        if is_token_text(entry.token.p, entry.token.n):
            self.read_text(&entry.token, &entry.refused, &entry.chain)
            if entry.refused or entry.chain != NULL:
                return 0
        input_init(&input)
        outcome_init(&outcome)
        input.token = entry.token
        chain = self.checker.chain_of(&input, None, &outcome)
        if chain is None:
            entry.refused = outcome.reason
        else:
            self.references.append(chain)
            entry.chain = <PyObject *> chain
        return 0

    cdef int _count_items(self, WireReader reader, bint is_batch) except -1:
        """Count and allocate items and tokens. Allocate none above the limits of a batch."""
        cdef uint32_t number, wire
        cdef Py_ssize_t count = 0
        cdef size_t size
        cdef uint32_t item_field = 1 + self.shifted
        while reader.p < reader.end:
            if not field_tag(&reader, &number, &wire):
                raise ValueError("not a message")
            if number == item_field and wire == WIRE_BYTES:
                count += 1
            elif is_batch and number == BATCH_TOKENS and wire == WIRE_BYTES:
                self.stated_tokens += 1
            if not field_skip(&reader, number, wire, 0):
                raise ValueError("not a message")
        self.stated = count if is_batch or count == 0 else 1
        if 0 < self.stated_tokens <= MAX_BATCH_ITEMS:
            size = self.stated_tokens * sizeof(TokenTableEntry)
            self.table = <TokenTableEntry *> arena_take(&self.arena, size)
            if self.table == NULL:
                raise MemoryError
            memset(self.table, 0, size)
        return self.allocate(self.stated if self.stated <= MAX_BATCH_ITEMS else 0)

    cdef int _read_items(self, WireReader reader, bint is_batch) except -1:
        cdef uint32_t number, wire, field
        cdef WireReader inner
        cdef uint64_t value
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t token = 0
        while reader.p < reader.end:
            if not field_tag(&reader, &number, &wire):
                raise ValueError("not a message")
            # A stream's request has its id in front, a Commit its permit.
            field = number - self.shifted
            if wire == WIRE_BYTES and (field == 1 or field == 2):
                if not field_bytes(&reader, &inner):
                    raise ValueError("not a message")
                if field == 2:
                    if not utf8_valid(inner.p, inner.end - inner.p):
                        raise ValueError("the audience is not UTF-8")
                    _set_slice(&self.stated_audience, &inner)
                    continue
                if i < self.count and not self._read_item(inner, &self.items[i]):
                    raise ValueError("an item is no message")
                i += is_batch
            elif wire == WIRE_BYTES and is_batch and number == BATCH_TOKENS:
                if not field_bytes(&reader, &inner):
                    raise ValueError("not a message")
                if self.table != NULL:
                    _set_slice(&self.table[token].token, &inner)
                    token += 1
            elif wire == WIRE_BYTES and field == 0 and not self.is_stream:
                if not field_bytes(&reader, &inner):
                    raise ValueError("not a message")
                _set_slice(&self.stated_permit, &inner)
            elif wire == WIRE_VARINT and (field == 3 or self.is_stream and (field == 0 or field == 4)):
                if not field_varint(&reader, &value):
                    raise ValueError("not a message")
                if field == 3:
                    self.at_least_revision = value
                elif field == 4:
                    self.watch = value != 0
                else:
                    self.id = value
            elif not field_skip(&reader, number, wire, 0):
                raise ValueError("not a message")
        return 0

    cdef bint _read_item(self, WireReader reader, Item *item) noexcept:
        cdef uint32_t number, wire
        cdef uint64_t value
        cdef WireReader inner
        cdef TextSlice text
        while reader.p < reader.end:
            if not field_tag(&reader, &number, &wire):
                return False
            if number == FIELD_TOKEN_INDEX and wire == WIRE_VARINT:
                if not field_varint(&reader, &value) or not self._set_token_index(item - self.items, <uint32_t> value):
                    return False
                continue
            if wire != WIRE_BYTES or (number > FIELD_PEER and number != FIELD_PROOF):
                if not self.read_option(&reader, item - self.items, number, wire):
                    return False
                continue
            if not field_bytes(&reader, &inner):
                return False
            _set_slice(&text, &inner)
            if number == FIELD_TOKEN:
                item.input.token = text
            elif number == FIELD_ACTION:
                item.input.action = text
            elif number == FIELD_RESOURCE:
                item.input.resource = text
            elif number == FIELD_ARGUMENTS:
                item.input.arguments = text
            elif number == FIELD_TOOL:
                item.input.tool = text
            elif number == FIELD_SESSION:
                item.input.session = text
            elif number == FIELD_PROOF:
                item.input.proof = text
            elif not utf8_valid(text.p, text.n):
                return False
            elif number == FIELD_SOURCE:
                item.input.source = text
            elif not append_slice(&self.arena, &item.input.peers, &item.input.peer_count, &text):
                return False
        return True

    cdef bint _set_token_index(self, Py_ssize_t i, uint32_t token_index) noexcept:
        """Store the index of an item's token in the table."""
        if self.token_indexes == NULL:
            if token_index == 0:
                return True
            self.token_indexes = <uint32_t *> arena_take(&self.arena, self.count * sizeof(uint32_t))
            if self.token_indexes == NULL:
                return False
            memset(self.token_indexes, 0, self.count * sizeof(uint32_t))
        self.token_indexes[i] = token_index
        return True


cdef inline void _set_slice(TextSlice *out, const WireReader *inner) noexcept nogil:
    out.p = inner.p
    out.n = inner.end - inner.p


cdef str _slice_text(const TextSlice *part):
    return PyBytes_FromStringAndSize(<const char *> part.p, part.n).decode("utf-8")

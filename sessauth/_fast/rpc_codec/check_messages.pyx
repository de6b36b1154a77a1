"""Check requests and responses in wire form: no message object between the bytes and the decision.

Unlike a token, a request is read as any protobuf runtime reads it: fields in any order, the last of a
scalar counts, a message given twice is merged, what is not known is skipped
(proto/sessauth/v1/authorization_service.proto).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from sessauth._fast.base.arena cimport arena_take
from sessauth._fast.base.limits cimport MAX_BATCH_ITEMS, MAX_PEERS
from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, asked_init, finding_init, part_of
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.check.batch cimport Item
from sessauth._fast.check.checker cimport Checker
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.recording_judge cimport Prepared, is_text
from sessauth._fast.codec.lenient_fields cimport field_bytes, field_skip, field_tag, field_varint
from sessauth._fast.codec.protobuf cimport WIRE_BYTES, WIRE_VARINT, WireReader, utf8_valid
from sessauth._fast.rpc_codec.decision_writer cimport ByteBuffer, out_free, out_init, put_decision, put_number
from sessauth._fast.rpc_codec.item_options cimport ItemOptions, keep_part
from sessauth._fast.token.chain cimport Chain

__all__ = ["CheckMessage"]

cdef enum:
    # Of CheckItem.
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
    # Of CheckBatchRequest, beside what all requests have.
    BATCH_TOKENS = 4

cdef bytes NOTHING = b""


cdef class CheckMessage(ItemOptions):
    """What a Check, CheckBatch, CheckStream or Commit message asks; afterwards the decisions.

    ``CheckMessage(checker, data, kind)``: ``kind`` is ``"check"``, ``"batch"``, ``"stream"`` or ``"commit"``. Raises
    ValueError for bytes that are no such message. ``stated`` is how many items the message has,
    ``stated_tokens`` how many tokens its table; with more than 1,024 of either none of them is read.
    """

    def __cinit__(self, Checker checker not None, bytes data not None, str kind not None):
        cdef WireReader reader
        if kind not in ("check", "batch", "stream", "commit"):
            raise ValueError("kind is check, batch, stream or commit")
        self.stated_audience.p = <bytes_t> PyBytes_AS_STRING(NOTHING)
        self.checker = checker
        self.held = [data]
        self.is_stream = kind == "stream"
        self.shifted = self.is_stream or kind == "commit"
        reader.p = <bytes_t> PyBytes_AS_STRING(data)
        reader.end = reader.p + PyBytes_GET_SIZE(data)
        self._count_items(reader, kind == "batch")
        self._read_items(reader, kind == "batch")
        checker.name(self)

    @property
    def audience(self):
        """The verifier that the request names; empty if it names none."""
        return _text(&self.stated_audience)

    @property
    def permit(self):
        """What a Commit is to commit; empty if it states nothing, and for another message."""
        return PyBytes_FromStringAndSize(<const char *> self.stated_permit.p, self.stated_permit.n)

    def session_bytes(self, Py_ssize_t i):
        """How many bytes the item's session id has; 0 if it is not stated."""
        return self._item(i).asked.session.n

    def peer_count(self, Py_ssize_t i):
        """How many identities the item states."""
        return self._item(i).asked.peer_count

    def states(self, Py_ssize_t i):
        """Whether the item states an action, and whether a resource."""
        return self._item(i).asked.action.n > 0, self._item(i).asked.resource.n > 0

    def token_place(self, Py_ssize_t i):
        """Which token of the table the item asks about, counted from 1; 0 for its own, and once judged."""
        self._item(i)
        return 0 if self.places == NULL else self.places[i]

    def well_formed(self):
        """Whether each item states an action, a resource, one token, and at most one session and 16 identities.

        False as well for more than 1,024 items or tokens, and for more than 16 approvals, 64 bytes of a
        retry id, or 300,000 ms until a permit's deadline.
        """
        cdef Py_ssize_t i
        cdef Item *item
        if self.stated > MAX_BATCH_ITEMS or self.stated_tokens > MAX_BATCH_ITEMS:
            return False
        for i in range(self.count):
            item = &self.items[i]
            if not item.asked.action.n or not item.asked.resource.n or item.asked.peer_count > MAX_PEERS:
                return False
            if item.asked.session.n != 0 and item.asked.session.n != 16:
                return False
            if self.places != NULL and self.places[i]:
                if item.asked.token.n or self.places[i] > <size_t> self.stated_tokens:
                    return False
        return self._wishes_formed()

    def token(self, Py_ssize_t i):
        """The bytes that were judged in the token's place; of a token of the table none before that."""
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
        bint take_nonce=True,
        bint proven=False,
    ):
        """Judge items from ``first`` on, all that are left or ``count`` of them, by one state and one time.

        ``gate`` is asked ``may_fail(source) -> bool`` before signatures of a chain that was not verified
        before are looked at, and is told ``failed(source)`` when one of them is wrong. ``now_ms``,
        ``take_nonce`` and ``proven`` are as in ``Checker.check``. What was found of these items before is
        forgotten. Raises ValueError for items that are not well-formed.
        """
        cdef Py_ssize_t end = self.count if count < 0 else min(self.count, first + count)
        cdef Py_ssize_t i
        cdef TextSlice shared
        if first < 0:
            raise IndexError("no such item")
        if not self.well_formed():
            raise ValueError("an item is not well-formed")
        self.held.append(part_of(audience, &shared))
        self.held.append(audience)
        self.held.append(gate)
        self.reset(first, end)
        if self.wishes != NULL or self.settled is not None or self.attached is not None:
            self._forget(first, end)
        for i in range(first, end):
            self.items[i].asked.audience = shared
            self.items[i].asked.at_least_revision = self.at_least_revision
            self.items[i].asked.gate = NULL if gate is None else <PyObject *> gate
            self.items[i].asked.keep_nonce = not take_nonce
            self.items[i].asked.proven = proven
            if self.items[i].asked.proof.n:
                self._take_proof(&self.items[i].asked)
            if self.places != NULL and self.places[i]:
                self._place(i)
            elif is_text(self.items[i].asked.token.p, self.items[i].asked.token.n):
                self._take_text(&self.items[i].asked.token, &self.items[i].refused)
        self.checker.judge_timed(self, first, end, now_ms)

    def answer(self, explain, elsewhere=()):
        """Return the response's bytes; ``explain(decision, token)`` gives the text for each denial.

        What the items came to is noted now. Not those in ``elsewhere``, which another process decided and
        notes.
        """
        cdef ByteBuffer out
        cdef Item *item
        cdef Chain chain
        cdef Decision decision
        cdef Py_ssize_t i
        cdef bytes text = NOTHING
        cdef bytes more = NOTHING
        if self.checker.tap is not None or self.checker.tally is not None:
            self.note_answers(self.checker, elsewhere)
        out_init(&out)
        try:
            if self.is_stream:
                put_number(&out, 1, self.id)
            for i in range(self.count):
                item = &self.items[i]
                chain = self.chain_of(item)
                if item.found.named and not chain.compute_ids():
                    raise MemoryError
                text = NOTHING if item.found.allowed else (<str?> explain(self[i], self.token_of(i))).encode()
                decision = self.settled_as(i)
                if self.attached is not None:
                    more = self.attached.get(i, NOTHING)
                put_decision(
                    &out,
                    2 if self.is_stream else 1,
                    &item.found,
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

    cdef int _take_text(self, TextSlice *token, int *refused) except -1:
        """Put the bytes of a token that came as text in its place."""
        cdef Prepared prepared = self.checker._taken(PyBytes_FromStringAndSize(<const char *> token.p, token.n))
        refused[0] = prepared.reason
        if not prepared.reason:
            self.held.append(prepared)
            part_of(prepared.data, token)
        return 0

    cdef int _take_proof(self, CheckInput *asked) except -1:
        """Point an item at what its proof is judged by now; a proof that came as text becomes its bytes."""
        cdef object held = self.checker.proofs
        if is_text(asked.proof.p, asked.proof.n):
            text = PyBytes_FromStringAndSize(<const char *> asked.proof.p, asked.proof.n)
            held = self.checker._take_proof(text, asked)
        else:
            asked.proofs = NULL if held is None else <PyObject *> held
        self.held.append(held)
        return 0

    cdef int _place(self, Py_ssize_t i) except -1:
        """Let an item ask about its token of the table, which is looked up for the first one that does."""
        cdef Item *item = &self.items[i]
        cdef TokenTableEntry *shown = &self.table[self.places[i] - 1]
        if not shown.looked_up:
            self._look_up(shown)
            shown.looked_up = True
        item.asked.token = shown.token
        item.refused = shown.refused
        if shown.chain != NULL:
            Py_INCREF(<object> shown.chain)
            item.chain = shown.chain
        self.places[i] = 0
        return 0

    cdef int _look_up(self, TokenTableEntry *shown) except -1:
        cdef CheckInput asked
        cdef CheckOutcome found
        cdef Chain chain
        if is_text(shown.token.p, shown.token.n):
            self._take_text(&shown.token, &shown.refused)
            if shown.refused:
                return 0
        asked_init(&asked)
        finding_init(&found)
        asked.token = shown.token
        chain = self.checker.chain_of(&asked, None, &found)
        if chain is None:
            shown.refused = found.reason
        else:
            self.held.append(chain)
            shown.chain = <PyObject *> chain
        return 0

    cdef int _count_items(self, WireReader reader, bint many) except -1:
        """Make room for the items and the tokens; for none if there are more than a batch may have."""
        cdef uint32_t number, wire
        cdef Py_ssize_t count = 0
        cdef size_t size
        cdef uint32_t item_field = 1 + self.shifted
        while reader.p < reader.end:
            if not field_tag(&reader, &number, &wire):
                raise ValueError("not a message")
            if number == item_field and wire == WIRE_BYTES:
                count += 1
            elif many and number == BATCH_TOKENS and wire == WIRE_BYTES:
                self.stated_tokens += 1
            if not field_skip(&reader, number, wire, 0):
                raise ValueError("not a message")
        self.stated = count if many or count == 0 else 1
        if 0 < self.stated_tokens <= MAX_BATCH_ITEMS:
            size = self.stated_tokens * sizeof(TokenTableEntry)
            self.table = <TokenTableEntry *> arena_take(&self.arena, size)
            if self.table == NULL:
                raise MemoryError
            memset(self.table, 0, size)
        return self.allocate(self.stated if self.stated <= MAX_BATCH_ITEMS else 0)

    cdef int _read_items(self, WireReader reader, bint many) except -1:
        cdef uint32_t number, wire, field
        cdef WireReader inner
        cdef uint64_t value
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t token = 0
        while reader.p < reader.end:
            if not field_tag(&reader, &number, &wire):
                raise ValueError("not a message")
            # A stream's request has an id before the rest, a Commit its permit.
            field = number - self.shifted
            if wire == WIRE_BYTES and (field == 1 or field == 2):
                if not field_bytes(&reader, &inner):
                    raise ValueError("not a message")
                if field == 2:
                    if not utf8_valid(inner.p, inner.end - inner.p):
                        raise ValueError("the audience is not UTF-8")
                    _set(&self.stated_audience, &inner)
                    continue
                if i < self.count and not self._read_item(inner, &self.items[i]):
                    raise ValueError("an item is no message")
                i += many
            elif wire == WIRE_BYTES and many and number == BATCH_TOKENS:
                if not field_bytes(&reader, &inner):
                    raise ValueError("not a message")
                if self.table != NULL:
                    _set(&self.table[token].token, &inner)
                    token += 1
            elif wire == WIRE_BYTES and field == 0 and not self.is_stream:
                if not field_bytes(&reader, &inner):
                    raise ValueError("not a message")
                _set(&self.stated_permit, &inner)
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
                if not field_varint(&reader, &value) or not self._set_place(item - self.items, <uint32_t> value):
                    return False
                continue
            if wire != WIRE_BYTES or (number > FIELD_PEER and number != FIELD_PROOF):
                if not self.read_wish(&reader, item - self.items, number, wire):
                    return False
                continue
            if not field_bytes(&reader, &inner):
                return False
            _set(&text, &inner)
            if number == FIELD_TOKEN:
                item.asked.token = text
            elif number == FIELD_ACTION:
                item.asked.action = text
            elif number == FIELD_RESOURCE:
                item.asked.resource = text
            elif number == FIELD_ARGUMENTS:
                item.asked.arguments = text
            elif number == FIELD_TOOL:
                item.asked.tool = text
            elif number == FIELD_SESSION:
                item.asked.session = text
            elif number == FIELD_PROOF:
                item.asked.proof = text
            elif not utf8_valid(text.p, text.n):
                return False
            elif number == FIELD_SOURCE:
                item.asked.source = text
            elif not keep_part(&self.arena, &item.asked.peers, &item.asked.peer_count, &text):
                return False
        return True

    cdef bint _set_place(self, Py_ssize_t i, uint32_t place) noexcept:
        """Keep which token of the table an item asks about."""
        if self.places == NULL:
            if place == 0:
                return True
            self.places = <uint32_t *> arena_take(&self.arena, self.count * sizeof(uint32_t))
            if self.places == NULL:
                return False
            memset(self.places, 0, self.count * sizeof(uint32_t))
        self.places[i] = place
        return True


cdef inline void _set(TextSlice *out, const WireReader *inner) noexcept nogil:
    out.p = inner.p
    out.n = inner.end - inner.p


cdef str _text(const TextSlice *part):
    return PyBytes_FromStringAndSize(<const char *> part.p, part.n).decode("utf-8")

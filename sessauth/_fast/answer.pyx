"""Check requests and responses in wire form: no message object between the bytes and the decision.

Unlike a token, a request is read as any protobuf runtime reads it: fields in any order, the last of a
scalar counts, a message given twice is merged, what is not known is skipped
(proto/sessauth/v1/authorization_service.proto).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from sessauth._fast.arena cimport arena_free, arena_init, arena_take
from sessauth._fast.batch cimport Batch, Item
from sessauth._fast.chain cimport Chain
from sessauth._fast.check cimport Checker, Prepared, is_text
from sessauth._fast.limits cimport MAX_BATCH_ITEMS, MAX_PEERS
from sessauth._fast.finding cimport part_of
from sessauth._fast.reply cimport Out, out_free, out_init, put_decision, put_number
from sessauth._fast.resource cimport Part
from sessauth._fast.text cimport bytes_t
from sessauth._fast.wire cimport WIRE_BYTES, WIRE_VARINT, Reader, utf8_valid

__all__ = ["Asking"]

cdef enum:
    WIRE_64 = 1
    WIRE_GROUP = 3
    WIRE_GROUP_END = 4
    WIRE_32 = 5
    # Messages and groups within each other, as protobuf's own runtimes bound them.
    MAX_GROUPS = 100
    MAX_LENGTH_BYTES = 5
    # Of CheckItem.
    FIELD_TOKEN = 1
    FIELD_ACTION = 2
    FIELD_RESOURCE = 3
    FIELD_ARGUMENTS = 4
    FIELD_TOOL = 5
    FIELD_SESSION = 6
    FIELD_SOURCE = 7
    FIELD_PEER = 8

cdef bytes NOTHING = b""


cdef class Asking(Batch):
    """What a Check, CheckBatch or CheckStream message asks; afterwards the decisions.

    ``Asking(checker, data, kind)``: ``kind`` is ``"check"``, ``"batch"`` or ``"stream"``. Raises ValueError
    for bytes that are no such message. ``stated`` is how many items the message has; with more than 1,024
    none is read.
    """

    def __cinit__(self, Checker checker not None, bytes data not None, str kind not None):
        cdef Reader reader
        if kind not in ("check", "batch", "stream"):
            raise ValueError("kind is check, batch or stream")
        arena_init(&self.arena)
        self.stated_audience.p = <bytes_t> PyBytes_AS_STRING(NOTHING)
        self.checker = checker
        self.held = [data]
        self.is_stream = kind == "stream"
        reader.p = <bytes_t> PyBytes_AS_STRING(data)
        reader.end = reader.p + PyBytes_GET_SIZE(data)
        self._count_items(reader, kind == "batch")
        self._read_items(reader, kind == "batch")
        checker.name(self)

    def __dealloc__(self):
        arena_free(&self.arena)

    @property
    def audience(self):
        """The verifier that the request names; empty if it names none."""
        return _text(&self.stated_audience)

    def session_bytes(self, Py_ssize_t i):
        """How many bytes the item's session id has; 0 if it is not stated."""
        return self._item(i).asked.session.n

    def peer_count(self, Py_ssize_t i):
        """How many identities the item states."""
        return self._item(i).asked.peer_count

    def states(self, Py_ssize_t i):
        """Whether the item states an action, and whether a resource."""
        return self._item(i).asked.action.n > 0, self._item(i).asked.resource.n > 0

    def well_formed(self):
        """Whether each item states an action and a resource, and at most one session and 16 identities."""
        cdef Py_ssize_t i
        cdef Item *item
        for i in range(self.count):
            item = &self.items[i]
            if not item.asked.action.n or not item.asked.resource.n or item.asked.peer_count > MAX_PEERS:
                return False
            if item.asked.session.n != 0 and item.asked.session.n != 16:
                return False
        return True

    def token(self, Py_ssize_t i):
        """The bytes that were judged in the token's place."""
        self._item(i)
        return self.token_of(i)

    def judge(
        self, str audience not None, gate=None, Py_ssize_t first=0, Py_ssize_t count=-1, *, int64_t now_ms=-1
    ):
        """Judge items from ``first`` on, all that are left or ``count`` of them, by one state and one time.

        ``gate`` is asked ``may_fail(source) -> bool`` before signatures of a chain that was not verified
        before are looked at, and is told ``failed(source)`` when one of them is wrong. ``now_ms`` is as in
        ``Checker.check``. What was found of these items before is forgotten. Raises ValueError for items
        that are not well-formed.
        """
        cdef Py_ssize_t end = self.count if count < 0 else min(self.count, first + count)
        cdef Py_ssize_t i
        cdef Part shared
        if first < 0:
            raise IndexError("no such item")
        if not self.well_formed():
            raise ValueError("an item is not well-formed")
        self.held.append(part_of(audience, &shared))
        self.held.append(audience)
        self.held.append(gate)
        self.reset(first, end)
        for i in range(first, end):
            self.items[i].asked.audience = shared
            self.items[i].asked.at_least_revision = self.at_least_revision
            self.items[i].asked.gate = NULL if gate is None else <PyObject *> gate
            if is_text(self.items[i].asked.token.p, self.items[i].asked.token.n):
                self._take_text(&self.items[i])
        self.checker.judge_batch(self, first, end, now_ms)

    def answer(self, explain):
        """Return the response's bytes; ``explain(decision, token)`` gives the text for each denial."""
        cdef Out out
        cdef Item *item
        cdef Chain chain
        cdef Py_ssize_t i
        cdef bytes text = NOTHING
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
                put_decision(
                    &out,
                    2 if self.is_stream else 1,
                    &item.found,
                    chain,
                    <bytes_t> PyBytes_AS_STRING(self.prefix),
                    self.number + i,
                    PyBytes_AS_STRING(text),
                    PyBytes_GET_SIZE(text),
                )
            if out.failed:
                raise MemoryError
            return PyBytes_FromStringAndSize(<const char *> out.p, out.n)
        finally:
            out_free(&out)

    cdef Item *_item(self, Py_ssize_t i) except NULL:
        if not 0 <= i < self.count:
            raise IndexError("no such item")
        return &self.items[i]

    cdef int _take_text(self, Item *item) except -1:
        """Put the bytes of a token that came as text in its place."""
        cdef Prepared prepared = self.checker._taken(
            PyBytes_FromStringAndSize(<const char *> item.asked.token.p, item.asked.token.n)
        )
        item.refused = prepared.reason
        if not prepared.reason:
            self.held.append(prepared)
            part_of(prepared.data, &item.asked.token)
        return 0

    cdef int _count_items(self, Reader reader, bint many) except -1:
        """Make room for the items; for none if there are more than a batch may have."""
        cdef uint32_t number, wire
        cdef Py_ssize_t count = 0
        cdef uint32_t item_field = 2 if self.is_stream else 1
        while reader.p < reader.end:
            if not _tag(&reader, &number, &wire):
                raise ValueError("not a message")
            if number == item_field and wire == WIRE_BYTES:
                count += 1
            if not _skip(&reader, number, wire, 0):
                raise ValueError("not a message")
        self.stated = count if many or count == 0 else 1
        return self.allocate(self.stated if self.stated <= MAX_BATCH_ITEMS else 0)

    cdef int _read_items(self, Reader reader, bint many) except -1:
        cdef uint32_t number, wire, field
        cdef Reader inner
        cdef uint64_t value
        cdef Py_ssize_t i = 0
        while reader.p < reader.end:
            if not _tag(&reader, &number, &wire):
                raise ValueError("not a message")
            # A stream's request has an id before the rest.
            field = number - self.is_stream
            if wire == WIRE_BYTES and (field == 1 or field == 2):
                if not _bytes(&reader, &inner):
                    raise ValueError("not a message")
                if field == 2:
                    if not utf8_valid(inner.p, inner.end - inner.p):
                        raise ValueError("the audience is not UTF-8")
                    _set(&self.stated_audience, &inner)
                    continue
                if i < self.count and not self._read_item(inner, &self.items[i]):
                    raise ValueError("an item is no message")
                i += many
            elif wire == WIRE_VARINT and (field == 3 or field == 0):
                if not _varint(&reader, &value):
                    raise ValueError("not a message")
                if field == 3:
                    self.at_least_revision = value
                else:
                    self.id = value
            elif not _skip(&reader, number, wire, 0):
                raise ValueError("not a message")
        return 0

    cdef bint _read_item(self, Reader reader, Item *item) noexcept:
        cdef uint32_t number, wire
        cdef Reader inner
        cdef Part text
        while reader.p < reader.end:
            if not _tag(&reader, &number, &wire):
                return False
            if wire != WIRE_BYTES or number > FIELD_PEER:
                if not _skip(&reader, number, wire, 1):
                    return False
                continue
            if not _bytes(&reader, &inner):
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
            elif not utf8_valid(text.p, text.n):
                return False
            elif number == FIELD_SOURCE:
                item.asked.source = text
            elif not self._add_peer(item, &text):
                return False
        return True

    cdef bint _add_peer(self, Item *item, const Part *text) noexcept:
        """Keep an identity; of too many, only the number."""
        cdef Part *peers = <Part *> item.asked.peers
        if peers == NULL:
            peers = <Part *> arena_take(&self.arena, MAX_PEERS * sizeof(Part))
            if peers == NULL:
                return False
            item.asked.peers = peers
        if item.asked.peer_count < MAX_PEERS:
            peers[item.asked.peer_count] = text[0]
        item.asked.peer_count += 1
        return True


cdef inline void _set(Part *out, const Reader *inner) noexcept nogil:
    out.p = inner.p
    out.n = inner.end - inner.p


cdef str _text(const Part *part):
    return PyBytes_FromStringAndSize(<const char *> part.p, part.n).decode("utf-8")


cdef bint _varint(Reader *reader, uint64_t *value) noexcept nogil:
    """At most ten bytes, of which zeros at the end add nothing; bits above the 64th are dropped."""
    cdef uint64_t result = 0
    cdef int shift = 0
    cdef unsigned char byte
    while shift < 70 and reader.p < reader.end:
        byte = reader.p[0]
        reader.p += 1
        if shift < 64:
            result |= (<uint64_t> (byte & 0x7F)) << shift
        if byte < 0x80:
            value[0] = result
            return True
        shift += 7
    return False


cdef bint _tag(Reader *reader, uint32_t *number, uint32_t *wire) noexcept nogil:
    cdef bytes_t begin = reader.p
    cdef uint64_t tag
    if not _varint(reader, &tag) or tag > 0xFFFFFFFFULL or tag < 8 or reader.p - begin > 5:
        return False
    number[0] = <uint32_t> (tag >> 3)
    wire[0] = <uint32_t> (tag & 7)
    return True


cdef bint _bytes(Reader *reader, Reader *inner) noexcept nogil:
    cdef bytes_t begin = reader.p
    cdef uint64_t length
    if not _varint(reader, &length) or reader.p - begin > MAX_LENGTH_BYTES:
        return False
    if length > <uint64_t> (reader.end - reader.p):
        return False
    inner.p = reader.p
    inner.end = reader.p + length
    reader.p += length
    return True


cdef bint _skip(Reader *reader, uint32_t number, uint32_t wire, int depth) noexcept nogil:
    """Step over a field that is not known, or not of the kind that it should be."""
    cdef uint32_t inner_number, inner_wire
    cdef uint64_t value
    cdef Reader inner
    if wire == WIRE_VARINT:
        return _varint(reader, &value)
    if wire == WIRE_BYTES:
        return _bytes(reader, &inner)
    if wire == WIRE_64 or wire == WIRE_32:
        value = 8 if wire == WIRE_64 else 4
        if <uint64_t> (reader.end - reader.p) < value:
            return False
        reader.p += value
        return True
    if wire != WIRE_GROUP or depth == MAX_GROUPS:
        return False
    while reader.p < reader.end:
        if not _tag(reader, &inner_number, &inner_wire):
            return False
        if inner_wire == WIRE_GROUP_END:
            return inner_number == number
        if not _skip(reader, inner_number, inner_wire, depth + 1):
            return False
    return False

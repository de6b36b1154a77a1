"""Encoder of decisions (proto/sessauth/v1/authorization_service.proto).

The bytes equal those of a protobuf runtime: fields in the order of their numbers, defaults omitted.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from sessauth._fast._check cimport LEVEL_BLOCK, LEVEL_NONE, MAX_BLOCKS, Batch, Chain, CheckOutcome, Item

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

"""Lenient protobuf fields: any order, padded varints, unknown numbers and kinds, as in any protobuf runtime.

For requests. Signed and stored bytes are read strictly (protobuf.pxd).
"""

from libc.stdint cimport uint32_t, uint64_t

from sessauth._fast._check cimport WIRE_BYTES, WIRE_VARINT, WireReader, bytes_t

cdef enum:
    WIRE_64 = 1
    WIRE_GROUP = 3
    WIRE_GROUP_END = 4
    WIRE_32 = 5
    # Nesting limit of messages and groups, as in protobuf's own runtimes.
    MAX_GROUPS = 100
    MAX_LENGTH_BYTES = 5

cdef inline bint field_varint(WireReader *reader, uint64_t *value) noexcept nogil:
    """Read a varint of at most ten bytes. Trailing zero bytes are accepted, bits above the 64th dropped."""
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

cdef inline bint field_tag(WireReader *reader, uint32_t *number, uint32_t *wire) noexcept nogil:
    cdef bytes_t begin = reader.p
    cdef uint64_t tag
    if not field_varint(reader, &tag) or tag > 0xFFFFFFFFULL or tag < 8 or reader.p - begin > 5:
        return False
    number[0] = <uint32_t> (tag >> 3)
    wire[0] = <uint32_t> (tag & 7)
    return True

cdef inline bint field_bytes(WireReader *reader, WireReader *inner) noexcept nogil:
    cdef bytes_t begin = reader.p
    cdef uint64_t length
    if not field_varint(reader, &length) or reader.p - begin > MAX_LENGTH_BYTES:
        return False
    if length > <uint64_t> (reader.end - reader.p):
        return False
    inner.p = reader.p
    inner.end = reader.p + length
    reader.p += length
    return True

cdef inline bint field_skip(WireReader *reader, uint32_t number, uint32_t wire, int depth) noexcept nogil:
    """Skip an unknown field, or one of an unexpected kind."""
    cdef uint32_t inner_number, inner_wire
    cdef uint64_t value
    cdef WireReader inner
    if wire == WIRE_VARINT:
        return field_varint(reader, &value)
    if wire == WIRE_BYTES:
        return field_bytes(reader, &inner)
    if wire == WIRE_64 or wire == WIRE_32:
        value = 8 if wire == WIRE_64 else 4
        if <uint64_t> (reader.end - reader.p) < value:
            return False
        reader.p += value
        return True
    if wire != WIRE_GROUP or depth == MAX_GROUPS:
        return False
    while reader.p < reader.end:
        if not field_tag(reader, &inner_number, &inner_wire):
            return False
        if inner_wire == WIRE_GROUP_END:
            return inner_number == number
        if not field_skip(reader, inner_number, inner_wire, depth + 1):
            return False
    return False

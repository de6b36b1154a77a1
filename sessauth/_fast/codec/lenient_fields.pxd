"""Fields as any protobuf runtime reads them: in any order, padded, of numbers and kinds that nobody knows.

Requests are read so; what is signed or stored is not (wire.pxd).
"""

from libc.stdint cimport uint32_t, uint64_t

from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.codec.protobuf cimport WIRE_BYTES, WIRE_VARINT, WireReader

cdef enum:
    WIRE_64 = 1
    WIRE_GROUP = 3
    WIRE_GROUP_END = 4
    WIRE_32 = 5
    # Messages and groups within each other, as protobuf's own runtimes bound them.
    MAX_GROUPS = 100
    MAX_LENGTH_BYTES = 5


cdef inline bint field_varint(WireReader *reader, uint64_t *value) noexcept nogil:
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
    """Step over a field that is not known, or not of the kind that it should be."""
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

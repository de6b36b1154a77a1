"""Strict canonical protobuf, and tokens as text: the readers of the kernel's decoders."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    WIRE_VARINT = 0
    WIRE_BYTES = 2

cdef struct WireReader:
    const unsigned char *p
    const unsigned char *end

# The position after a varint of any length at `p`, or NULL. It takes no reader, so that a caller's stays in registers.
cdef const unsigned char *after_varint(
    const unsigned char *p, const unsigned char *end, uint64_t *value
) noexcept nogil

# Each returns 1, or 0 for input that is not canonical. After 0 the reader's position is undefined.
cdef inline bint read_varint(WireReader *reader, uint64_t *value) noexcept nogil:
    cdef uint64_t any_value
    # Nearly all have one byte.
    if reader.p < reader.end and reader.p[0] < 0x80:
        value[0] = reader.p[0]
        reader.p += 1
        return 1
    reader.p = after_varint(reader.p, reader.end, &any_value)
    value[0] = any_value
    return reader.p != NULL

cdef inline bint read_tag(WireReader *reader, uint32_t *number, uint32_t *wire) noexcept nogil:
    cdef uint64_t tag
    if reader.p < reader.end and 8 <= reader.p[0] < 0x80:
        number[0] = reader.p[0] >> 3
        wire[0] = reader.p[0] & 7
        reader.p += 1
        return 1
    if not read_varint(reader, &tag) or tag > 0xFFFFFFFFULL or tag < 8:
        return 0
    number[0] = <uint32_t> (tag >> 3)
    wire[0] = <uint32_t> (tag & 7)
    return 1

cdef inline bint read_bytes(WireReader *reader, WireReader *inner) noexcept nogil:
    cdef uint64_t length
    if not read_varint(reader, &length) or length > <uint64_t> (reader.end - reader.p):
        return 0
    inner.p = reader.p
    inner.end = reader.p + length
    reader.p += length
    return 1

cdef bint utf8_valid(const unsigned char *p, size_t n) noexcept nogil
cdef int64_t unzigzag(uint64_t value) noexcept nogil

# Canonical base64url; 0 for any other text, of which `out` may hold a part.
cdef bint decode_body(const unsigned char *body, size_t n, unsigned char *out) noexcept nogil

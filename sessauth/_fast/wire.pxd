"""Strict canonical protobuf: the reader that every decoder of the kernel is built on."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    WIRE_VARINT = 0
    WIRE_BYTES = 2

cdef struct Reader:
    const unsigned char *p
    const unsigned char *end

# Each returns 1, or 0 when the input is not canonical; then the reader's place is undefined.
cdef bint read_varint(Reader *reader, uint64_t *value) noexcept nogil
cdef bint read_tag(Reader *reader, uint32_t *number, uint32_t *wire) noexcept nogil
cdef bint read_bytes(Reader *reader, Reader *inner) noexcept nogil

cdef bint utf8_valid(const unsigned char *p, size_t n) noexcept nogil
cdef int64_t unzigzag(uint64_t value) noexcept nogil

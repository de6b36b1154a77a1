"""Values of conditions and facts, compiled from their wire form (docs/token-format.md, section 7)."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

cdef enum:
    # Types of values beside those of JSON: a JSON value, as its equality form or as the digest of that.
    TYPE_JSON = 16
    TYPE_DIGEST = 17

# A text inside the token or record that it was compiled from. 16 bits suffice: a token has at most
# 8 KiB, a record at most 64 KiB; pointers would make a cached chain several times its bytes.
cdef struct ByteSpan:
    uint16_t at
    uint16_t n

cdef struct Value:
    uint8_t type            # TYPE_TEXT, TYPE_NUMBER, TYPE_TRUTH, TYPE_DECIMAL, TYPE_JSON, TYPE_DIGEST
    uint8_t truth           # of JSON: the type of a text, number or truth, 0 for other values
    ByteSpan text           # of every type but NUMBER and TRUTH
    uint32_t nanos
    int64_t units

cdef inline void set_span(ByteSpan *out, bytes_t base, const WireReader *inner) noexcept nogil:
    out.at = <uint16_t> (inner.p - base)
    out.n = <uint16_t> (inner.end - inner.p)

"""Encoder of decisions (proto/sessauth/v1/authorization_service.proto)."""

from sessauth._fast.call.check_state cimport CheckOutcome
from sessauth._fast.token.chain cimport Chain

# A growing buffer. `failed` is set without memory.
cdef struct ByteBuffer:
    unsigned char *p
    size_t n
    size_t room
    bint failed

cdef void out_init(ByteBuffer *out) noexcept nogil
cdef void out_free(ByteBuffer *out) noexcept nogil
cdef void put_number(ByteBuffer *out, int field, unsigned long long value) noexcept nogil
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
) noexcept nogil

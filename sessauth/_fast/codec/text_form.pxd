"""Decoder of the text forms (docs/token-format.md, section 10)."""

from sessauth._fast.base.text cimport bytes_t

cdef enum:
    TEXT_TRUNCATED = 1
    TEXT_DAMAGED = 2
    TEXT_MALFORMED = 3

cdef enum:
    # Prefix of a presented token, and of the stored form, which nobody presents.
    PRESENTED_CHARS = 15
    STORED_CHARS = 16
    # A `.` and the checksum.
    CHECK_CHARS = 7

cdef const char *PRESENTED_PREFIX
cdef const char *STORED_PREFIX

# The bytes of a text after its prefix, or None with the fault.
cdef bytes decode_text(bytes_t p, size_t n, size_t prefix_chars, int *fault)
# Decodes `count` bytes from byte `at` of a body that has them. Nothing is validated.
cdef void body_bytes(bytes_t body, size_t at, size_t count, unsigned char *out) noexcept nogil
# The bytes of a proof in any form. A text that is no proof's comes back as it is, which is the encoding of none.
cpdef bytes proof_bytes(object proof)

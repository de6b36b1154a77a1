"""The canonical form of a JSON object (docs/token-format.md, section 8.2)."""

from sessauth._fast.base.text cimport bytes_t

cdef enum:
    # What a byte of a string takes at most: \u and four digits.
    STRING_FACTOR = 6

# The canonical form, or None for bytes that are no arguments. It is never longer than they are, but for none at all.
cdef bytes canonical_of(bytes_t p, size_t n)
# A string with its quotes, in room for STRING_FACTOR times its bytes and two more; returns where it ended.
cdef unsigned char *put_string(unsigned char *out, bytes_t p, size_t n) noexcept nogil

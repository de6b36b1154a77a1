"""A resource as its segments (docs/token-format.md, section 8)."""

from libc.stdint cimport uint32_t

from sessauth._fast.base.limits cimport MAX_SEGMENTS
from sessauth._fast.base.text cimport bytes_t, mark

cdef struct TextSlice:
    bytes_t p
    size_t n

cdef enum:
    MARKED_SEGMENTS = 2

cdef inline uint32_t next_mark(uint32_t before, bytes_t p, size_t n) noexcept nogil:
    """The mark of some segments and one more: other marks, other segments."""
    return before * 31 + mark(p, n)

cdef struct Resource:
    int count
    # Of its first segments: none, one, two.
    uint32_t marks[MARKED_SEGMENTS + 1]
    TextSlice parts[MAX_SEGMENTS]

# 0: malformed.
cdef bint split_resource(bytes_t p, size_t n, Resource *out) noexcept nogil

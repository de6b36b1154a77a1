"""A resource, split into segments (docs/token-format.md, section 8)."""

from libc.stdint cimport uint32_t

cdef struct TextSlice:
    bytes_t p
    size_t n

cdef enum:
    MARKED_SEGMENTS = 2

cdef inline uint32_t next_mark(uint32_t before, bytes_t p, size_t n) noexcept nogil:
    """Extend the mark of a run of segments by one segment. Runs with different marks differ."""
    return before * 31 + mark(p, n)

cdef struct Resource:
    int count
    # Marks of the first zero, one and two segments.
    uint32_t marks[MARKED_SEGMENTS + 1]
    TextSlice parts[MAX_SEGMENTS]

# 0: malformed.
cdef bint split_resource(bytes_t p, size_t n, Resource *out) noexcept nogil

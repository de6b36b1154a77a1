"""Conditions, compiled from their wire form (docs/token-format.md, section 6.1)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    SOURCE_UNKNOWN = 0
    SOURCE_ARGS = 1
    SOURCE_SESSION = 2
    SOURCE_TOOL = 3
    SOURCE_ELEMENTS = 8

cdef enum:
    OP_UNKNOWN = 0
    OP_EQUAL = 1
    OP_NOT_EQUAL = 2
    OP_IN = 3
    OP_NOT_IN = 4
    OP_LESS = 5
    OP_LESS_EQUAL = 6
    OP_GREATER = 7
    OP_GREATER_EQUAL = 8
    OP_STARTS_WITH = 9
    OP_GLOB = 10
    OP_UNDER = 11
    OP_CIDR = 12
    OP_SUBSET_OF = 13
    OP_PRESENT = 14
    OP_ABSENT = 15

cdef enum:
    # Common shapes of conditions, set at compile time: one top-level argument without accessor, compared with values for
    # equality or with a number for order.
    SHAPE_OTHER = 0
    SHAPE_EQUALS = 1
    SHAPE_ORDER = 2

cdef enum:
    ACCESSOR_NONE = 0
    ACCESSOR_COUNT = 1
    ACCESSOR_HOST = 2
    ACCESSOR_SCHEME = 3
    ACCESSOR_PORT = 4
    ACCESSOR_UNKNOWN = 255

# Texts of a repeated field, adjacent in the input. `next_text` steps to the next one.
cdef struct Texts:
    ByteSpan first
    uint8_t count

# The segments, as in Texts, and the source that they are looked up in.
cdef struct Path:
    uint8_t source
    uint8_t count
    ByteSpan first

cdef struct Condition:
    Path path
    uint8_t op
    uint8_t accessor
    uint8_t each
    uint8_t optional
    uint8_t count           # of values
    uint8_t shape
    ByteSpan fact               # n = 0: none
    Value *values

cdef struct Fact:
    ByteSpan name
    Value value
    uint8_t visible

cdef inline void next_text(bytes_t base, ByteSpan *text) noexcept nogil:
    """Step from one text of a repeated field to the next: over a tag of one byte and a length of one or two."""
    cdef bytes_t p = base + text.at + text.n + 1
    text.n = p[0]
    p += 1
    if text.n >= 0x80:
        text.n = <uint16_t> ((text.n & 0x7F) | (p[0] << 7))
        p += 1
    text.at = <uint16_t> (p - base)

cdef inline bint is_argument(const Path *path) noexcept nogil:
    return path.source == SOURCE_ARGS or path.source == SOURCE_ELEMENTS

cdef inline bint is_each_element(bytes_t base, const ByteSpan *segment) noexcept nogil:
    """Return 1 if a segment of an ELEMENTS path is `[]`. Any other is a name behind a `.`."""
    return base[segment.at] == 0x5B

cdef inline bint is_json(const Condition *c) noexcept nogil:
    """Return 1 if the values are JSON values."""
    return c.count and c.values[0].type >= TYPE_JSON

# Parsers return NULL, or the fault. Spans are relative to `base`.
cdef const char *parse_condition(WireReader reader, bytes_t base, Arena *arena, Condition *out) noexcept nogil
cdef const char *parse_facts(
    WireReader reader, bytes_t base, Arena *arena, uint32_t number, Fact **out, int *count
) noexcept nogil
cdef int count_elements(WireReader reader, uint32_t number) noexcept nogil

cdef inline bint is_unknown(const Condition *c) noexcept nogil:
    return c.op == OP_UNKNOWN or c.accessor == ACCESSOR_UNKNOWN or c.path.source == SOURCE_UNKNOWN

cdef inline int count_run(WireReader reader, uint32_t number) noexcept nogil:
    """Count the adjacent elements of a repeated field. The reader is behind the first tag."""
    cdef WireReader inner
    cdef WireReader first = reader
    # Nearly all fields have one element.
    if read_bytes(&first, &inner) and first.p == first.end:
        return 1
    return count_elements(reader, number)

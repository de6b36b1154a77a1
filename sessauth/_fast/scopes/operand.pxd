"""Comparison of scalar values (docs/token-format.md, section 6.6).

Equality and order of plain values are inline, since every warm check has a few.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

# An operand: from the request, a fact, a token, or the result of an accessor.
cdef struct Operand:
    uint8_t type
    bint truth
    bytes_t text
    size_t n
    int64_t units
    uint32_t nanos
    Decimal exact           # DECIMAL
    unsigned char lower[MAX_SCHEME_CHARS]   # a host is shorter

# Compare a node that is no NUMBER with the condition's number.
cdef bint order_holds(const Condition *c, const JsonNode *node) noexcept nogil

cdef inline bint equals_any(
    const Condition *c, bytes_t base, uint8_t type, bint truth, bytes_t text, int64_t units, uint32_t nanos
) noexcept nogil:
    """Return 1 if a value is one of the condition's. ``units`` of a text is its length in bytes."""
    cdef const Value *value
    cdef int i
    for i in range(c.count):
        value = &c.values[i]
        if value.type != type:
            continue
        if type == TYPE_TEXT:
            if value.text.n == units and same(base + value.text.at, text, value.text.n):
                return 1
        elif type == TYPE_NUMBER:
            if value.units == units and value.nanos == nanos:
                return 1
        elif type == TYPE_TRUTH and value.truth == truth:
            return 1
    return 0

cdef inline int number_order(int64_t a_units, uint32_t a_nanos, int64_t b_units, uint32_t b_nanos) noexcept nogil:
    """Compare a and b: below, at or above 0."""
    if a_units != b_units:
        return -1 if a_units < b_units else 1
    return (a_nanos > b_nanos) - (a_nanos < b_nanos)

cdef inline bint order_is(int op, int order) noexcept nogil:
    """Return 1 if this order satisfies an operator from ``<`` to ``>=``."""
    if op == OP_LESS:
        return order < 0
    if op == OP_LESS_EQUAL:
        return order <= 0
    return order > 0 if op == OP_GREATER else order >= 0

"""Conditions, evaluated (docs/token-format.md, sections 6.2 to 6.9).

The most common shapes are evaluated inline, since every warm check has a few. The others are in ``evaluate.pyx``.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from sessauth._fast.base.text cimport bytes_t, same
from sessauth._fast.call.json_reader cimport TYPE_NUMBER, TYPE_TEXT, TYPE_TRUTH, Document, JsonNode
from sessauth._fast.scopes.json_lookup cimport find_member
from sessauth._fast.token.condition cimport (
    OP_GREATER,
    OP_LESS,
    OP_LESS_EQUAL,
    SHAPE_EQUALS,
    SHAPE_OTHER,
    Condition,
    Fact,
    Value,
)

# The documents and facts that conditions read, and the work so far.
cdef struct Context:
    const Document *arguments
    const Document *tool
    bytes_t facts_base
    const Fact *facts
    int fact_count
    bint visible_only
    uint32_t work
    bint overworked

# Count n × max(1, times) steps of work. 0: the check is over its limit.
cdef bint spend(Context *context, uint32_t n, uint32_t times) noexcept nogil
# `holds` for conditions of every shape.
cdef bint holds_of_any_shape(const Condition *c, bytes_t base, Context *context) noexcept nogil


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


cdef inline bint holds(const Condition *c, bytes_t base, Context *context, uint64_t *marked) noexcept nogil:
    """Evaluate a condition. False also when the work ran out; then the context is `overworked`.

    The condition's spans are relative to ``base``. The argument of the condition may be marked in ``marked``, bit i for
    node i. The marks of one scope save ``covers`` a lookup of these arguments.
    """
    cdef const JsonNode *nodes
    cdef const JsonNode *node
    if c.shape == SHAPE_OTHER:
        return holds_of_any_shape(c, base, context)
    nodes = context.arguments.nodes
    node = find_member(nodes, nodes, base + c.path.first.at, c.path.first.n)
    if node == NULL:
        return c.optional
    if node - nodes < 64:
        marked[0] |= (<uint64_t> 1) << (node - nodes)
    if c.shape == SHAPE_EQUALS:
        return equals_any(c, base, node.type, node.truth, node.text, node.units, node.nanos)
    return node.type == TYPE_NUMBER and order_is(
        c.op, number_order(node.units, node.nanos, c.values[0].units, c.values[0].nanos)
    )

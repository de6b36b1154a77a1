"""Conditions, evaluated (docs/token-format.md, sections 6.2 to 6.9).

What most conditions are is evaluated in line, since every warm check does so a few times; the rest in
``evaluate.pyx``.
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

# What a condition is evaluated against.
cdef struct Context:
    const Document *arguments
    const Document *tool
    bytes_t facts_base
    const Fact *facts
    int fact_count
    bint visible_only
    uint32_t work
    bint overworked

# Count n × max(1, times) steps of work; 0 when the check has done too much.
cdef bint spend(Context *context, uint32_t n, uint32_t times) noexcept nogil
# As `holds`, for any condition.
cdef bint holds_of_any_shape(const Condition *c, bytes_t base, Context *context) noexcept nogil


cdef inline bint equals_any(
    const Condition *c, bytes_t base, uint8_t type, bint truth, bytes_t text, int64_t units, uint32_t nanos
) noexcept nogil:
    """Whether a value is one of the condition's; ``units`` of a text are its bytes."""
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
    """Below, at or above 0, as a is to b."""
    if a_units != b_units:
        return -1 if a_units < b_units else 1
    return (a_nanos > b_nanos) - (a_nanos < b_nanos)


cdef inline bint order_is(int op, int order) noexcept nogil:
    """Whether an operator from ``<`` to ``>=`` wants this order."""
    if op == OP_LESS:
        return order < 0
    if op == OP_LESS_EQUAL:
        return order <= 0
    return order > 0 if op == OP_GREATER else order >= 0


cdef inline bint holds(const Condition *c, bytes_t base, Context *context, uint64_t *marked) noexcept nogil:
    """Evaluate a condition; false also when the work ran out, which the context then says.

    ``base`` is where the condition's spans count from. The argument that it is of may be marked in ``named``,
    bit i for node i: what marks belong to one scope tell ``cover`` what need not be looked for again.
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

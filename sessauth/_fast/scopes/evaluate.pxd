"""Conditions, evaluated (docs/token-format.md, sections 6.2 to 6.9).

The most common shapes are evaluated inline, since every warm check has a few. The others are in ``evaluate.pyx``.
"""

from libc.stdint cimport uint32_t, uint64_t

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
    # Where a condition of ELEMENTS failed: the element of each list that was entered.
    uint32_t place[MAX_PATH_SEGMENTS]
    int depth

# Count n × max(1, times) steps of work. 0: the check is over its limit.
cdef bint spend(Context *context, uint32_t n, uint32_t times) noexcept nogil
# `holds` for conditions of every shape.
cdef bint holds_of_any_shape(const Condition *c, bytes_t base, Context *context) noexcept nogil

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
    if node.type != TYPE_NUMBER:
        return order_holds(c, node)
    return order_is(c.op, number_order(node.units, node.nanos, c.values[0].units, c.values[0].nanos))

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

# Steps of work (section 9.8) that a comparison of one value takes, beside those for the bytes of a text.
cdef enum:
    BYTES_A_STEP = 16
    # Of a text that a pattern or a path walks.
    WALKED_BYTES_A_STEP = 8
    VALUES_A_STEP = 2
    URL_STEPS = 4
    CIDR_STEPS = 8
    DECIMAL_STEPS = 4
    FORM_STEPS = 3
    DIGEST_STEPS = 16
    # Hashed bytes take so many steps for one of other bytes.
    HASHED = 4

# Start the counter: the smaller the arguments, the less work may follow.
cdef void begin_work(Context *context, size_t argument_bytes) noexcept nogil

# Count n × max(1, times) steps of work. 0: the check is over its limit.
cdef bint spend(Context *context, uint32_t n, uint32_t times) noexcept nogil

cdef inline bint _spend_on_lookup(Context *context, const Document *document) noexcept nogil:
    """Count the lookup of a path, which may pass by all values of its document."""
    return document.used < VALUES_A_STEP or spend(context, document.used // VALUES_A_STEP, 1)

# 1 if a condition's JSON values include one that is stated by its digest.
cdef bint has_digest(const Condition *c) noexcept nogil
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
    if not _spend_on_lookup(context, context.arguments):
        return 0
    nodes = context.arguments.nodes
    node = find_member(nodes, nodes, base + c.path.first.at, c.path.first.n)
    if node == NULL:
        return c.optional
    if node - nodes < 64:
        marked[0] |= (<uint64_t> 1) << (node - nodes)
    if node.type == TYPE_DECIMAL and not spend(context, DECIMAL_STEPS, 1):
        return 0
    if c.shape == SHAPE_EQUALS:
        return equals_any(c, base, node.type, node.truth, node.text, node.units, node.nanos)
    if node.type != TYPE_NUMBER:
        return order_holds(c, node)
    return order_is(c.op, number_order(node.units, node.nanos, c.values[0].units, c.values[0].nanos))

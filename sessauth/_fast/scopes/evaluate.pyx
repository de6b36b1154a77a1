"""Evaluation of conditions (docs/token-format.md, sections 6.2 to 6.9).

No other module evaluates a condition. No function needs the GIL, and only the equality
form of an object or a list allocates. Counted steps bound the work (section 9.8).
"""

from libc.stdint cimport uint32_t, uint64_t


cdef void begin_work(Context *context, size_t argument_bytes) noexcept nogil:
    context.work = 3 * (<uint32_t> (MAX_JSON_BYTES - argument_bytes) // BYTES_A_STEP)
    context.overworked = 0


cdef bint spend(Context *context, uint32_t n, uint32_t times) noexcept nogil:
    """Count n × max(1, times) steps of work. 0: the check is over its limit."""
    cdef uint64_t steps = <uint64_t> n * (times if times else 1)
    if steps > MAX_WORK or context.work + steps > MAX_WORK:
        context.overworked = 1
        return 0
    context.work += <uint32_t> steps
    return 1


cdef const Fact *_fact(const Context *context, bytes_t base, const ByteSpan *name) noexcept nogil:
    cdef int i
    cdef const Fact *fact
    for i in range(context.fact_count):
        fact = &context.facts[i]
        if fact.name.n == name.n and same(context.facts_base + fact.name.at, base + name.at, name.n):
            if context.visible_only and not fact.visible:
                return NULL
            return fact
    return NULL


cdef bint holds_of_any_shape(const Condition *c, bytes_t base, Context *context) noexcept nogil:
    cdef const JsonNode *node = NULL
    cdef const Fact *fact = NULL
    cdef const Fact *fact_operand
    cdef const Document *document = context.arguments
    cdef Operand operand
    context.depth = 0
    if is_unknown(c):
        return 0
    operand.type = TYPE_NO_VALUE
    if c.fact.n:
        fact_operand = _fact(context, base, &c.fact)
        if fact_operand != NULL:
            from_value(&fact_operand.value, context.facts_base, &operand)
    elif c.count:
        from_value(&c.values[0], base, &operand)
    if c.path.source == SOURCE_ELEMENTS:
        if not _spend_on_lookup(context, document):
            return 0
        return _at_places(c, base, document.nodes, c.path.first, c.path.count, context, &operand)
    if c.path.source == SOURCE_SESSION:
        fact = _fact(context, base, &c.path.first)
        if fact != NULL:
            return _of_fact(c, base, fact, context, &operand)
    else:
        if c.path.source == SOURCE_TOOL:
            document = context.tool
        if not _spend_on_lookup(context, document):
            return 0
        node = find_node(document, &c.path, base)
        if node != NULL:
            return _of_node(c, base, document.nodes, node, context, &operand)
    return _of_nothing(c)


cdef inline bint _is_missing(const Condition *c, const Operand *operand) noexcept nogil:
    """Return 1 if the fact to compare with is missing: then no value satisfies the condition."""
    return c.fact.n and operand.type == TYPE_NO_VALUE


cdef inline bint _of_nothing(const Condition *c) noexcept nogil:
    """Evaluate a condition where there is nothing at its path."""
    return c.op == OP_ABSENT or c.optional


cdef bint _at_places(
    const Condition *c,
    bytes_t base,
    const JsonNode *node,
    ByteSpan segment,
    int segments,
    Context *context,
    const Operand *operand,
) noexcept nogil:
    """Evaluate a condition at all places below a node to which the last segments of its path lead."""
    cdef const JsonNode *nodes = context.arguments.nodes
    cdef const JsonNode *member
    cdef uint32_t at, i
    cdef int depth = context.depth
    if segments == 0:
        return _of_node(c, base, nodes, node, context, operand)
    if is_each_element(base, &segment):
        if node.type != TYPE_LIST:
            return 0
        if node.count == 0:
            return _of_nothing(c)
        if not spend(context, node.count, c.count):
            return 0
        if segments > 1:
            next_text(base, &segment)
        at = <uint32_t> (node - nodes) + 1
        for i in range(node.count):
            context.place[depth] = i
            context.depth = depth + 1
            if not _at_places(c, base, nodes + at, segment, segments - 1, context, operand):
                return 0
            at = nodes[at].next
        context.depth = depth
        return 1
    if node.type != TYPE_OBJECT:
        return _of_nothing(c)
    # The name stands behind a `.`.
    member = find_member(nodes, node, base + segment.at + 1, segment.n - 1)
    if member == NULL:
        return _of_nothing(c)
    if segments > 1:
        next_text(base, &segment)
    return _at_places(c, base, member, segment, segments - 1, context, operand)


cdef bint _of_fact(
    const Condition *c, bytes_t base, const Fact *fact, Context *context, const Operand *operand
) noexcept nogil:
    cdef Operand hand
    if c.op == OP_ABSENT or c.op == OP_PRESENT:
        return c.op == OP_PRESENT
    if _is_missing(c, operand) or c.each or c.op == OP_SUBSET_OF:
        return 0
    from_value(&fact.value, context.facts_base, &hand)
    return _one(c, base, &hand, 0, context, operand)


cdef bint _of_node(
    const Condition *c, bytes_t base, const JsonNode *nodes, const JsonNode *node, Context *context, const Operand *operand
) noexcept nogil:
    """Evaluate a condition for the value at its path, or for each element of it."""
    cdef uint32_t i
    if c.op == OP_ABSENT:
        return 0
    if c.op == OP_PRESENT:
        return node.type != TYPE_NO_VALUE
    if _is_missing(c, operand):
        return 0
    if not c.each and c.op != OP_SUBSET_OF:
        return _of_value(c, base, nodes, node, context, operand)
    if node.type != TYPE_LIST or not spend(context, node.count, c.count):
        return 0
    i = <uint32_t> (node - nodes) + 1
    while i < node.next:
        if not _of_value(c, base, nodes, nodes + i, context, operand):
            return 0
        i = nodes[i].next
    return 1


cdef bint _of_value(
    const Condition *c, bytes_t base, const JsonNode *nodes, const JsonNode *node, Context *context, const Operand *operand
) noexcept nogil:
    cdef Operand hand
    if is_json(c):
        return _of_json(c, base, nodes, node, context)
    from_node(node, &hand)
    return _one(c, base, &hand, node.count, context, operand)


cdef bint has_digest(const Condition *c) noexcept nogil:
    cdef int i
    for i in range(c.count):
        if c.values[i].type == TYPE_DIGEST:
            return 1
    return 0


cdef bint _of_json(
    const Condition *c, bytes_t base, const JsonNode *nodes, const JsonNode *node, Context *context
) noexcept nogil:
    """Compare a value with JSON values, by its equality form."""
    cdef JsonForm form
    cdef const Value *value
    cdef uint32_t left = MAX_WORK - context.work
    cdef Formed formed
    cdef bint equal = 0
    cdef int i
    form.hashed = has_digest(c)
    formed = form_json(nodes, node, &left, &form)
    context.work = MAX_WORK - left
    if formed != HAS_FORM:
        context.overworked = formed == OUT_OF_WORK
        return 0
    for i in range(c.count):
        value = &c.values[i]
        if value.type == TYPE_DIGEST:
            equal = same(base + value.text.at, form.digest, DIGEST_BYTES)
        else:
            equal = value.text.n == form.n and same(base + value.text.at, form.start, form.n)
        if equal:
            break
    return equal != (c.op == OP_NOT_EQUAL or c.op == OP_NOT_IN)


cdef bint _one(
    const Condition *c, bytes_t base, Operand *hand, uint32_t elements, Context *context, const Operand *operand
) noexcept nogil:
    """Apply the accessor to one value, then compare. ``elements``: of a list."""
    if c.accessor == ACCESSOR_COUNT:
        if hand.type != TYPE_LIST:
            return 0
        hand.type = TYPE_NUMBER
        hand.units = elements
        hand.nanos = 0
    elif c.accessor != ACCESSOR_NONE and not _url_part(c.accessor, context, hand):
        return 0
    if hand.type == TYPE_TEXT:
        # Each of the patterns or paths may walk the whole text, and each network has it read.
        if c.op == OP_GLOB or c.op == OP_UNDER:
            if not spend(context, 1 + <uint32_t> hand.n // WALKED_BYTES_A_STEP, c.count):
                return 0
        elif c.op == OP_CIDR and not spend(context, CIDR_STEPS, c.count):
            return 0
    elif (hand.type == TYPE_DECIMAL or operand.type == TYPE_DECIMAL) and not spend(context, DECIMAL_STEPS, 1):
        return 0
    return compare(c, base, hand, operand)


cdef bint _url_part(int accessor, Context *context, Operand *hand) noexcept nogil:
    cdef Url url
    cdef bytes_t part
    cdef size_t n, i
    if hand.type != TYPE_TEXT or not spend(context, URL_STEPS + <uint32_t> hand.n // BYTES_A_STEP, 1):
        return 0
    if not parse_url(hand.text, hand.n, &url):
        return 0
    if accessor == ACCESSOR_PORT:
        if url.port < 0:
            return 0
        hand.type = TYPE_NUMBER
        hand.units = url.port
        hand.nanos = 0
        return 1
    part = url.scheme
    n = url.scheme_n
    if accessor == ACCESSOR_HOST:
        part = url.host
        n = url.host_n
    for i in range(n):
        hand.lower[i] = part[i] | 0x20 if 0x41 <= part[i] <= 0x5A else part[i]
    hand.text = hand.lower
    hand.n = n
    return 1

"""Evaluation of conditions (docs/token-format.md, sections 6.2 to 6.9).

No other module evaluates a condition. No function allocates or needs the GIL. Counted steps bound the work
(section 9.8).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from sessauth._fast.base.address cimport Address, Url, in_cidr, parse_address, parse_cidr, parse_url
from sessauth._fast.base.limits cimport MAX_WORK
from sessauth._fast.base.text cimport bytes_t, glob_matches, is_under, same
from sessauth._fast.call.json_reader cimport (
    TYPE_LIST,
    TYPE_NO_VALUE,
    TYPE_NUMBER,
    TYPE_TEXT,
    TYPE_TRUTH,
    Document,
    JsonNode,
)
from sessauth._fast.scopes.json_lookup cimport find_node
from sessauth._fast.token.condition cimport (
    ACCESSOR_COUNT,
    ACCESSOR_HOST,
    ACCESSOR_NONE,
    ACCESSOR_PORT,
    OP_ABSENT,
    OP_CIDR,
    OP_EQUAL,
    OP_GLOB,
    OP_GREATER_EQUAL,
    OP_IN,
    OP_LESS,
    OP_NOT_EQUAL,
    OP_NOT_IN,
    OP_PRESENT,
    OP_STARTS_WITH,
    OP_SUBSET_OF,
    OP_UNDER,
    SOURCE_ARGS,
    SOURCE_SESSION,
    Condition,
    Fact,
    ByteSpan,
    Value,
    is_unknown,
)

cdef enum:
    # Bytes of text for one step of work in a glob or a URL.
    BYTES_A_STEP = 16

# An operand: from the request, a fact, a token, or the result of an accessor.
cdef struct Operand:
    uint8_t type
    bint truth
    bytes_t text
    size_t n
    int64_t units
    uint32_t nanos
    unsigned char lower[256]


cdef inline void _from_node(const JsonNode *node, Operand *out) noexcept nogil:
    out.type = node.type
    out.truth = node.truth
    out.text = node.text
    out.n = <size_t> node.units if node.type == TYPE_TEXT else 0
    out.units = node.units
    out.nanos = node.nanos


cdef inline void _from_value(const Value *value, bytes_t base, Operand *out) noexcept nogil:
    out.type = value.type
    out.truth = value.truth
    out.text = base + value.text.at
    out.n = value.text.n
    out.units = value.units
    out.nanos = value.nanos


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
    cdef const Document *document = NULL
    cdef const JsonNode *nodes
    cdef Operand hand
    cdef Operand operand
    cdef uint32_t i
    if is_unknown(c):
        return 0
    if c.path.source == SOURCE_SESSION:
        fact = _fact(context, base, &c.path.first)
    else:
        document = context.arguments if c.path.source == SOURCE_ARGS else context.tool
        node = find_node(document, &c.path, base)
    if c.op == OP_ABSENT:
        return node == NULL and fact == NULL
    if c.op == OP_PRESENT:
        return fact != NULL or (node != NULL and node.type != TYPE_NO_VALUE)
    if node == NULL and fact == NULL:
        return c.optional
    operand.type = TYPE_NO_VALUE
    if c.fact.n:
        fact_operand = _fact(context, base, &c.fact)
        if fact_operand == NULL:
            return 0
        _from_value(&fact_operand.value, context.facts_base, &operand)
    elif c.count:
        _from_value(&c.values[0], base, &operand)
    if c.op == OP_SUBSET_OF:
        if node == NULL or node.type != TYPE_LIST or not spend(context, node.count, c.count):
            return 0
        nodes = document.nodes
        i = <uint32_t> (node - nodes) + 1
        while i < node.next:
            _from_node(nodes + i, &hand)
            if not _equals_any(c, base, &hand):
                return 0
            i = nodes[i].next
        return 1
    if c.each:
        if node == NULL or node.type != TYPE_LIST or not spend(context, node.count, c.count):
            return 0
        nodes = document.nodes
        i = <uint32_t> (node - nodes) + 1
        while i < node.next:
            if not _one(c, base, nodes + i, NULL, context, &operand):
                return 0
            i = nodes[i].next
        return 1
    return _one(c, base, node, fact, context, &operand)


cdef bint _one(
    const Condition *c, bytes_t base, const JsonNode *node, const Fact *fact, Context *context, const Operand *operand
) noexcept nogil:
    """Apply the accessor to one value, then compare."""
    cdef Operand hand
    if fact != NULL:
        _from_value(&fact.value, context.facts_base, &hand)
    else:
        _from_node(node, &hand)
    if c.accessor == ACCESSOR_COUNT:
        if hand.type != TYPE_LIST:
            return 0
        hand.type = TYPE_NUMBER
        hand.units = node.count
        hand.nanos = 0
    elif c.accessor != ACCESSOR_NONE and not _url_part(c.accessor, context, &hand):
        return 0
    # Each of the patterns may walk the whole text.
    if c.op == OP_GLOB and hand.type == TYPE_TEXT and not spend(context, hand.n // BYTES_A_STEP, c.count):
        return 0
    return _compare(c, base, &hand, operand)


cdef bint _url_part(int accessor, Context *context, Operand *hand) noexcept nogil:
    cdef Url url
    cdef bytes_t part
    cdef size_t n, i
    if hand.type != TYPE_TEXT or not spend(context, hand.n // BYTES_A_STEP, 1):
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
    if n > sizeof(hand.lower):
        return 0
    for i in range(n):
        hand.lower[i] = part[i] | 0x20 if 0x41 <= part[i] <= 0x5A else part[i]
    hand.text = hand.lower
    hand.n = n
    return 1


cdef inline bint _equal(const Operand *a, const Operand *b) noexcept nogil:
    if a.type != b.type:
        return 0
    if a.type == TYPE_TEXT:
        return a.n == b.n and same(a.text, b.text, a.n)
    if a.type == TYPE_NUMBER:
        return a.units == b.units and a.nanos == b.nanos
    return a.type == TYPE_TRUTH and a.truth == b.truth


cdef inline bint _equals_any(const Condition *c, bytes_t base, const Operand *hand) noexcept nogil:
    cdef int64_t units = <int64_t> hand.n if hand.type == TYPE_TEXT else hand.units
    return equals_any(c, base, hand.type, hand.truth, hand.text, units, hand.nanos)


cdef int _order(const Operand *a, const Operand *b) noexcept nogil:
    cdef int common
    if a.type == TYPE_NUMBER:
        return number_order(a.units, a.nanos, b.units, b.nanos)
    common = memcmp(a.text, b.text, a.n if a.n < b.n else b.n)
    if common:
        return -1 if common < 0 else 1
    return (a.n > b.n) - (a.n < b.n)


cdef bint _compare(const Condition *c, bytes_t base, const Operand *hand, const Operand *operand) noexcept nogil:
    cdef int i
    cdef Operand other
    if c.op == OP_EQUAL:
        return _equal(hand, operand)
    if c.op == OP_NOT_EQUAL:
        return hand.type == operand.type and TYPE_TEXT <= hand.type <= TYPE_TRUTH and not _equal(hand, operand)
    if c.op == OP_IN:
        return _equals_any(c, base, hand)
    if c.op == OP_NOT_IN:
        return hand.type == c.values[0].type and not _equals_any(c, base, hand)
    if OP_LESS <= c.op <= OP_GREATER_EQUAL:
        if hand.type != operand.type or (hand.type != TYPE_TEXT and hand.type != TYPE_NUMBER):
            return 0
        return order_is(c.op, _order(hand, operand))
    if hand.type != TYPE_TEXT:
        return 0
    if c.fact.n:
        return _text_relation(c.op, hand, operand)
    for i in range(c.count):
        _from_value(&c.values[i], base, &other)
        if _text_relation(c.op, hand, &other):
            return 1
    return 0


cdef bint _text_relation(int op, const Operand *hand, const Operand *operand) noexcept nogil:
    cdef Address address, network
    cdef int length
    if operand.type != TYPE_TEXT:
        return 0
    if op == OP_STARTS_WITH:
        return hand.n >= operand.n and same(hand.text, operand.text, operand.n)
    if op == OP_GLOB:
        return glob_matches(operand.text, operand.n, hand.text, hand.n)
    if op == OP_UNDER:
        return is_under(hand.text, hand.n, operand.text, operand.n)
    if op == OP_CIDR:
        return (
            parse_address(hand.text, hand.n, &address)
            and parse_cidr(operand.text, operand.n, &network, &length)
            and in_cidr(&address, &network, length)
        )
    return 0

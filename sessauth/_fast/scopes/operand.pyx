"""Comparison of scalar values (docs/token-format.md, sections 6.6 to 6.9). No function allocates or needs the GIL."""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp


cdef void from_node(const JsonNode *node, Operand *out) noexcept nogil:
    out.type = node.type
    out.truth = node.truth
    out.text = node.text
    out.n = <size_t> node.units if node.type == TYPE_TEXT else 0
    out.units = node.units
    out.nanos = node.nanos
    if node.type == TYPE_DECIMAL:
        decimal_of_node(node, &out.exact)


cdef void from_value(const Value *value, bytes_t base, Operand *out) noexcept nogil:
    out.type = value.type
    out.truth = value.truth
    out.text = base + value.text.at
    out.n = value.text.n
    out.units = value.units
    out.nanos = value.nanos
    if value.type == TYPE_DECIMAL:
        read_decimal(out.text, out.n, &out.exact)


cdef bint _equal_operands(const Operand *a, const Operand *b) noexcept nogil:
    # A DECIMAL is never equal to a NUMBER: what a Number can hold is one.
    if a.type != b.type:
        return 0
    if a.type == TYPE_TEXT:
        return a.n == b.n and same(a.text, b.text, a.n)
    if a.type == TYPE_NUMBER:
        return a.units == b.units and a.nanos == b.nanos
    if a.type == TYPE_DECIMAL:
        return decimal_order(&a.exact, &b.exact) == 0
    return a.type == TYPE_TRUTH and a.truth == b.truth


cdef bint _equals_any(const Condition *c, bytes_t base, const Operand *hand) noexcept nogil:
    cdef int64_t units = <int64_t> hand.n if hand.type == TYPE_TEXT else hand.units
    cdef unsigned char form[MAX_DECIMAL_BYTES]
    cdef const Value *value
    cdef size_t n
    cdef int i
    if hand.type != TYPE_DECIMAL:
        return equals_any(c, base, hand.type, hand.truth, hand.text, units, hand.nanos)
    # Values are canonical, so equal numbers have equal bytes. No element of a list reads all the values again.
    n = put_decimal(form, &hand.exact)
    for i in range(c.count):
        value = &c.values[i]
        if value.type == TYPE_DECIMAL and value.text.n == n and same(base + value.text.at, form, n):
            return 1
    return 0


cdef inline uint8_t _kind(const Operand *operand) noexcept nogil:
    """Return the type that comparisons know."""
    return TYPE_NUMBER if operand.type == TYPE_DECIMAL else operand.type


cdef const Decimal *_exact(const Operand *operand, unsigned char *digits, Decimal *room) noexcept nogil:
    if operand.type == TYPE_DECIMAL:
        return &operand.exact
    decimal_of_number(operand.units, operand.nanos, digits, room)
    return room


cdef int _order(const Operand *a, const Operand *b) noexcept nogil:
    cdef unsigned char digits[2][NUMBER_DIGITS]
    cdef Decimal exact[2]
    cdef int common
    if a.type == TYPE_NUMBER and b.type == TYPE_NUMBER:
        return number_order(a.units, a.nanos, b.units, b.nanos)
    if a.type != TYPE_TEXT:
        return decimal_order(_exact(a, digits[0], &exact[0]), _exact(b, digits[1], &exact[1]))
    common = memcmp(a.text, b.text, a.n if a.n < b.n else b.n)
    if common:
        return -1 if common < 0 else 1
    return (a.n > b.n) - (a.n < b.n)


cdef bint order_holds(const Condition *c, const JsonNode *node) noexcept nogil:
    cdef Operand hand, operand
    if node.type != TYPE_DECIMAL:
        return 0
    from_node(node, &hand)
    operand.type = TYPE_NUMBER
    operand.units = c.values[0].units
    operand.nanos = c.values[0].nanos
    return order_is(c.op, _order(&hand, &operand))


# 1 if the condition's relation holds for a value. `operand`: its fact or first value.
cdef bint compare(const Condition *c, bytes_t base, const Operand *hand, const Operand *operand) noexcept nogil:
    cdef int i
    cdef Operand other
    if c.op == OP_EQUAL:
        return _equal_operands(hand, operand)
    if c.op == OP_NOT_EQUAL:
        return _kind(hand) == _kind(operand) and TYPE_TEXT <= _kind(hand) <= TYPE_TRUTH and not _equal_operands(hand, operand)
    if c.op == OP_IN or c.op == OP_SUBSET_OF:
        return _equals_any(c, base, hand)
    if c.op == OP_NOT_IN:
        return _kind(hand) == kind_of(&c.values[0]) and not _equals_any(c, base, hand)
    if OP_LESS <= c.op <= OP_GREATER_EQUAL:
        if _kind(hand) != _kind(operand) or (hand.type != TYPE_TEXT and _kind(hand) != TYPE_NUMBER):
            return 0
        return order_is(c.op, _order(hand, operand))
    if hand.type != TYPE_TEXT:
        return 0
    if c.fact.n:
        return _text_relation(c.op, hand, operand)
    for i in range(c.count):
        from_value(&c.values[i], base, &other)
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

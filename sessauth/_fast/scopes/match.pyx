"""Evaluation of conditions and matching of scopes (docs/token-format.md, sections 5, 6 and 9.8).

No other file does either. From bottom to top: comparison of values, evaluation of a condition, matching of scopes.
Counted steps bound the work (section 9.8). Only the name of a left-over argument needs the GIL. Only that and the
equality form of an object or a list allocate.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memchr, memcmp, memcpy


# Comparison of scalar values (docs/token-format.md, sections 6.6 to 6.9).

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
    # A DECIMAL is never equal to a NUMBER: each value that NUMBER can hold is a NUMBER.
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
    cdef uint8_t op
    cdef bint excludes
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
    op = compared_by(c)
    excludes = op != c.op
    if excludes and not _has_one_meaning(op, hand):
        return 0
    if c.fact.n:
        if excludes and (operand.type != TYPE_TEXT or not _has_one_meaning(op, operand)):
            return 0
        return _text_relation(op, hand, operand) != excludes
    for i in range(c.count):
        from_value(&c.values[i], base, &other)
        if _text_relation(op, hand, &other):
            return not excludes
    return excludes


cdef bint _has_one_meaning(int op, const Operand *text) noexcept nogil:
    """Return 1 for a text of which it can be said that it lies outside: a clean path, an address, no `..` to resolve."""
    cdef Address address
    if op == OP_UNDER:
        return is_clean_path(text.text, text.n)
    if op == OP_CIDR:
        return parse_address(text.text, text.n, &address)
    return op != OP_GLOB or not has_dot_segment(text.text, text.n)


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


# Evaluation of conditions (docs/token-format.md, sections 6.2 to 6.9).

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
    """Evaluate a condition without a value at its path."""
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
    """Evaluate a condition at the places below a node that the last segments of its path lead to, until one decides."""
    cdef const JsonNode *nodes = context.arguments.nodes
    cdef const JsonNode *member
    cdef uint32_t at, i
    cdef int depth = context.depth
    cdef bint enough = c.quantifier == QUANTIFIER_ANY
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
            if _at_places(c, base, nodes + at, segment, segments - 1, context, operand) == enough:
                return enough
            if context.overworked:
                return 0
            at = nodes[at].next
        context.depth = depth
        return not enough
    if node.type != TYPE_OBJECT:
        return _of_nothing(c)
    # The name follows a `.`.
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
    if _is_missing(c, operand) or c.quantifier or c.op == OP_SUBSET_OF:
        return 0
    from_value(&fact.value, context.facts_base, &hand)
    return _one(c, base, &hand, 0, context, operand)


cdef bint _of_node(
    const Condition *c, bytes_t base, const JsonNode *nodes, const JsonNode *node, Context *context, const Operand *operand
) noexcept nogil:
    """Evaluate a condition for the value at its path, or for elements of it."""
    cdef bint enough = c.quantifier == QUANTIFIER_ANY
    cdef uint32_t i
    if c.op == OP_ABSENT:
        return 0
    if c.op == OP_PRESENT:
        return node.type != TYPE_NO_VALUE
    if _is_missing(c, operand):
        return 0
    # At a place of an ELEMENTS path, `any` is of the places.
    if c.path.source == SOURCE_ELEMENTS and enough or not c.quantifier and c.op != OP_SUBSET_OF:
        return _of_value(c, base, nodes, node, context, operand)
    if node.type != TYPE_LIST or not spend(context, node.count, c.count):
        return 0
    i = <uint32_t> (node - nodes) + 1
    while i < node.next:
        if _of_value(c, base, nodes, nodes + i, context, operand) == enough:
            return enough
        if context.overworked:
            return 0
        i = nodes[i].next
    return not enough


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
    cdef uint8_t op
    if c.accessor == ACCESSOR_COUNT:
        if hand.type != TYPE_LIST:
            return 0
        hand.type = TYPE_NUMBER
        hand.units = elements
        hand.nanos = 0
    elif c.accessor != ACCESSOR_NONE and not _part(c.accessor, context, hand):
        return 0
    if hand.type == TYPE_TEXT:
        op = compared_by(c)
        # Each of the patterns or paths may walk the whole text, and each network has it read.
        if op == OP_GLOB or op == OP_UNDER:
            if not spend(context, 1 + <uint32_t> hand.n // WALKED_BYTES_A_STEP, c.count):
                return 0
        elif op == OP_CIDR and not spend(context, CIDR_STEPS, c.count):
            return 0
    elif (hand.type == TYPE_DECIMAL or operand.type == TYPE_DECIMAL) and not spend(context, DECIMAL_STEPS, 1):
        return 0
    return compare(c, base, hand, operand)


cdef bytes_t ROOT_PATH = <bytes_t> "/"


cdef bint _part(int accessor, Context *context, Operand *hand) noexcept nogil:
    """Replace a text by the part of it that an accessor gives. 0: it has none."""
    cdef Url url
    cdef bytes_t domain
    cdef size_t n
    if hand.type != TYPE_TEXT or not spend(context, PART_STEPS + <uint32_t> hand.n // BYTES_A_STEP, 1):
        return 0
    if accessor == ACCESSOR_LENGTH:
        _become_number(hand, _characters(hand.text, hand.n))
        return 1
    if accessor == ACCESSOR_DOMAIN:
        if not parse_mailbox(hand.text, hand.n, &domain, &n):
            return 0
        _become_lower(hand, domain, n)
        return 1
    if not parse_url(hand.text, hand.n, &url):
        return 0
    if accessor == ACCESSOR_PATH:
        hand.text = url.path if url.path_n else ROOT_PATH
        hand.n = url.path_n if url.path_n else 1
        return is_clean_url_path(hand.text, hand.n)
    if accessor == ACCESSOR_PORT:
        _become_number(hand, url.port)
        return url.port >= 0
    if accessor == ACCESSOR_SCHEME:
        _become_lower(hand, url.scheme, url.scheme_n)
    elif memchr(url.host, 0x3A, url.host_n) == NULL or not _become_mapped(hand, url.host, url.host_n):
        _become_lower(hand, url.host, url.host_n)
    return 1


cdef void _become_number(Operand *hand, int64_t units) noexcept nogil:
    hand.type = TYPE_NUMBER
    hand.units = units
    hand.nanos = 0


cdef void _become_lower(Operand *hand, bytes_t part, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        hand.lower[i] = part[i] | 0x20 if 0x41 <= part[i] <= 0x5A else part[i]
    hand.text = hand.lower
    hand.n = n


cdef bint _become_mapped(Operand *hand, bytes_t part, size_t n) noexcept nogil:
    """Replace a v4-mapped IPv6 address by its IPv4 address. 0 for another address."""
    cdef Address address
    cdef unsigned char *p = hand.lower
    cdef int i
    if not parse_address(part, n, &address) or address.family != 4:
        return 0
    for i in range(4):
        if i:
            p[0] = 0x2E
            p += 1
        p = _put_octet(p, address.octets[i])
    hand.text = hand.lower
    hand.n = p - hand.lower
    return 1


cdef unsigned char *_put_octet(unsigned char *p, unsigned char octet) noexcept nogil:
    if octet >= 100:
        p[0] = 0x30 + octet // 100
        p += 1
    if octet >= 10:
        p[0] = 0x30 + octet // 10 % 10
        p += 1
    p[0] = 0x30 + octet % 10
    return p + 1


cdef int64_t _characters(bytes_t p, size_t n) noexcept nogil:
    """Count the characters of UTF-8: the bytes that continue none."""
    cdef int64_t count = 0
    cdef size_t i
    for i in range(n):
        count += (p[i] & 0xC0) != 0x80
    return count


cdef inline bint _action_matches(const Scope *scope, bytes_t base, TextSlice action) noexcept nogil:
    cdef int i
    cdef const ByteSpan *span
    for i in range(scope.action_count):
        span = &scope.actions[i]
        if span.n == action.n and same(base + span.at, action.p, action.n):
            return 1
    # An action of a request is never `*`.
    return base[scope.actions[0].at] == 0x2A


cdef inline bint _segment_matches(const Segment *segment, bytes_t base, TextSlice part) noexcept nogil:
    cdef int i
    cdef ByteSpan text
    if segment.kind == SEGMENT_ANY:
        return 1
    text = segment.first
    if segment.kind == SEGMENT_PREFIX:
        return part.n >= text.n and same(base + text.at, part.p, text.n)
    if segment.kind != SEGMENT_LITERAL and segment.kind != SEGMENT_ONE_OF:
        return 0
    for i in range(segment.count):
        if i:
            next_text(base, &text)
        if text.n == part.n and same(base + text.at, part.p, part.n):
            return 1
    return 0


cdef inline bint _resource_matches(const Scope *scope, bytes_t base, const Resource *resource) noexcept nogil:
    cdef int i
    cdef int n = scope.segment_count
    if scope.segments[n - 1].kind == SEGMENT_REST:
        n -= 1
        if resource.count < n:
            return 0
    elif resource.count != n:
        return 0
    for i in range(n):
        if not _segment_matches(&scope.segments[i], base, resource.parts[i]):
            return 0
    return 1


cdef Match _match(
    const Scope *scope, bytes_t base, TextSlice action, const Resource *resource, Context *context, MatchResult *out
) noexcept nogil:
    cdef uint64_t marked = 0
    cdef int i
    out.left_count = 0
    if not _action_matches(scope, base, action) or not _resource_matches(scope, base, resource):
        return OUTSIDE
    for i in range(scope.condition_count):
        if not holds(&scope.conditions[i], base, context, &marked):
            out.clause = i
            out.depth = 0
            if scope.conditions[i].path.source == SOURCE_ELEMENTS:
                out.depth = context.depth
                memcpy(out.place, context.place, sizeof(out.place))
            return OVERWORKED if context.overworked else FAILED
    out.clause = -1
    if covers(scope, base, context, marked, out):
        return MATCHED
    return OVERWORKED if context.overworked else FAILED


cdef inline bint _is_nearer(const MatchResult *a, const MatchResult *b) noexcept nogil:
    """Return 1 if more conditions of a held before one failed; all of them where an argument is left over."""
    return b.clause >= 0 and (a.clause < 0 or a.clause > b.clause)


cdef void _match_any(
    const ScopeList *scopes, TextSlice action, const Resource *resource, Context *context, MatchResult *out
) noexcept nogil:
    """Match scopes in order. The first match without needs decides, else the first match. Without a match the
    result is the nearest of the scopes whose conditions failed."""
    cdef MatchResult trial
    cdef const Scope *scope = scopes.scopes
    cdef int i
    out.match = OUTSIDE
    out.scope = -1
    out.clause = -1
    out.left_count = 0
    for i in range(scopes.count):
        # Most scopes are for other resources. Comparing marks rules them out.
        if scope.literals <= resource.count and scope.mark == resource.marks[scope.literals]:
            trial.match = _match(scope, scopes.base, action, resource, context, &trial)
            trial.scope = i
            if trial.match == MATCHED and scope.needs == NO_NEEDS:
                out.match = MATCHED
                out.scope = i
                out.clause = -1
                out.left_count = 0
                return
            if trial.match == OVERWORKED:
                out[0] = trial
                return
            if trial.match == MATCHED:
                if out.match != MATCHED:
                    out[0] = trial
            elif trial.match == FAILED and (out.match == OUTSIDE or (out.match == FAILED and _is_nearer(&trial, out))):
                out[0] = trial
        scope += 1


cdef void _match_exceptions(
    const ScopeList *scopes, TextSlice action, const Resource *resource, Context *context, MatchResult *out
) noexcept nogil:
    """Find the first exception that a call is not known to be outside of. Its negated conditions tell."""
    cdef const Scope *exception
    cdef uint64_t marked = 0
    cdef bint outside
    cdef int i, k
    for i in range(scopes.count, scopes.count + scopes.exceptions):
        exception = &scopes.scopes[i]
        # A segment of an unknown kind may match any.
        outside = exception.unknown != UNKNOWN_OUTSIDE_CONDITIONS and not (
            _action_matches(exception, scopes.base, action) and _resource_matches(exception, scopes.base, resource)
        )
        for k in range(0 if outside else exception.condition_count):
            outside = holds(&exception.conditions[k], scopes.base, context, &marked)
            if outside or context.overworked:
                break
        if not outside:
            out.match = OVERWORKED if context.overworked else EXCEPTED
            out.scope = i
            out.clause = k if context.overworked else -1
            out.left_count = 0
            out.depth = 0
            return


cdef void match_scopes(
    const ScopeList *scopes, TextSlice action, const Resource *resource, Context *context, MatchResult *out
) noexcept nogil:
    """Match the scopes of a list, then its exceptions. A list of exceptions alone permits all else."""
    _match_any(scopes, action, resource, context, out)
    if scopes.exceptions:
        if not scopes.count:
            out.match = MATCHED
        if out.match == MATCHED:
            _match_exceptions(scopes, action, resource, context, out)


cdef int mentions_elements(const Path *path, bytes_t base, const TextSlice *names, int count) noexcept nogil:
    cdef ByteSpan segment = path.first
    cdef int i
    if path.source != SOURCE_ELEMENTS or path.count < count:
        return 0
    for i in range(count):
        if i:
            next_text(base, &segment)
        if is_each_element(base, &segment):
            if names[i].p != NULL:
                return 0
        elif names[i].p == NULL or segment.n != names[i].n + 1 or not same(base + segment.at + 1, names[i].p, names[i].n):
            return 0
    if path.count == count:
        return 2
    next_text(base, &segment)
    return 4 if is_each_element(base, &segment) else 1


cdef bint covered_elements(
    const Scope *scope, bytes_t base, Context *context, int paths, uint32_t index, int depth, MatchResult *out
) noexcept nogil:
    cdef const JsonNode *nodes = context.arguments.nodes
    cdef bint is_list = nodes[index].type == TYPE_LIST
    cdef uint32_t at = index + 1
    cdef uint32_t i
    cdef int k, best
    if not spend(context, nodes[index].count, paths):
        return 0
    for i in range(nodes[index].count):
        out.left[depth].p = NULL
        out.left[depth].n = i
        if not is_list:
            out.left[depth].p = nodes[at].name
            out.left[depth].n = nodes[at].name_n
        best = 0
        # No path of ARGS leads below a list.
        for k in range(scope.condition_count):
            best |= mentions_elements(&scope.conditions[k].path, base, out.left, depth + 1)
        for k in range(scope.free_count):
            best |= mentions_elements(&scope.free[k], base, out.left, depth + 1)
        if not best & 2:
            if not best & (4 if nodes[at].type == TYPE_LIST else 1) or not (
                nodes[at].type == TYPE_LIST or nodes[at].type == TYPE_OBJECT
            ):
                out.left_count = depth + 1
                return 0
            if not covered_elements(scope, base, context, paths, at, depth + 1, out):
                return 0
        at = nodes[at].next
    return 1


cdef str left_text(const MatchResult *verdict):
    """Return the path of the left-over argument as text."""
    cdef str text = ""
    cdef int i
    for i in range(verdict.left_count):
        if verdict.left[i].p == NULL:
            text += f"[{verdict.left[i].n}]"
        else:
            text += "." * (i > 0) + verdict.left[i].p[: verdict.left[i].n].decode("utf-8")
    return text

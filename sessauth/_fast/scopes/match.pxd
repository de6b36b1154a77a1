"""Evaluation of conditions, and matching of scopes against a request (docs/token-format.md, sections 6 and 9.8).

Every warm check compares a few plain values, so lookups by path, comparisons of plain values and the most common shapes
of conditions are inline. So is the closed world for arguments (section 6.5): every check of a closed scope ends there,
and a call would cost a tenth of a warm check.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t


# Lookup of JSON values by path (docs/token-format.md, section 6.3).

cdef inline const JsonNode *find_member(const JsonNode *nodes, const JsonNode *of, bytes_t name, size_t n) noexcept nogil:
    """Return an object's member by exact name, or NULL. ``nodes`` are those of its document."""
    cdef uint32_t i = <uint32_t> (of - nodes) + 1
    cdef uint32_t end = of.next
    while i < end:
        if nodes[i].name_n == n and same(nodes[i].name, name, n):
            return nodes + i
        i = nodes[i].next
    return NULL

cdef inline const JsonNode *find_node(const Document *document, const Path *path, bytes_t base) noexcept nogil:
    """Return the node at a path, or NULL. A path descends by exact names, through objects only."""
    cdef const JsonNode *node = document.nodes
    cdef ByteSpan segment = path.first
    cdef int depth
    for depth in range(path.count):
        if node.type != TYPE_OBJECT:
            return NULL
        if depth:
            next_text(base, &segment)
        node = find_member(document.nodes, node, base + segment.at, segment.n)
        if node == NULL:
            return NULL
    return node


# Comparison of scalar values (docs/token-format.md, section 6.6).

# An operand: from the request, a fact, a token, or the result of an accessor.
cdef struct Operand:
    uint8_t type
    bint truth
    bytes_t text
    size_t n
    int64_t units
    uint32_t nanos
    Decimal exact           # DECIMAL
    unsigned char lower[MAX_SCHEME_CHARS]   # a host and a domain are shorter

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


# Evaluation of conditions (docs/token-format.md, sections 6.2 to 6.9).

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

# Weights of work (section 9.8): the steps that comparing one value takes, beside those for the bytes of a text.
cdef enum:
    BYTES_A_STEP = 16
    # For a text that a pattern or a path walks.
    WALKED_BYTES_A_STEP = 8
    VALUES_A_STEP = 2
    # For an accessor that reads a text.
    PART_STEPS = 4
    CIDR_STEPS = 8
    DECIMAL_STEPS = 4
    FORM_STEPS = 3
    DIGEST_STEPS = 16
    # A hashed byte counts as this many other bytes.
    HASHED = 4

# Start the counter: the smaller the arguments, the less work may follow.
cdef void begin_work(Context *context, size_t argument_bytes) noexcept nogil

# Count n × max(1, times) steps of work. 0: the check is over its limit.
cdef bint spend(Context *context, uint32_t n, uint32_t times) noexcept nogil

cdef inline bint _spend_on_lookup(Context *context, const Document *document) noexcept nogil:
    """Count the lookup of a path, which may pass by all values of its document."""
    return document.used < VALUES_A_STEP or spend(context, document.used // VALUES_A_STEP, 1)

# 1 if a condition's JSON values include one that is given by its digest.
cdef bint has_digest(const Condition *c) noexcept nogil
# `holds` for conditions of every shape.
cdef bint holds_of_any_shape(const Condition *c, bytes_t base, Context *context) noexcept nogil

cdef inline bint holds(const Condition *c, bytes_t base, Context *context, uint64_t *marked) noexcept nogil:
    """Evaluate a condition. False also when the work runs out; then the context is `overworked`.

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


cdef enum Match:
    MATCHED = 0
    OUTSIDE = 1         # of every scope's actions or resources
    FAILED = 2          # a condition, or an argument left over
    OVERWORKED = 3
    EXCEPTED = 4        # an exception of the list

# The result of matching a list of scopes. For FAILED and OVERWORKED, clause -1 means section 6.5. For EXCEPTED, `scope` is
# the exception.
cdef struct MatchResult:
    Match match
    int scope
    int clause
    int left_count
    # A slice without bytes is an element of a list: its length is the index.
    TextSlice left[MAX_PATH_SEGMENTS + 1]
    # FAILED: where a condition of ELEMENTS failed, as in Context.
    uint32_t place[MAX_PATH_SEGMENTS]
    int depth

cdef void match_scopes(
    const ScopeList *scopes, TextSlice action, const Resource *resource, Context *context, MatchResult *out
) noexcept nogil
cdef str left_text(const MatchResult *verdict)
# `mentions` for paths of other sources than ARGS, and below lists.
cdef int mentions_elements(const Path *path, bytes_t base, const TextSlice *names, int count) noexcept nogil
# `covered` for a list with some of its elements mentioned, and for all below it.
cdef bint covered_elements(
    const Scope *scope, bytes_t base, Context *context, int paths, uint32_t index, int depth, MatchResult *out
) noexcept nogil

cdef inline int mentions(const Path *path, bytes_t base, const TextSlice *names, int count) noexcept nogil:
    """Compare a path with names.

    2: equal; 1: the names are a proper prefix of the path; 4: likewise, and its next segment is `[]`; 0: none of these.
    """
    cdef ByteSpan segment = path.first
    cdef int i
    if path.source != SOURCE_ARGS:
        return mentions_elements(path, base, names, count)
    if path.count < count:
        return 0
    for i in range(count):
        if i:
            next_text(base, &segment)
        if segment.n != names[i].n or not same(base + segment.at, names[i].p, names[i].n):
            return 0
    return 2 if path.count == count else 1

cdef inline bint covered(
    const Scope *scope,
    bytes_t base,
    Context *context,
    int paths,
    uint64_t marked,
    uint32_t index,
    int depth,
    MatchResult *out,
) noexcept nogil:
    cdef const JsonNode *nodes = context.arguments.nodes
    cdef uint32_t i = index + 1
    cdef int k, best
    if not spend(context, nodes[index].count, paths):
        return 0
    while i < nodes[index].next:
        if i < 64 and (marked >> i) & 1:
            i = nodes[i].next
            continue
        out.left[depth].p = nodes[i].name
        out.left[depth].n = nodes[i].name_n
        best = 0
        for k in range(scope.condition_count):
            best |= mentions(&scope.conditions[k].path, base, out.left, depth + 1)
        for k in range(scope.free_count):
            best |= mentions(&scope.free[k], base, out.left, depth + 1)
        if not best & 2:
            if best & 1 and nodes[i].type == TYPE_OBJECT:
                if not covered(scope, base, context, paths, marked, i, depth + 1, out):
                    return 0
            elif best & 4 and nodes[i].type == TYPE_LIST:
                if not covered_elements(scope, base, context, paths, i, depth + 1, out):
                    return 0
            else:
                out.left_count = depth + 1
                return 0
        i = nodes[i].next
    return 1

# The number of argument paths in a closed scope (section 6.5); -1: the scope admits any argument.
cdef inline int closed_paths(const Scope *scope) noexcept nogil:
    cdef int paths = scope.free_count
    cdef int i
    if scope.free_all or not (scope.condition_count or scope.free_count):
        return -1
    for i in range(scope.condition_count):
        paths += is_argument(&scope.conditions[i].path)
    return paths

# 1 if the scope names all arguments of the call. `marked`: the arguments that `holds` marked for this scope's
# conditions, or 0. 0 also when the work runs out; then the context is `overworked`.
cdef inline bint covers(
    const Scope *scope, bytes_t base, Context *context, uint64_t marked, MatchResult *out
) noexcept nogil:
    cdef int paths = closed_paths(scope)
    return paths < 0 or covered(scope, base, context, paths, marked, 0, 0, out)

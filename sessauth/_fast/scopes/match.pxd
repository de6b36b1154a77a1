"""Matching of scopes against a request (docs/token-format.md, sections 6.5 and 9.8).

The closed world for arguments (section 6.5) is inline: every check of a closed scope ends there, and a call would cost
a tenth of a warm check.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum Match:
    MATCHED = 0
    OUTSIDE = 1         # of every scope's actions or resources
    FAILED = 2          # a condition, or an argument left over
    OVERWORKED = 3

# The result of matching a list of scopes. For FAILED and OVERWORKED, clause -1 means section 6.5.
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
# `covered` for a list of whose elements some are mentioned, and for all below it.
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
# conditions, or 0. 0 also when the work ran out; then the context is `overworked`.
cdef inline bint covers(
    const Scope *scope, bytes_t base, Context *context, uint64_t marked, MatchResult *out
) noexcept nogil:
    cdef int paths = closed_paths(scope)
    return paths < 0 or covered(scope, base, context, paths, marked, 0, 0, out)

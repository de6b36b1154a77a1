"""Matching of scopes (docs/token-format.md, sections 5, 6.5 and 9.8).

No other module matches scopes against requests. Only the name of a left-over argument allocates or needs the GIL.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


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


cdef void match_scopes(
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

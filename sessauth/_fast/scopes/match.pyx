"""Matching of scopes (docs/token-format.md, sections 5, 6.5 and 9.8).

No other module matches scopes against requests. Only the name of a left-over argument allocates or needs the GIL.
"""

from libc.stdint cimport uint64_t

from sessauth._fast.base.text cimport bytes_t, same
from sessauth._fast.call.resource cimport TextSlice, Resource
from sessauth._fast.scopes.evaluate cimport Context, holds
from sessauth._fast.token.condition cimport ByteSpan, next_text
from sessauth._fast.token.scope cimport (
    NO_NEEDS,
    SEGMENT_ANY,
    SEGMENT_LITERAL,
    SEGMENT_ONE_OF,
    SEGMENT_PREFIX,
    SEGMENT_REST,
    Scope,
    ScopeList,
    Segment,
)


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
            return OVERWORKED if context.overworked else FAILED
    out.clause = -1
    if covers(scope, base, context, marked, out):
        return MATCHED
    return OVERWORKED if context.overworked else FAILED


cdef void match_scopes(
    const ScopeList *scopes, TextSlice action, const Resource *resource, Context *context, MatchResult *out
) noexcept nogil:
    """Match scopes in order. The first match without needs decides, else the first match. Without a match the
    result is the first scope whose conditions failed."""
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
            elif trial.match == FAILED and out.match == OUTSIDE:
                out[0] = trial
        scope += 1


cdef str left_text(const MatchResult *verdict):
    """Return the path of the left-over argument as text."""
    cdef int i
    return ".".join([verdict.left[i].p[: verdict.left[i].n].decode("utf-8") for i in range(verdict.left_count)])

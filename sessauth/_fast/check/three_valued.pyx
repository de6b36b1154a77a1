"""What can be told of scopes when not all that they ask about is known: yes, no or maybe.

A survey knows no arguments (docs/token-format.md, section 9.12). Who decides again from a log may know neither these
nor what the gateway said of its tool. What a scope matches and a condition means is asked of ``match`` and
``evaluate``.
"""

from libc.stdint cimport uint64_t

from sessauth._fast.base.limits cimport MAX_JSON_BYTES, MAX_JSON_VALUES
from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.scopes.evaluate cimport holds
from sessauth._fast.scopes.match cimport MATCHED, MatchResult, closed_paths, covers, match_scopes
from sessauth._fast.token.condition cimport ACCESSOR_HOST, ACCESSOR_PORT, ACCESSOR_SCHEME, OP_GLOB, OP_SUBSET_OF
from sessauth._fast.token.condition cimport SOURCE_ARGS, SOURCE_TOOL, Condition, is_unknown
from sessauth._fast.token.scope cimport NO_NEEDS, Scope, ScopeList

cdef enum:
    # Of a text that a glob or URL is looked for in: one step of work.
    BYTES_A_STEP = 16


cdef int of_scopes(const ScopeList *scopes, bint pays, PartialCall *sight) noexcept nogil:
    cdef int out = NO
    cdef int i, one
    for i in range(scopes.count):
        one = of_scope(&scopes.scopes[i], scopes.base, sight)
        if one == YES and pays and scopes.scopes[i].needs != NO_NEEDS:
            one = MAYBE
        if one == YES:
            return YES
        if one == MAYBE:
            out = MAYBE
    return out


cdef bint meets(const Scope *scope, bytes_t base, PartialCall *sight) noexcept nogil:
    cdef Scope outline = scope[0]
    cdef ScopeList alone
    cdef MatchResult verdict
    # Its actions and resource alone, as the matcher sees them.
    outline.condition_count = 0
    outline.free_count = 0
    outline.needs = NO_NEEDS
    if outline.action_count == 1:
        outline.actions = &outline.only_action
    alone.scopes = &outline
    alone.count = 1
    alone.base = base
    match_scopes(&alone, sight.action, sight.resource, &sight.context, &verdict)
    return verdict.match == MATCHED


cdef int of_scope(const Scope *scope, bytes_t base, PartialCall *sight) noexcept nogil:
    cdef MatchResult left
    cdef int paths = closed_paths(scope)
    cdef int out = YES
    cdef int i
    if not meets(scope, base, sight):
        return NO
    for i in range(scope.condition_count):
        out = both(out, of_condition(&scope.conditions[i], base, sight))
    if paths < 0:
        return out
    if not sight.knows_arguments:
        sight.worst += MAX_JSON_VALUES * <uint64_t> (paths if paths else 1)
        return both(out, MAYBE)
    if out == NO or covers(scope, base, &sight.context, 0, &left):
        return out
    return MAYBE if sight.context.overworked else NO


cdef int of_condition(const Condition *c, bytes_t base, PartialCall *sight) noexcept nogil:
    cdef uint64_t values = c.count if c.count else 1
    cdef bint known = sight.knows_facts
    cdef uint64_t named = 0
    if is_unknown(c):
        return NO
    if c.path.source == SOURCE_ARGS:
        known = sight.knows_arguments
    elif c.path.source == SOURCE_TOOL:
        known = sight.knows_tool
    if known and (sight.knows_facts or not c.fact.n):
        if holds(c, base, &sight.context, &named):
            return YES
        return MAYBE if sight.context.overworked else NO
    if c.each or c.op == OP_SUBSET_OF:
        sight.worst += MAX_JSON_VALUES * values
    if c.op == OP_GLOB:
        sight.worst += (MAX_JSON_BYTES // BYTES_A_STEP) * values
    if c.accessor == ACCESSOR_HOST or c.accessor == ACCESSOR_SCHEME or c.accessor == ACCESSOR_PORT:
        sight.worst += MAX_JSON_BYTES // BYTES_A_STEP
    return MAYBE

"""Three-valued evaluation of scopes for partially known calls: yes, no or maybe.

A survey knows no arguments (docs/token-format.md, section 9.12). A replay of a log may know neither arguments nor the
gateway's facts about the tool. ``match`` and ``evaluate`` decide on scopes and conditions.
"""

from libc.stdint cimport uint64_t


cdef int eval_scopes3(const ScopeList *scopes, bint needs_are_maybe, PartialCall *call) noexcept nogil:
    cdef int out = NO
    cdef int i, one
    for i in range(scopes.count):
        one = eval_scope3(&scopes.scopes[i], scopes.base, call)
        if one == YES and needs_are_maybe and scopes.scopes[i].needs != NO_NEEDS:
            one = MAYBE
        if one == YES:
            return YES
        if one == MAYBE:
            out = MAYBE
    return out


cdef bint pattern_matches(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil:
    cdef Scope outline = scope[0]
    cdef ScopeList alone
    cdef MatchResult verdict
    # A scope of the actions and the resource alone, for the matcher.
    outline.condition_count = 0
    outline.free_count = 0
    outline.needs = NO_NEEDS
    if outline.action_count == 1:
        outline.actions = &outline.only_action
    alone.scopes = &outline
    alone.count = 1
    alone.base = base
    match_scopes(&alone, call.action, call.resource, &call.context, &verdict)
    return verdict.match == MATCHED


cdef int eval_scope3(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil:
    cdef MatchResult left
    cdef int paths = closed_paths(scope)
    cdef int out = YES
    cdef int i
    if not pattern_matches(scope, base, call):
        return NO
    for i in range(scope.condition_count):
        out = and3(out, eval_condition3(&scope.conditions[i], base, call))
    if paths < 0:
        return out
    if not call.knows_arguments:
        call.worst_case_work += MAX_JSON_VALUES * <uint64_t> (paths if paths else 1)
        return and3(out, MAYBE)
    if out == NO or covers(scope, base, &call.context, 0, &left):
        return out
    return MAYBE if call.context.overworked else NO


cdef int eval_condition3(const Condition *c, bytes_t base, PartialCall *call) noexcept nogil:
    cdef uint64_t values = c.count if c.count else 1
    cdef bint known = call.knows_facts
    cdef uint64_t marked = 0
    if is_unknown(c):
        return NO
    if is_argument(&c.path):
        known = call.knows_arguments
    elif c.path.source == SOURCE_TOOL:
        known = call.knows_tool
    if known and (call.knows_facts or not c.fact.n):
        if holds(c, base, &call.context, &marked):
            return YES
        return MAYBE if call.context.overworked else NO
    if c.each or c.op == OP_SUBSET_OF or c.path.source == SOURCE_ELEMENTS:
        call.worst_case_work += MAX_JSON_VALUES * values
    if is_json(c):
        # A number's canonical decimal may take a step more than its text: 1e20 has 21 digits.
        call.worst_case_work += 2 * MAX_JSON_VALUES + MAX_JSON_BYTES // BYTES_A_STEP
    if c.op == OP_GLOB:
        call.worst_case_work += (MAX_JSON_BYTES // BYTES_A_STEP) * values
    if c.accessor == ACCESSOR_HOST or c.accessor == ACCESSOR_SCHEME or c.accessor == ACCESSOR_PORT:
        call.worst_case_work += MAX_JSON_BYTES // BYTES_A_STEP
    return MAYBE

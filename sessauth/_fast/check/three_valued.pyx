"""Three-valued evaluation of scopes for partially known calls: yes, no or maybe.

A survey knows no arguments (docs/token-format.md, section 9.12). A replay of a log may know neither arguments nor the
gateway's facts about the tool. ``match`` and ``evaluate`` decide on scopes and conditions.
"""

from libc.stdint cimport uint64_t

cdef enum:
    # The steps of all bytes that arguments may have, and the counter's start for arguments of none.
    ALL_BYTES = MAX_JSON_BYTES // BYTES_A_STEP
    WORK_OF_NO_BYTES = 3 * ALL_BYTES


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
        call.work_by_values += MAX_JSON_VALUES * <uint64_t> (paths if paths else 1)
        return and3(out, MAYBE)
    if out == NO or covers(scope, base, &call.context, 0, &left):
        return out
    return MAYBE if call.context.overworked else NO


cdef int eval_condition3(const Condition *c, bytes_t base, PartialCall *call) noexcept nogil:
    cdef uint64_t values = c.count if c.count else 1
    cdef uint64_t compared = 1
    cdef uint64_t hashed
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
    call.work_by_values += MAX_JSON_VALUES // VALUES_A_STEP
    if c.each or c.op == OP_SUBSET_OF or c.path.source == SOURCE_ELEMENTS:
        compared = MAX_JSON_VALUES
        call.work_by_values += compared * values
    if is_json(c):
        hashed = HASHED if has_digest(c) else 1
        call.work_by_values += compared * (FORM_STEPS + DIGEST_STEPS)
        # A number's canonical decimal may take a step more than its text: 1e20 has 21 digits.
        call.work_by_values += (FORM_STEPS + hashed) * MAX_JSON_VALUES
        call.work_by_bytes += ALL_BYTES * hashed
    else:
        call.work_by_values += compared * DECIMAL_STEPS
    if c.op == OP_GLOB or c.op == OP_UNDER:
        call.work_by_values += compared * values
        call.work_by_bytes += MAX_JSON_BYTES // WALKED_BYTES_A_STEP * values
    if c.op == OP_CIDR:
        call.work_by_values += compared * CIDR_STEPS * values
    if c.accessor == ACCESSOR_HOST or c.accessor == ACCESSOR_SCHEME or c.accessor == ACCESSOR_PORT:
        call.work_by_values += compared * URL_STEPS
        call.work_by_bytes += ALL_BYTES
    return MAYBE


cdef bint may_overwork(const PartialCall *call) noexcept nogil:
    cdef uint64_t work = call.context.work + call.work_by_values
    if call.knows_arguments:
        return work + call.work_by_bytes > MAX_WORK
    # Both the counter's start and the sum are linear in the arguments' size, so its two ends decide.
    return WORK_OF_NO_BYTES + work > MAX_WORK or work + call.work_by_bytes > MAX_WORK

"""Three-valued evaluation of the scopes of a logged call.

Walks ceilings and blocks in the order of stage ``scope`` (docs/token-format.md, section 9.8). Each verdict covers all
possible values of the unknown parts. The walk also checks if the record's own position is possible.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from sessauth._fast._check cimport (
    ALLOWED,
    CONDITION_FAILED,
    LEVEL_BLOCK,
    LEVEL_CEILING,
    MALFORMED_REQUEST,
    MAYBE,
    NO,
    NO_NEEDS,
    OUT_OF_SCOPE,
    STAGE_SCOPE,
    YES,
    Block,
    Chain,
    CheckInput,
    CheckOutcome,
    Lineage,
    PartialCall,
    Scope,
    ScopeList,
    Scratch,
    and3,
    begin_work,
    closed_paths,
    deny,
    eval_condition3,
    eval_scope3,
    eval_scopes3,
    may_overwork,
    pattern_matches,
    read_facts_of,
)

# The position that a record states, the known parts of its call, and the consistency of the two.
cdef struct LoggedPosition:
    int reason
    int level
    int index
    int scope
    int clause
    int matched_index
    int matched_scope
    bint knows_arguments
    bint knows_facts
    # The scopes can have refused at the record's position, or admitted by its matched scope.
    bint fits
    bint match_fits
    # Of an allow: the ceilings in observe mode can have refused at its position, or not at all if it has none.
    bint observed_fits
    # A bit a block: a scope with needs can decide.
    uint32_t may_cost


# YES, NO or MAYBE. The outcome has the position of a NO. The request was read into `scratch`.
cdef int evaluate_logged_scopes(
    Chain chain, const Lineage *lineage, const CheckInput *input, const Scratch *scratch,
    LoggedPosition *position, CheckOutcome *outcome
) noexcept nogil:
    cdef PartialCall call
    cdef int out = YES
    cdef int layer = 0
    cdef int i, k
    # Without the state nothing is known of ceilings. A block never refuses an allowed call.
    position.observed_fits = position.level != LEVEL_BLOCK
    memset(&call, 0, sizeof(PartialCall))
    call.context.arguments = &scratch.arguments
    call.context.tool = &scratch.tool
    call.action = input.action
    call.resource = &scratch.resource
    call.knows_arguments = position.knows_arguments
    if call.knows_arguments:
        begin_work(&call.context, input.arguments.n)
    call.knows_facts = position.knows_facts
    for k in range(lineage.count):
        read_facts_of(lineage.rules[k], &call.context)
        for i in range(lineage.rules[k].layer_count):
            if lineage.rules[k].observe:
                _look_at_observed(&lineage.rules[k].layers[i], layer, &call, position)
            else:
                out = and3(out, _eval_list(&lineage.rules[k].layers[i], LEVEL_CEILING, layer, &call, position, outcome))
                if out == NO:
                    return NO
                # An enforced layer refuses no allowed call.
                position.observed_fits &= not _is_at(position, LEVEL_CEILING, layer)
            layer += 1
    position.observed_fits &= position.level != LEVEL_CEILING or position.index < layer or not position.knows_facts
    if lineage.count:
        read_facts_of(lineage.rules[0], &call.context)
    for i in range(chain.block_count):
        call.context.visible_only = i > 0
        out = and3(out, _eval_block(chain, i, &call, position, outcome))
        if out == NO:
            return NO
    return MAYBE if out == YES and may_overwork(&call) else out


cdef int _eval_block(
    Chain chain, int index, PartialCall *call, LoggedPosition *position, CheckOutcome *outcome
) noexcept nogil:
    cdef const Block *block = &chain.blocks[index]
    cdef int out = YES
    cdef int i, one
    if block.scopes.count:
        out = _eval_list(&block.scopes, LEVEL_BLOCK, index, call, position, outcome)
        if out == NO:
            return NO
        if _may_cost(&block.scopes, call):
            position.may_cost |= <uint32_t> 1 << index
        # The match is that of the last block with scopes.
        position.match_fits = position.matched_index == index and _may_match(&block.scopes, position.matched_scope, call)
    elif index == 0:
        if _is_at(position, LEVEL_BLOCK, 0):
            position.fits = position.reason == OUT_OF_SCOPE and position.scope < 0
        return _refuse(LEVEL_BLOCK, 0, OUT_OF_SCOPE, outcome)
    for i in range(block.where_count):
        one = eval_condition3(&block.where[i], chain.base, call)
        if _is_at(position, LEVEL_BLOCK, index) and position.scope < 0 and position.clause == i:
            position.fits = one != YES and (position.reason == CONDITION_FAILED or position.reason == MALFORMED_REQUEST)
        if one == NO:
            outcome.clause = i
            return _refuse(LEVEL_BLOCK, index, CONDITION_FAILED, outcome)
        out = and3(out, one)
    return out


cdef int _eval_list(
    const ScopeList *scopes, int level, int index, PartialCall *call, LoggedPosition *position, CheckOutcome *outcome
) noexcept nogil:
    cdef int out = eval_scopes3(scopes, False, call)
    cdef int first = _first_matching(scopes, call)
    if _is_at(position, level, index) and (position.scope >= 0 or position.reason == OUT_OF_SCOPE):
        position.fits = out != YES and _fits(scopes, first, position.reason, call, position)
    if out != NO:
        return out
    outcome.scope = first
    return _refuse(level, index, OUT_OF_SCOPE if first < 0 else CONDITION_FAILED, outcome)


cdef void _look_at_observed(const ScopeList *scopes, int layer, PartialCall *call, LoggedPosition *position) noexcept nogil:
    """Judge a layer in observe mode: it denies only calls whose work is spent on it, and overrules are recorded."""
    cdef int one = eval_scopes3(scopes, False, call)
    cdef int reason = OUT_OF_SCOPE if position.scope < 0 else CONDITION_FAILED
    if not _is_at(position, LEVEL_CEILING, layer):
        # The record has the first layer that refused.
        position.observed_fits &= one != NO or (position.level == LEVEL_CEILING and position.index < layer)
    elif position.reason == ALLOWED:
        position.observed_fits &= one != YES and _fits(scopes, _first_matching(scopes, call), reason, call, position)
    elif position.scope >= 0 and position.reason == MALFORMED_REQUEST:
        position.fits = one != YES and _fits(scopes, -1, MALFORMED_REQUEST, call, position)


cdef inline bint _is_at(const LoggedPosition *position, int level, int index) noexcept nogil:
    return position.level == level and position.index == index


cdef inline int _refuse(int level, int index, int reason, CheckOutcome *outcome) noexcept nogil:
    outcome.level = level
    outcome.index = index
    deny(outcome, STAGE_SCOPE, reason)
    return NO


cdef int _first_matching(const ScopeList *scopes, PartialCall *call) noexcept nogil:
    """Return the scope whose failed condition a denial reports; -1: none."""
    cdef int i
    for i in range(scopes.count):
        if pattern_matches(&scopes.scopes[i], scopes.base, call):
            return i
    return -1


cdef bint _fits(
    const ScopeList *scopes, int first, int reason, const PartialCall *call, const LoggedPosition *position
) noexcept nogil:
    """Return True if a list with a verdict other than YES can have refused for a reason at the record's position."""
    cdef PartialCall copy = call[0]
    cdef const Scope *scope
    cdef int i, one
    if reason == OUT_OF_SCOPE:
        return first < 0 and position.scope < 0
    if position.scope >= scopes.count:
        return False
    scope = &scopes.scopes[position.scope]
    if reason == MALFORMED_REQUEST:
        # Work ran out, which every evaluated scope can cause.
        return pattern_matches(scope, scopes.base, &copy)
    # Any scope for the call can be the nearest, or the first, which earlier versions reported.
    if reason != CONDITION_FAILED or position.clause >= scope.condition_count:
        return False
    if not pattern_matches(scope, scopes.base, &copy):
        return False
    for i in range(scope.condition_count):
        one = eval_condition3(&scope.conditions[i], scopes.base, &copy)
        if i == position.clause:
            return one != YES
        if one == NO:
            return False
    return closed_paths(scope) >= 0


cdef bint _may_cost(const ScopeList *scopes, const PartialCall *call) noexcept nogil:
    """Return True if a scope with needs can decide."""
    cdef PartialCall copy = call[0]
    cdef bint out = False
    cdef int i, one
    for i in range(scopes.count):
        one = eval_scope3(&scopes.scopes[i], scopes.base, &copy)
        if one == YES and scopes.scopes[i].needs == NO_NEEDS:
            return False
        out |= one != NO and scopes.scopes[i].needs != NO_NEEDS
    return out


cdef bint _may_match(const ScopeList *scopes, int scope, const PartialCall *call) noexcept nogil:
    """Return True if this scope of a list can have admitted the call."""
    cdef PartialCall copy = call[0]
    cdef bint needs
    cdef int i, one
    if not 0 <= scope < scopes.count:
        return False
    needs = scopes.scopes[scope].needs != NO_NEEDS
    for i in range(scopes.count):
        one = eval_scope3(&scopes.scopes[i], scopes.base, &copy)
        if i == scope:
            if one == NO:
                return False
        elif one == YES and scopes.scopes[i].needs == NO_NEEDS and (i < scope or needs):
            return False
    return True

"""The scopes of a remembered call, as far as what is known of it goes.

Walks ceilings and blocks in the order of stage ``scope`` (docs/token-format.md, section 9.8). What it says of each
is a verdict for all that is not known; beside that it tells whether a record's own position can be right.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from sessauth._fast.base.limits cimport (
    CONDITION_FAILED,
    LEVEL_BLOCK,
    LEVEL_CEILING,
    MALFORMED_REQUEST,
    MAX_WORK,
    OUT_OF_SCOPE,
    STAGE_SCOPE,
)
from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, Scratch, deny
from sessauth._fast.check.lineage cimport Lineage
from sessauth._fast.check.three_valued cimport (
    MAYBE,
    NO,
    YES,
    PartialCall,
    both,
    meets,
    of_condition,
    of_scope,
    of_scopes,
    read_facts_of,
)
from sessauth._fast.scopes.match cimport closed_paths
from sessauth._fast.token.block cimport Block
from sessauth._fast.token.chain cimport Chain
from sessauth._fast.token.scope cimport NO_NEEDS, Scope, ScopeList


cdef int judge_outlook(
    Chain chain, const Lineage *ground, const CheckInput *asked, const Scratch *scratch,
    LoggedPosition *place, CheckOutcome *found
) noexcept nogil:
    cdef PartialCall sight
    cdef int out = YES
    cdef int layer = 0
    cdef int i, k
    memset(&sight, 0, sizeof(PartialCall))
    sight.context.arguments = &scratch.arguments
    sight.context.tool = &scratch.tool
    sight.action = asked.action
    sight.resource = &scratch.resource
    sight.knows_arguments = place.knows_arguments
    sight.knows_facts = place.knows_facts
    for k in range(ground.count):
        read_facts_of(ground.rules[k], &sight.context)
        for i in range(ground.rules[k].layer_count):
            out = both(out, _of_list(&ground.rules[k].layers[i], LEVEL_CEILING, layer, &sight, place, found))
            if out == NO:
                return NO
            layer += 1
    if ground.count:
        read_facts_of(ground.rules[0], &sight.context)
    for i in range(chain.block_count):
        sight.context.visible_only = i > 0
        out = both(out, _of_block(chain, i, &sight, place, found))
        if out == NO:
            return NO
    return MAYBE if out == YES and sight.context.work + sight.worst > MAX_WORK else out


cdef int _of_block(Chain chain, int index, PartialCall *sight, LoggedPosition *place, CheckOutcome *found) noexcept nogil:
    cdef const Block *block = &chain.blocks[index]
    cdef int out = YES
    cdef int i, one
    if block.scopes.count:
        out = _of_list(&block.scopes, LEVEL_BLOCK, index, sight, place, found)
        if out == NO:
            return NO
        if _may_cost(&block.scopes, sight):
            place.may_cost |= <uint32_t> 1 << index
        # The last block that states scopes is the one that a match is told of.
        place.match_fits = place.matched_index == index and _may_match(&block.scopes, place.matched_scope, sight)
    elif index == 0:
        if _is_at(place, LEVEL_BLOCK, 0):
            place.fits = place.reason == OUT_OF_SCOPE and place.scope < 0
        return _refuse(LEVEL_BLOCK, 0, OUT_OF_SCOPE, found)
    for i in range(block.where_count):
        one = of_condition(&block.where[i], chain.base, sight)
        if _is_at(place, LEVEL_BLOCK, index) and place.scope < 0 and place.clause == i:
            place.fits = one != YES and (place.reason == CONDITION_FAILED or place.reason == MALFORMED_REQUEST)
        if one == NO:
            found.clause = i
            return _refuse(LEVEL_BLOCK, index, CONDITION_FAILED, found)
        out = both(out, one)
    return out


cdef int _of_list(
    const ScopeList *scopes, int level, int index, PartialCall *sight, LoggedPosition *place, CheckOutcome *found
) noexcept nogil:
    cdef int out = of_scopes(scopes, False, sight)
    cdef int first = _first_that_meets(scopes, sight)
    if _is_at(place, level, index) and (place.scope >= 0 or place.reason == OUT_OF_SCOPE):
        place.fits = out != YES and _fits(scopes, first, sight, place)
    if out != NO:
        return out
    found.scope = first
    return _refuse(level, index, OUT_OF_SCOPE if first < 0 else CONDITION_FAILED, found)


cdef inline bint _is_at(const LoggedPosition *place, int level, int index) noexcept nogil:
    return place.level == level and place.index == index


cdef inline int _refuse(int level, int index, int reason, CheckOutcome *found) noexcept nogil:
    found.level = level
    found.index = index
    deny(found, STAGE_SCOPE, reason)
    return NO


cdef int _first_that_meets(const ScopeList *scopes, PartialCall *sight) noexcept nogil:
    """The scope that a failed condition is told of; -1 where none can be."""
    cdef int i
    for i in range(scopes.count):
        if meets(&scopes.scopes[i], scopes.base, sight):
            return i
    return -1


cdef bint _fits(const ScopeList *scopes, int first, const PartialCall *sight, const LoggedPosition *place) noexcept nogil:
    """Whether this list, which does not surely admit the call, can have refused it where the record says."""
    cdef PartialCall again = sight[0]
    cdef const Scope *scope
    cdef int i, one
    if place.reason == OUT_OF_SCOPE:
        return first < 0 and place.scope < 0
    if place.scope >= scopes.count:
        return False
    scope = &scopes.scopes[place.scope]
    if place.reason == MALFORMED_REQUEST:
        # Work ran out, which any scope that is looked at can do.
        return meets(scope, scopes.base, &again)
    if place.reason != CONDITION_FAILED or place.scope != first or place.clause >= scope.condition_count:
        return False
    for i in range(scope.condition_count):
        one = of_condition(&scope.conditions[i], scopes.base, &again)
        if i == place.clause:
            return one != YES
        if one == NO:
            return False
    return closed_paths(scope) >= 0


cdef bint _may_cost(const ScopeList *scopes, const PartialCall *sight) noexcept nogil:
    """Whether a scope with needs can be the one that decides."""
    cdef PartialCall again = sight[0]
    cdef bint out = False
    cdef int i, one
    for i in range(scopes.count):
        one = of_scope(&scopes.scopes[i], scopes.base, &again)
        if one == YES and scopes.scopes[i].needs == NO_NEEDS:
            return False
        out |= one != NO and scopes.scopes[i].needs != NO_NEEDS
    return out


cdef bint _may_match(const ScopeList *scopes, int scope, const PartialCall *sight) noexcept nogil:
    """Whether a scope of a list can be the one that admitted the call."""
    cdef PartialCall again = sight[0]
    cdef bint needs
    cdef int i, one
    if not 0 <= scope < scopes.count:
        return False
    needs = scopes.scopes[scope].needs != NO_NEEDS
    for i in range(scopes.count):
        one = of_scope(&scopes.scopes[i], scopes.base, &again)
        if i == scope:
            if one == NO:
                return False
        elif one == YES and scopes.scopes[i].needs == NO_NEEDS and (i < scope or needs):
            return False
    return True

"""What can be told of scopes when not all that they ask about is known: yes, no or maybe."""

from libc.stdint cimport uint64_t

from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.resource cimport TextSlice, Resource
from sessauth._fast.check.view cimport SessionRules
from sessauth._fast.scopes.evaluate cimport Context
from sessauth._fast.token.condition cimport Condition
from sessauth._fast.token.scope cimport Scope, ScopeList

cdef enum Truth:
    # Numbers of the schema's Verdict.
    YES = 1
    NO = 2
    MAYBE = 3

# A call, as far as it is known. The documents of the context are to be read in any case; where what they hold is
# not known, an empty one stands for it.
cdef struct PartialCall:
    Context context
    TextSlice action
    const Resource *resource
    bint knows_arguments
    bint knows_tool
    bint knows_facts
    # The work that arguments could ask for which are not known (docs/token-format.md, section 9.12).
    uint64_t worst_case_work

cdef inline int and3(int a, int b) noexcept nogil:
    """What two verdicts come to of which a call must have both."""
    if a == NO or b == NO:
        return NO
    return MAYBE if a == MAYBE or b == MAYBE else YES


cdef inline void read_facts_of(const SessionRules *rules, Context *context) noexcept nogil:
    context.facts = rules.facts
    context.fact_count = rules.fact_count
    context.facts_base = rules.base

# `pays`: a scope that needs something is no yes.
cdef int eval_scopes3(const ScopeList *scopes, bint needs_are_maybe, PartialCall *call) noexcept nogil
cdef int eval_scope3(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil
cdef int eval_condition3(const Condition *c, bytes_t base, PartialCall *call) noexcept nogil
# Whether a scope's actions and resource match, whatever its conditions say.
cdef bint pattern_matches(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil

"""Three-valued evaluation of scopes for partially known calls: yes, no or maybe."""

from libc.stdint cimport uint64_t

cdef enum Truth:
    # The numbers of the schema's Verdict.
    YES = 1
    NO = 2
    MAYBE = 3

# A partially known call. The context's documents must be readable: an empty document replaces an unknown one.
cdef struct PartialCall:
    Context context
    TextSlice action
    const Resource *resource
    bint knows_arguments
    bint knows_tool
    bint knows_facts
    # The most work that unknown arguments can cause: by their values, and by their bytes (docs/token-format.md, section 9.12).
    uint64_t work_by_values
    uint64_t work_by_bytes

cdef inline int and3(int a, int b) noexcept nogil:
    """Return the conjunction of two verdicts (Kleene)."""
    if a == NO or b == NO:
        return NO
    return MAYBE if a == MAYBE or b == MAYBE else YES

cdef inline void read_facts_of(const SessionRules *rules, Context *context) noexcept nogil:
    context.facts = rules.facts
    context.fact_count = rules.fact_count
    context.facts_base = rules.base

# 1 if arguments of some size can pass the bound of work, beside the work that is known.
cdef bint may_overwork(const PartialCall *call) noexcept nogil
# `needs_are_maybe`: a scope with needs is MAYBE instead of YES.
cdef int eval_scopes3(const ScopeList *scopes, bint needs_are_maybe, PartialCall *call) noexcept nogil
cdef int eval_scope3(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil
cdef int eval_condition3(const Condition *c, bytes_t base, PartialCall *call) noexcept nogil
# Match a scope's actions and resource, without its conditions.
cdef bint pattern_matches(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil

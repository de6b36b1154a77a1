"""Three-valued evaluation of the scopes of a logged call."""

from libc.stdint cimport uint32_t

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, Scratch
from sessauth._fast.check.lineage cimport Lineage
from sessauth._fast.token.chain cimport Chain

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
) noexcept nogil

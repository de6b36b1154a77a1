"""The scopes of a remembered call, as far as what is known of it goes."""

from libc.stdint cimport uint32_t

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, Scratch
from sessauth._fast.check.lineage cimport Lineage
from sessauth._fast.token.chain cimport Chain

# What a record says of its scopes, what is known of its call, and whether the one can be of the other.
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
    # The scopes can have refused where the record says, or admitted by the scope that it says.
    bint fits
    bint match_fits
    # By block: a scope with needs can be what decides.
    uint32_t may_cost

# YES, NO or MAYBE; the finding says where a NO comes from. The request was read into `scratch`.
cdef int evaluate_logged_scopes(
    Chain chain, const Lineage *lineage, const CheckInput *input, const Scratch *scratch,
    LoggedPosition *position, CheckOutcome *outcome
) noexcept nogil

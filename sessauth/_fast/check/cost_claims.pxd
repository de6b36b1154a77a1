"""The costs of a call, for its cost handler."""

from libc.stdint cimport uint64_t

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, Scratch
from sessauth._fast.check.view cimport SessionRules
from sessauth._fast.token.chain cimport Chain

cdef class CostClaims:
    cdef readonly bytes session_id
    cdef readonly tuple block_ids
    cdef readonly uint64_t epoch
    cdef readonly uint64_t revision
    cdef readonly uint64_t checked_at_ms
    cdef tuple _items
    cdef dict _chosen
    cdef bint _placed
    cdef int _block
    cdef int _scope
    cdef bytes _argument

    cdef bint _claims(self, int block, int scope) except -1
    # Copy the cost handler's answer into the outcome. True if all is charged. Raises for an invalid answer.
    cdef bint apply(self, object answer, CheckOutcome *out) except -1

# The costs of a call whose scopes match. `scratch` holds its JSON, `rules` are those of the token's own session.
cdef CostClaims build_claims(
    Chain chain, const SessionRules *rules, const CheckInput *input, Scratch *scratch, const CheckOutcome *outcome
)

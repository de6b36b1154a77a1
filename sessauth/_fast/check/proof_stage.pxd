"""Stage ``proof`` (docs/token-format.md, section 9.9)."""

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome
from sessauth._fast.token.chain cimport Chain

# Verify the proof for a chain with a bound last block, except the nonce. False: the outcome is a denial.
cdef bint judge_proof(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
# True if verifying the proof probably needs a public-key operation.
cdef bint proof_is_costly(Chain chain, const CheckInput *input) noexcept nogil
cdef bint insert_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil

cdef inline bint consume_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    """Consume the nonce, the end of the stage, once all else allows. False: the outcome is a denial."""
    return input.proof.n == 0 or insert_nonce(chain, input, out)

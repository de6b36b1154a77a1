"""Stage ``proof`` (docs/token-format.md, section 9.9)."""

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome
from sessauth._fast.token.chain cimport Chain

# The stage, for a chain whose last block is bound, but for the nonce; False with a finding.
cdef bint judge_proof(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
# Whether judging the proof is likely to take an operation with a public key.
cdef bint proof_is_costly(Chain chain, const CheckInput *input) noexcept nogil
cdef bint insert_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil

cdef inline bint consume_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    """The end of the stage, when all else allows; False with a finding."""
    return input.proof.n == 0 or insert_nonce(chain, input, out)

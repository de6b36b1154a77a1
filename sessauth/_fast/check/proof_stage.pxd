"""Stage ``proof`` (docs/token-format.md, section 9.9)."""

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome
from sessauth._fast.token.chain cimport Chain

# The stage, for a chain whose last block is bound, but for the nonce; False with a finding.
cdef bint judge_proof(Chain chain, const CheckInput *asked, CheckOutcome *out) noexcept nogil
# Whether judging the proof is likely to take an operation with a public key.
cdef bint proof_is_costly(Chain chain, const CheckInput *asked) noexcept nogil
cdef bint spend_nonce(Chain chain, const CheckInput *asked, CheckOutcome *out) noexcept nogil

cdef inline bint take_nonce(Chain chain, const CheckInput *asked, CheckOutcome *out) noexcept nogil:
    """The end of the stage, when all else allows; False with a finding."""
    return asked.proof.n == 0 or spend_nonce(chain, asked, out)

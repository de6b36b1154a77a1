"""Stage ``proof`` (docs/token-format.md, section 9.9)."""

cdef bint insert_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil

cdef inline bint consume_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    """Consume the nonce, the end of the stage, once all else allows. False: the outcome is a denial."""
    return input.proof.n == 0 or insert_nonce(chain, input, out)

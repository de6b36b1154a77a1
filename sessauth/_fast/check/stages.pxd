"""The stages of a check that read only chain, session and request."""

from libc.stdint cimport uint64_t

cdef bint judge_time(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
cdef bint judge_audience(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
# Also the end of a check of the token alone.
cdef bint judge_kinds(Chain chain, CheckOutcome *out) noexcept nogil
cdef bint judge_scope(
    Chain chain, const SessionRules **rules, int rules_count, const CheckInput *input, Scratch *scratch, CheckOutcome *out
) noexcept nogil

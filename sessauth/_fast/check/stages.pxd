"""The stages of a check that read only chain, session and request."""

from libc.stdint cimport uint64_t

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome, Scratch
from sessauth._fast.check.view cimport SessionRules, SessionEntry
from sessauth._fast.token.chain cimport Chain

cdef bint check_session_alive(SessionEntry entry, uint64_t now_ms, CheckOutcome *out) noexcept nogil
cdef bint judge_time(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
cdef bint judge_audience(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
# Also the end of a check of the token alone.
cdef bint judge_kinds(Chain chain, CheckOutcome *out) noexcept nogil
cdef bint judge_scope(
    Chain chain, const SessionRules **rules, int rules_count, const CheckInput *input, Scratch *scratch, CheckOutcome *out
) noexcept nogil

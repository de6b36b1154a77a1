"""The stages of a check that look at nothing but chain, session and request."""

from libc.stdint cimport uint64_t

from sessauth._fast.call.check_state cimport Asked, Finding, Scratch
from sessauth._fast.check.view cimport Rules, SessionEntry
from sessauth._fast.token.chain cimport Chain

cdef bint judge_lives(SessionEntry entry, uint64_t now_ms, Finding *out) noexcept nogil
cdef bint judge_time(Chain chain, const Asked *asked, Finding *out) noexcept nogil
cdef bint judge_audience(Chain chain, const Asked *asked, Finding *out) noexcept nogil
cdef bint judge_scope(
    Chain chain, const Rules **rules, int rules_count, const Asked *asked, Scratch *scratch, Finding *out
) noexcept nogil

"""The stages of a check that look at nothing but chain, session and request."""

from libc.stdint cimport uint64_t

from sessauth._fast.chain cimport Chain
from sessauth._fast.outcome cimport Outcome, Request, Scratch
from sessauth._fast.view cimport SessionEntry

cdef bint judge_lives(SessionEntry entry, uint64_t now_ms, Outcome out) noexcept
cdef bint judge_time(Chain chain, Request request, Outcome out) noexcept
cdef bint judge_audience(Chain chain, Request request, Outcome out) except -1
cdef bint judge_scope(Chain chain, SessionEntry session, Request request, Scratch scratch, Outcome out) except -1

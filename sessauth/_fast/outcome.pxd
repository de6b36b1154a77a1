"""What a check came to, and what it was asked."""

from libc.stdint cimport int64_t, uint64_t

from sessauth._fast.chain cimport Chain
from sessauth._fast.limits cimport LEVEL_BLOCK
from sessauth._fast.request cimport Document, Resource

cdef class Outcome:
    cdef readonly bint allowed
    cdef readonly int reason
    cdef readonly int stage
    cdef readonly int level
    cdef readonly int index
    cdef readonly int scope
    cdef readonly int clause
    cdef readonly int matched_index
    cdef readonly int matched_scope
    cdef readonly str argument
    cdef readonly uint64_t epoch
    cdef readonly uint64_t revision
    cdef readonly uint64_t expires_at_ms
    cdef readonly uint64_t checked_at_ms
    cdef readonly object fault
    cdef Chain _chain
    cdef bytes _prefix
    cdef uint64_t _count

cdef class Request:
    cdef bytes token
    cdef bytes action
    cdef bytes resource
    cdef bytes arguments
    cdef bytes tool
    cdef bytes session
    cdef bytes audience
    cdef str source
    cdef object peer
    # The entries above the session's, nearest first; None if there are none.
    cdef list ancestors
    cdef uint64_t at_least_revision
    cdef uint64_t now_ms
    cdef bint clock_suspect
    cdef bint new_signatures

cdef class Scratch:
    cdef Document arguments
    cdef Document tool
    cdef Resource resource

# Bytes as they are; a str in UTF-8. TypeError for anything else.
cdef bytes utf8(object text)

cdef inline bint deny(Outcome out, int stage, int reason) noexcept:
    out.stage = stage
    out.reason = reason
    return False


cdef inline bint deny_block(Outcome out, int stage, int reason, int index) noexcept:
    out.level = LEVEL_BLOCK
    out.index = index
    return deny(out, stage, reason)

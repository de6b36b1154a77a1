"""What a check was asked, and what it came to."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from sessauth._fast.chain cimport Chain
from sessauth._fast.limits cimport LEVEL_BLOCK
from sessauth._fast.request cimport Document, Part, Resource
from sessauth._fast.text cimport bytes_t

# One call to judge. Every part lies in memory of the caller's.
cdef struct Asked:
    Part token
    Part action
    Part resource
    Part arguments
    Part tool
    Part session            # n = 0: not stated
    Part source
    Part audience
    const Part *peers
    int peer_count
    uint64_t at_least_revision
    uint64_t now_ms
    bint clock_suspect
    bint new_signatures
    # Borrowed, or NULL: asked `may_fail(source)` before a signature is looked at, and told `failed(source)`.
    PyObject *gate

# What it came to; positions are -1 where they don't apply. Owns `argument`.
cdef struct Finding:
    bint allowed
    # The signature stands, so what the token says may be told.
    bint named
    int reason
    int stage
    int level
    int index
    int scope
    int clause
    int matched_index
    int matched_scope
    uint64_t epoch
    uint64_t revision
    uint64_t expires_at_ms
    uint64_t checked_at_ms
    char *argument
    size_t argument_n

cdef class Outcome:
    cdef Finding found
    cdef Chain chain
    cdef readonly object fault
    cdef bytes prefix
    cdef uint64_t count

# An outcome of a subclass of Outcome; `prefix` and `count` name the decision.
cdef Outcome new_outcome(object outcome_type, bytes prefix, uint64_t count)

cdef struct Scratch:
    Document arguments
    Document tool
    Resource resource

# Memory for one request's JSON, used again by the next.
cdef class ScratchBox:
    cdef Scratch scratch

cdef void asked_init(Asked *asked) noexcept nogil
cdef void finding_init(Finding *found) noexcept nogil
cdef void finding_free(Finding *found) noexcept nogil
# Copies a text; without memory for it the argument stays unnamed.
cdef void set_argument(Finding *found, const char *text, size_t n) noexcept nogil
# Joins names with dots.
cdef void set_argument_path(Finding *found, const Part *names, int count) noexcept nogil
# Points at bytes, or at a str in UTF-8; returns what has to live as long, or None. TypeError for else.
cdef object part_of(object text, Part *out)

cdef inline bint deny(Finding *out, int stage, int reason) noexcept nogil:
    out.stage = stage
    out.reason = reason
    return False


cdef inline bint deny_block(Finding *out, int stage, int reason, int index) noexcept nogil:
    out.level = LEVEL_BLOCK
    out.index = index
    return deny(out, stage, reason)


cdef inline void set_part(Part *out, bytes_t p, size_t n) noexcept nogil:
    out.p = p
    out.n = n

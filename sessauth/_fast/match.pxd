"""Scopes, matched against a request (docs/token-format.md, sections 6.5 and 9.8)."""

from sessauth._fast.evaluate cimport Context
from sessauth._fast.limits cimport MAX_PATH_SEGMENTS
from sessauth._fast.resource cimport Part, Resource
from sessauth._fast.scope cimport ScopeList

cdef enum Match:
    MATCHED = 0
    OUTSIDE = 1         # of every scope's actions or resources
    FAILED = 2          # a condition, or an argument left over
    OVERWORKED = 3

# How a list of scopes answered a request. For FAILED and OVERWORKED, clause -1 means section 6.5.
cdef struct Verdict:
    Match match
    int scope
    int clause
    int left_count
    Part left[MAX_PATH_SEGMENTS + 1]

cdef void match_scopes(
    const ScopeList *scopes, Part action, const Resource *resource, Context *context, Verdict *out
) noexcept nogil
cdef str left_text(const Verdict *verdict)

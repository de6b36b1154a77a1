"""Scopes, compiled from their wire form (docs/token-format.md, section 5)."""

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t

cdef enum:
    SEGMENT_UNKNOWN = 0
    SEGMENT_LITERAL = 1
    SEGMENT_ANY = 2
    SEGMENT_PREFIX = 3
    SEGMENT_ONE_OF = 4
    SEGMENT_REST = 5

cdef enum:
    NO_NEEDS = 0
    NEEDS_APPROVAL = 1
    NEEDS_OTHER = 2

cdef enum:
    # Position of the first unknown kind in a scope: a clause index, or one of these.
    UNKNOWN_NOWHERE = -2
    UNKNOWN_OUTSIDE_CONDITIONS = -1

# The texts that it matches, as in Texts, and the kind of match.
cdef struct Segment:
    uint8_t kind
    uint8_t count
    ByteSpan first

cdef struct Scope:
    # Target of `actions` if there is only one.
    ByteSpan only_action
    uint32_t mark
    ByteSpan *actions
    Segment *segments
    Condition *conditions
    Path *free
    uint8_t action_count
    uint8_t segment_count
    uint8_t condition_count
    uint8_t free_count
    uint8_t free_all
    uint8_t needs
    # Number of leading literal segments, at most two. `mark` is theirs.
    uint8_t literals
    int16_t unknown

cdef struct ScopeList:
    Scope *scopes
    uint8_t count
    bytes_t base

cdef const char *parse_scope(WireReader reader, bytes_t base, Arena *arena, Scope *out) noexcept nogil

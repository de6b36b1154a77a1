"""One block of a chain, compiled (docs/token-format.md, sections 3.2 and 4)."""

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint64_t

cdef enum:
    ENDING_SEALED = 1
    ENDING_OPEN = 2
    ENDING_BOUND = 3

cdef struct Root:
    uint16_t issuer_key_id
    uint16_t session_id
    uint16_t token_id
    uint64_t min_revision

# Offsets are from the first byte of the token. A time or number of 0 is not stated.
cdef struct Block:
    uint16_t signature
    ByteSpan payload
    uint64_t issued_at_ms
    uint64_t expires_at_ms
    uint64_t not_before_ms
    ScopeList scopes
    Condition *where
    Texts audience
    Texts source
    Texts peer
    uint8_t where_count
    uint8_t ending
    uint8_t may_seal
    uint8_t max_blocks
    # The first unknown kind: its scope, or -1 for `where`, and its clause.
    uint8_t unknown
    uint16_t next_key           # 0: none
    uint16_t proof_key
    int16_t unknown_scope
    int16_t unknown_clause

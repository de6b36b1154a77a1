"""A token, compiled: proofs, values, conditions, scopes, blocks, and the chain (docs/token-format.md, section 3)."""

from cpython.object cimport PyObject
from libc.stdint cimport int16_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t


# Proofs that a holder has a bound token's secret, for one request (docs/token-format.md, 8.1 and 9.9).

cdef enum:
    PROOF_ED25519 = 1
    PROOF_MAC = 2

cdef enum:
    # Label, kind, the last signature, verifier id, key id, request digest, time, nonce.
    COVERED_BYTES = 18 + 1 + 64 + 16 + 32 + 32 + 8 + 16
    # Verifier id and key id.
    NAME_BYTES = 48
    MAX_VERIFIER_KEYS = 2

# A proof's parts, in the bytes that it was read from. `tag` has the length of its kind.
cdef struct Proof:
    int kind
    bytes_t verifier_id
    bytes_t key_id
    uint64_t time_ms
    bytes_t nonce
    bytes_t tag

# A key of a host. Its id is the digest of `public`.
cdef struct VerifierKey:
    unsigned char id[32]
    unsigned char public[32]
    unsigned char secret[32]
    uint64_t not_before_ms
    uint64_t expires_at_ms

cdef class ProofKeys:
    cdef unsigned char verifier[16]
    cdef VerifierKey keys[MAX_VERIFIER_KEYS]
    cdef int count
    cdef ReplayTable _table
    # The struct in `_table`; NULL: none.
    cdef Table *table


# Values of conditions and facts, compiled from their wire form (docs/token-format.md, section 7).

cdef enum:
    # Types of values in addition to those of JSON: a JSON value, as its equality form or as the digest of that.
    TYPE_JSON = 16
    TYPE_DIGEST = 17

# A text inside the token or record that it was compiled from. 16 bits suffice: a token has at most
# 8 KiB, a record at most 64 KiB; pointers would make a cached chain several times its bytes.
cdef struct ByteSpan:
    uint16_t at
    uint16_t n

cdef struct Value:
    uint8_t type            # TYPE_TEXT, TYPE_NUMBER, TYPE_TRUTH, TYPE_DECIMAL, TYPE_JSON, TYPE_DIGEST
    uint8_t truth           # of JSON: the type of a text, number or truth, 0 for other values
    ByteSpan text           # of every type but NUMBER and TRUTH
    uint32_t nanos
    int64_t units

cdef inline void set_span(ByteSpan *out, bytes_t base, const WireReader *inner) noexcept nogil:
    out.at = <uint16_t> (inner.p - base)
    out.n = <uint16_t> (inner.end - inner.p)


# Conditions, compiled from their wire form (docs/token-format.md, section 6.1).

cdef enum:
    SOURCE_UNKNOWN = 0
    SOURCE_ARGS = 1
    SOURCE_SESSION = 2
    SOURCE_TOOL = 3
    SOURCE_ELEMENTS = 8

cdef enum:
    OP_UNKNOWN = 0
    OP_EQUAL = 1
    OP_NOT_EQUAL = 2
    OP_IN = 3
    OP_NOT_IN = 4
    OP_LESS = 5
    OP_LESS_EQUAL = 6
    OP_GREATER = 7
    OP_GREATER_EQUAL = 8
    OP_STARTS_WITH = 9
    OP_GLOB = 10
    OP_UNDER = 11
    OP_CIDR = 12
    OP_SUBSET_OF = 13
    OP_PRESENT = 14
    OP_ABSENT = 15
    # In the order of the four that they negate.
    OP_NOT_STARTS_WITH = 19
    OP_NOT_GLOB = 20
    OP_NOT_UNDER = 21
    OP_NOT_CIDR = 22

cdef enum:
    # Common shapes of conditions, set at compile time: one top-level argument without accessor, compared with values for
    # equality or with a number for order.
    SHAPE_OTHER = 0
    SHAPE_EQUALS = 1
    SHAPE_ORDER = 2

cdef enum:
    ACCESSOR_NONE = 0
    ACCESSOR_COUNT = 1
    ACCESSOR_HOST = 2
    ACCESSOR_SCHEME = 3
    ACCESSOR_PORT = 4
    ACCESSOR_PATH = 10
    ACCESSOR_DOMAIN = 11
    ACCESSOR_LENGTH = 12
    ACCESSOR_UNKNOWN = 255

cdef enum:
    QUANTIFIER_NONE = 0
    QUANTIFIER_EACH = 1
    QUANTIFIER_ANY = 2

# Texts of a repeated field, adjacent in the input. `next_text` steps to the next one.
cdef struct Texts:
    ByteSpan first
    uint8_t count

# The segments, as in Texts, and the source that they are looked up in.
cdef struct Path:
    uint8_t source
    uint8_t count
    ByteSpan first

cdef struct Condition:
    Path path
    uint8_t op
    uint8_t accessor
    uint8_t quantifier
    uint8_t optional
    uint8_t count           # of values
    uint8_t shape
    ByteSpan fact               # n = 0: none
    Value *values

cdef struct Fact:
    ByteSpan name
    Value value
    uint8_t visible

cdef inline void next_text(bytes_t base, ByteSpan *text) noexcept nogil:
    """Step from one text of a repeated field to the next: over a tag of one byte and a length of one or two."""
    cdef bytes_t p = base + text.at + text.n + 1
    text.n = p[0]
    p += 1
    if text.n >= 0x80:
        text.n = <uint16_t> ((text.n & 0x7F) | (p[0] << 7))
        p += 1
    text.at = <uint16_t> (p - base)

cdef inline bint is_argument(const Path *path) noexcept nogil:
    return path.source == SOURCE_ARGS or path.source == SOURCE_ELEMENTS

cdef inline bint is_each_element(bytes_t base, const ByteSpan *segment) noexcept nogil:
    """Return 1 if a segment of an ELEMENTS path is `[]`. Any other is a name after a `.`."""
    return base[segment.at] == 0x5B

cdef inline bint is_exclusion(const Condition *c) noexcept nogil:
    return OP_NOT_STARTS_WITH <= c.op <= OP_NOT_CIDR

cdef inline uint8_t compared_by(const Condition *c) noexcept nogil:
    """Return the operator, without its `not` where it compares parts of texts."""
    return c.op - OP_NOT_STARTS_WITH + OP_STARTS_WITH if is_exclusion(c) else c.op

cdef inline bint is_json(const Condition *c) noexcept nogil:
    """Return 1 if the values are JSON values."""
    return c.count and c.values[0].type >= TYPE_JSON

# Parsers return NULL, or the fault. Spans are relative to `base`.
cdef const char *parse_condition(WireReader reader, bytes_t base, Arena *arena, Condition *out) noexcept nogil
cdef const char *parse_facts(
    WireReader reader, bytes_t base, Arena *arena, uint32_t number, Fact **out, int *count
) noexcept nogil
# Turn a condition into its negation, which holds where the condition is known to fail. 0: it has none.
cdef bint negate(Condition *c) noexcept nogil
cdef inline bint is_unknown(const Condition *c) noexcept nogil:
    return c.op == OP_UNKNOWN or c.accessor == ACCESSOR_UNKNOWN or c.path.source == SOURCE_UNKNOWN

# Memory for the elements of a repeated field, at most ``limit`` of ``size`` bytes. The reader is after the first tag, and
# the number below 16. The fault is ``too_many`` or the lack of memory.
cdef const char *take_run(
    WireReader reader, uint32_t number, int limit, size_t size, Arena *arena, void **out, const char *too_many
) noexcept nogil


# Scopes, compiled from their wire form (docs/token-format.md, section 5).

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
    # Its conditions are compiled negated: one that holds puts a call outside.
    uint8_t exception
    int16_t unknown

# In a layer of a ceiling, exceptions stand after the `count` scopes that permit.
cdef struct ScopeList:
    Scope *scopes
    uint8_t count
    uint8_t exceptions
    bytes_t base

cdef const char *parse_scope(WireReader reader, bytes_t base, Arena *arena, Scope *out) noexcept nogil


# One block of a chain, compiled (docs/token-format.md, sections 3.2 and 4).

cdef enum:
    ENDING_SEALED = 1
    ENDING_OPEN = 2
    ENDING_BOUND = 3

cdef struct Root:
    uint16_t issuer_key_id
    uint16_t session_id
    uint16_t token_id
    uint64_t min_revision

# Offsets are from the first byte of the token. A time or number of 0 is absent.
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


# A link of a ring. The ring's end has no owner.
cdef struct Link:
    Link *before
    Link *behind
    PyObject *owner

# MAC keys that holder and verifier agreed on, by verifier id and key id. Shared by threads.
cdef struct MacKeys:
    uint32_t lock
    # Index of the key to replace next.
    uint32_t next
    unsigned char names[2][48]
    unsigned char keys[2][32]

cdef class Chain:
    cdef readonly bytes raw
    cdef readonly int block_count
    cdef bytes_t base
    cdef size_t length
    cdef Arena arena
    cdef Root root
    cdef Block *blocks
    cdef unsigned char *ids             # 32 bytes a block, once computed
    # NULL unless the last block is bound with a proof_key.
    cdef MacKeys *mac_keys
    cdef readonly bytes session_id
    cdef readonly bytes issuer_key_id
    cdef readonly uint64_t expires_at_ms
    cdef readonly uint64_t not_before_ms
    cdef readonly uint64_t issued_at_ms
    cdef readonly int max_blocks
    # Offsets into raw after each block, where a prefix of the chain ends.
    cdef uint16_t ends[MAX_BLOCKS]
    cdef bint any_unknown
    # The first revoked block, or -1, as of the session's `revocation_mark`; 0: not checked.
    cdef uint64_t revocation_mark
    cdef int revoked_index
    # The leading blocks of a cached chain that were not revoked as of another mark; 0 blocks: not known.
    cdef int unrevoked_blocks
    cdef uint64_t unrevoked_mark
    # Results of verification, which never change: all signatures are valid; or the first wrong block, else -1.
    cdef bint signatures_valid
    cdef int wrong_index
    # State of the chain cache.
    cdef int hits
    cdef int queue
    cdef size_t cached_bytes
    cdef Link queue_link
    cdef Link session_link
    # The text form, if the cache keeps it.
    cdef bytes text
    # After all fields that a check reads: BLAKE2b-256 of raw, once computed.
    cdef unsigned char *digest
    # Marks of the decision queue: the segment that owns the chain, the drain of its payloads, the stream that has them.
    cdef uint32_t segment_mark
    cdef uint32_t payload_mark
    cdef uint32_t written_mark

    cdef const char *_parse(self, int *reason, int *at) noexcept nogil
    cdef const char *_relate(self, int *reason, int *at) noexcept nogil
    cdef int verify_from(self, int first, bytes_t issuer_key) noexcept nogil
    cdef bint compute_ids(self) noexcept nogil
    # NULL without memory. With the GIL, as compute_ids: threads share the arena.
    cdef const unsigned char *compute_digest(self) noexcept nogil
    cdef size_t weight(self) noexcept nogil

# Returns a Chain, or None with the reason, the block and the fault.
cdef Chain parse_chain(bytes token, int *reason, int *at, const char **wrong)

"""Parses, validates and compiles one block of a chain (docs/token-format.md, section 4).

Relations between blocks are in ``chain``.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

cdef enum:
    FIELD_ROOT = 1
    FIELD_ISSUED_AT = 2
    FIELD_EXPIRES_AT = 3
    FIELD_NOT_BEFORE = 4
    FIELD_AUDIENCE = 5
    FIELD_SCOPES = 6
    FIELD_WHERE = 7
    FIELD_SOURCE = 8
    FIELD_PEER = 9
    FIELD_MAX_BLOCKS = 10
    FIELD_ENDING = 11
    FIELD_NEXT_KEY = 12
    FIELD_PROOF_KEY = 13
    FIELD_MAY_SEAL = 14
    FIELD_LABEL = 15

# 2**53 - 1: every JSON reader holds it exactly.
cdef uint64_t MAX_TIME = 0x1FFFFFFFFFFFFFULL


cdef const char *_parse_root(WireReader reader, bytes_t base, Root *out) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef int seen = 0
    out.min_revision = 0
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number <= last or number > 4:
            return "root: fields out of order"
        last = number
        seen |= 1 << number
        if number == 4:
            if wire != WIRE_VARINT or not read_varint(&reader, &out.min_revision) or out.min_revision == 0:
                return "root: min_revision"
            continue
        if wire != WIRE_BYTES or not read_bytes(&reader, &inner):
            return "root: length"
        if inner.end - inner.p != (32 if number == 1 else 16):
            return "root: an id of another length"
        if number == 1:
            out.issuer_key_id = <uint16_t> (inner.p - base)
        elif number == 2:
            out.session_id = <uint16_t> (inner.p - base)
        else:
            out.token_id = <uint16_t> (inner.p - base)
    if seen & 0b1110 != 0b1110:
        return "root: issuer key, session and token ids"
    return NULL


cdef const char *_parse_texts(WireReader *reader, uint32_t number, bytes_t base, Texts *out) noexcept nogil:
    """Parse one element of audience, source or peer."""
    cdef WireReader inner
    cdef ByteSpan span, other
    cdef Address network
    cdef int length, i
    # Audiences, sources and peers have the same bound.
    if out.count == MAX_AUDIENCES:
        return "audience, source, peer: at most 16"
    if not read_bytes(reader, &inner):
        return "audience, source, peer: length"
    if not utf8_valid(inner.p, inner.end - inner.p) or not is_text(inner.p, inner.end - inner.p):
        return "audience, source, peer: not a text"
    if number == FIELD_SOURCE and not parse_cidr(inner.p, inner.end - inner.p, &network, &length):
        return "source: not a CIDR"
    set_span(&span, base, &inner)
    if out.count == 0:
        out.first = span
    other = out.first
    for i in range(out.count):
        if i:
            next_text(base, &other)
        if other.n == span.n and memcmp(base + other.at, base + span.at, span.n) == 0:
            return "audience, source, peer: repeated"
    out.count += 1
    return NULL


cdef void _clear(bytes_t base, Block *out) noexcept nogil:
    out.issued_at_ms = 0
    out.expires_at_ms = 0
    out.not_before_ms = 0
    out.scopes.scopes = NULL
    out.scopes.count = 0
    out.scopes.base = base
    out.where = NULL
    memset(&out.audience, 0, sizeof(Texts))
    memset(&out.source, 0, sizeof(Texts))
    memset(&out.peer, 0, sizeof(Texts))
    out.where_count = 0
    out.ending = 0
    out.may_seal = 0
    out.max_blocks = 0
    out.next_key = 0
    out.proof_key = 0
    out.unknown = 0
    out.unknown_scope = -1
    out.unknown_clause = -1


cdef const char *parse_block(
    WireReader reader, bytes_t base, Arena *arena, bint is_root, Root *root, Block *out
) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef const char *wrong
    cdef bint repeated
    cdef bint has_root = 0
    _clear(base, out)
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number > FIELD_LABEL or number < last:
            return "fields out of order"
        repeated = FIELD_AUDIENCE <= number <= FIELD_PEER
        if number == last and not repeated:
            return "a field is given twice"
        last = number
        wrong = NULL
        if wire == WIRE_VARINT:
            wrong = _parse_varint(&reader, number, out)
        elif wire != WIRE_BYTES:
            return "wire type"
        elif number == FIELD_SCOPES:
            wrong = parse_scopes(&reader, number, MAX_SCOPES, arena, &out.scopes)
        elif number == FIELD_WHERE:
            wrong = parse_conditions(&reader, number, MAX_CONDITIONS, base, arena, &out.where, &out.where_count)
        elif number == FIELD_AUDIENCE:
            wrong = _parse_texts(&reader, number, base, &out.audience)
        elif number == FIELD_SOURCE:
            wrong = _parse_texts(&reader, number, base, &out.source)
        elif number == FIELD_PEER:
            wrong = _parse_texts(&reader, number, base, &out.peer)
        elif not read_bytes(&reader, &inner):
            return "length"
        elif number == FIELD_ROOT:
            if not is_root:
                return "a root field in an attenuation block"
            has_root = 1
            wrong = _parse_root(inner, base, root)
        elif number == FIELD_NEXT_KEY or number == FIELD_PROOF_KEY:
            if inner.end - inner.p != 32:
                return "a key has 32 bytes"
            if number == FIELD_NEXT_KEY:
                out.next_key = <uint16_t> (inner.p - base)
            else:
                out.proof_key = <uint16_t> (inner.p - base)
        elif number == FIELD_LABEL:
            if not utf8_valid(inner.p, inner.end - inner.p) or not is_text(inner.p, inner.end - inner.p):
                return "label: not a text"
        else:
            return "wire type"
        if wrong != NULL:
            return wrong
    if is_root and not has_root:
        return "no root field"
    _note_unknown(out)
    return NULL


cdef const char *_parse_varint(WireReader *reader, uint32_t number, Block *out) noexcept nogil:
    cdef uint64_t value
    if not read_varint(reader, &value) or value == 0:
        return "a varint is not in its shortest form"
    if FIELD_ISSUED_AT <= number <= FIELD_NOT_BEFORE:
        if value > MAX_TIME:
            return "a time beyond 2**53"
        if number == FIELD_ISSUED_AT:
            out.issued_at_ms = value
        elif number == FIELD_EXPIRES_AT:
            out.expires_at_ms = value
        else:
            out.not_before_ms = value
    elif number == FIELD_MAX_BLOCKS:
        if value > MAX_BLOCKS:
            return "max_blocks: 1 to 16"
        out.max_blocks = <uint8_t> value
    elif number == FIELD_ENDING:
        if value > ENDING_BOUND:
            return "an unknown ending"
        out.ending = <uint8_t> value
    elif number == FIELD_MAY_SEAL:
        if value != 1:
            return "may_seal: not a bool"
        out.may_seal = 1
    else:
        return "wire type"
    return NULL


cdef void _note_unknown(Block *out) noexcept nogil:
    cdef int i
    for i in range(out.scopes.count):
        if out.scopes.scopes[i].unknown != UNKNOWN_NOWHERE:
            out.unknown = 1
            out.unknown_scope = <short> i
            out.unknown_clause = out.scopes.scopes[i].unknown
            return
    for i in range(out.where_count):
        if is_unknown(&out.where[i]):
            out.unknown = 1
            out.unknown_clause = <short> i
            return

"""The parser of one block of a chain and of its scopes (docs/token-format.md, sections 4 and 5).

It validates and compiles them. ``chain`` validates the relations between blocks; ``scopes/match`` matches scopes.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memset


# Scopes.

cdef const char *MANY_CONDITIONS = "where: at most 16 conditions"


cdef inline bint _same_span(bytes_t base, const ByteSpan *a, const ByteSpan *b) noexcept nogil:
    return a.n == b.n and memcmp(base + a.at, base + b.at, a.n) == 0


cdef const char *_parse_segment(WireReader reader, bytes_t base, Segment *out) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef uint64_t value = 0
    cdef bytes_t at
    cdef size_t n
    cdef int classes, _
    cdef ByteSpan text, other
    out.kind = SEGMENT_UNKNOWN
    out.count = 0
    out.first.at = 0
    out.first.n = 0
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number < last or (number == last and number != 2):
            return "segment: fields out of order"
        last = number
        if number == 1 and wire == WIRE_VARINT:
            if not read_varint(&reader, &value) or value == 0 or value > 0x7FFFFFFFULL:
                return "segment: kind"
            out.kind = <uint8_t> value if value <= SEGMENT_REST else SEGMENT_UNKNOWN
        elif number == 2 and wire == WIRE_BYTES:
            if out.count == MAX_SEGMENT_TEXTS:
                return "segment: at most 32 texts"
            if not read_bytes(&reader, &inner):
                return "segment: text"
            n = inner.end - inner.p
            at, classes = inner.p, 0
            while at < inner.end:
                classes |= kinds[at[0]]
                at += 1
            if n > MAX_STRING_BYTES or (classes & HIGH and not utf8_valid(inner.p, n)):
                return "segment: a text is at most 1024 bytes of UTF-8"
            set_span(&text, base, &inner)
            if out.count == 0:
                out.first = text
            elif out.kind != SEGMENT_UNKNOWN:
                other = out.first
                for _ in range(out.count):
                    if _same_span(base, &text, &other):
                        return "segment: a text is repeated"
                    next_text(base, &other)
            if out.kind != SEGMENT_UNKNOWN and not is_plain(inner.p, n, classes, out.kind == SEGMENT_PREFIX):
                return "segment: not a plain segment"
            out.count += 1
        else:
            return "segment: unknown field"
    if value == 0:
        return "segment: a kind"
    if out.kind == SEGMENT_ONE_OF:
        if out.count < 2:
            return "segment: one_of takes two texts or more"
    elif out.kind != SEGMENT_UNKNOWN:
        if out.count != (1 if out.kind == SEGMENT_LITERAL or out.kind == SEGMENT_PREFIX else 0):
            return "segment: number of texts"
    return NULL


cdef const char *_parse_approval(WireReader reader) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef uint64_t threshold = 0
    cdef bytes_t keys[MAX_APPROVAL_KEYS]
    cdef int count = 0
    cdef int i
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number < last or (number == last and number != 2):
            return "approval: fields out of order"
        last = number
        if number == 1 and wire == WIRE_VARINT:
            if not read_varint(&reader, &threshold) or threshold == 0:
                return "approval: threshold"
        elif number == 2 and wire == WIRE_BYTES:
            if count == MAX_APPROVAL_KEYS or not read_bytes(&reader, &inner) or inner.end - inner.p != 32:
                return "approval: at most 16 keys of 32 bytes"
            for i in range(count):
                if memcmp(keys[i], inner.p, 32) == 0:
                    return "approval: a key is repeated"
            keys[count] = inner.p
            count += 1
        else:
            return "approval: unknown field"
    if not 1 <= threshold <= <uint64_t> count:
        return "approval: a threshold of 1 to the number of keys"
    return NULL


cdef const char *_parse_budget(WireReader reader, bytes_t base, bint *unknown) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef int seen = 0
    cdef int64_t units = 0
    cdef uint32_t nanos = 0
    cdef Path path
    cdef const char *wrong
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number <= last or number > 4 or wire != WIRE_BYTES:
            return "budget: fields"
        last = number
        seen |= 1 << number
        if not read_bytes(&reader, &inner):
            return "budget: length"
        if number == 1 or number == 3:
            if not utf8_valid(inner.p, inner.end - inner.p) or not is_text(inner.p, inner.end - inner.p):
                return "budget: name and unit are texts"
        elif number == 2:
            wrong = parse_number_message(inner, &units, &nanos)
            if wrong != NULL:
                return wrong
            if units < 0 or (units == 0 and nanos == 0):
                return "budget: a positive limit"
        else:
            wrong = parse_path(inner, base, &path)
            if wrong != NULL:
                return wrong
            if path.source != SOURCE_ARGS and path.source != SOURCE_UNKNOWN:
                return "budget: the amount is one argument, no fact and no elements of a list"
            unknown[0] |= path.source == SOURCE_UNKNOWN
    if seen & 0b10110 != 0b10110:
        return "budget: a name, a limit and an amount"
    return NULL


cdef const char *_parse_needs(WireReader reader, bytes_t base, Arena *arena, Scope *out, bint *unknown) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef uint64_t uses
    cdef const char *wrong
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number <= last or number > 3:
            return "needs: fields"
        last = number
        if number == 2:
            if wire != WIRE_VARINT or not read_varint(&reader, &uses) or uses == 0:
                return "needs: uses"
        else:
            if wire != WIRE_BYTES or not read_bytes(&reader, &inner):
                return "needs: length"
            if number == 1:
                wrong = _parse_approval(inner)
            else:
                wrong = _parse_budget(inner, base, unknown)
            if wrong != NULL:
                return wrong
        if number == 1:
            out.needs = NEEDS_APPROVAL
        elif out.needs == NO_NEEDS:
            out.needs = NEEDS_OTHER
    if last == 0:
        return "needs: nothing needed"
    return NULL


cdef const char *parse_scope(WireReader reader, bytes_t base, Arena *arena, Scope *out) noexcept nogil:
    cdef WireReader inner
    cdef WireReader free_paths = reader
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef uint64_t value
    cdef int i
    cdef bint unknown_segment = 0
    cdef bint unknown_path = 0
    cdef const char *wrong = NULL
    out.actions = NULL
    out.segments = NULL
    out.conditions = NULL
    out.free = NULL
    out.action_count = 0
    out.segment_count = 0
    out.condition_count = 0
    out.free_count = 0
    out.free_all = 0
    out.needs = NO_NEEDS
    out.exception = 0
    out.literals = 0
    out.mark = 0
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number < last or (number == last and number > 4) or number > 7:
            return "scope: fields out of order"
        last = number
        if number == 7:
            if wire != WIRE_VARINT or not read_varint(&reader, &value) or value != 1:
                return "scope: exception"
            out.exception = 1
            continue
        if number == 5:
            if wire != WIRE_VARINT or not read_varint(&reader, &value) or value != 1:
                return "scope: free_all"
            out.free_all = 1
            continue
        if wire != WIRE_BYTES:
            return "scope: wire type"
        wrong = NULL
        if number == 1 and out.actions == NULL:
            wrong = take_run(
                reader, 1, MAX_ACTIONS, sizeof(ByteSpan), arena, <void **> &out.actions, "scope: at most 16 actions"
            )
        elif number == 2 and out.segments == NULL:
            wrong = take_run(
                reader, 2, MAX_SEGMENTS, sizeof(Segment), arena, <void **> &out.segments, "scope: at most 32 segments"
            )
        elif number == 3 and out.conditions == NULL:
            wrong = take_run(reader, 3, MAX_CONDITIONS, sizeof(Condition), arena, <void **> &out.conditions, MANY_CONDITIONS)
        elif number == 4 and out.free == NULL:
            free_paths = reader
            wrong = take_run(
                reader, 4, MAX_FREE_PATHS, sizeof(Path), arena, <void **> &out.free, "scope: at most 64 free arguments"
            )
        if wrong != NULL:
            return wrong
        if not read_bytes(&reader, &inner):
            return "scope: length"
        if number == 1:
            wrong = _add_action(inner, base, out)
        elif number == 2:
            if out.segment_count and out.segments[out.segment_count - 1].kind == SEGMENT_REST:
                return "scope: a segment behind **"
            wrong = _parse_segment(inner, base, &out.segments[out.segment_count])
            unknown_segment |= out.segments[out.segment_count].kind == SEGMENT_UNKNOWN
            out.segment_count += 1
        elif number == 3:
            wrong = parse_condition(inner, base, arena, &out.conditions[out.condition_count])
            out.condition_count += 1
        elif number == 4:
            wrong = parse_path(inner, base, &out.free[out.free_count])
            if wrong == NULL:
                wrong = _check_free(free_paths, &inner, out.free[out.free_count].source)
            unknown_path |= out.free[out.free_count].source == SOURCE_UNKNOWN
            out.free_count += 1
        else:
            wrong = _parse_needs(inner, base, arena, out, &unknown_path)
        if wrong != NULL:
            return wrong
    if out.action_count == 0 or out.segment_count == 0:
        return "scope: an action and a resource"
    if out.free_all and out.free_count:
        return "scope: free_all excludes free"
    if out.exception and (out.free_all or out.free_count or out.needs):
        return "scope: an exception has no free arguments and no needs"
    for i in range(min(<int> out.segment_count, MARKED_SEGMENTS)):
        if out.segments[i].kind != SEGMENT_LITERAL or out.segments[i].count != 1:
            break
        out.mark = next_mark(out.mark, base + out.segments[i].first.at, out.segments[i].first.n)
        out.literals += 1
    out.unknown = UNKNOWN_OUTSIDE_CONDITIONS if unknown_path or unknown_segment else UNKNOWN_NOWHERE
    if not unknown_segment:
        for i in range(out.condition_count):
            if is_unknown(&out.conditions[i]):
                out.unknown = <short> i
                break
    if out.exception:
        for i in range(out.condition_count):
            if not negate(&out.conditions[i]):
                return "scope: each and subset_of of an exception are not of elements; write [] once more"
    return NULL


cdef const char *_add_action(WireReader inner, bytes_t base, Scope *out) noexcept nogil:
    cdef size_t n = inner.end - inner.p
    cdef bint star = n == 1 and inner.p[0] == 0x2A
    cdef ByteSpan span
    cdef int i
    if not star and not is_action(inner.p, n):
        return "scope: not an action"
    set_span(&span, base, &inner)
    for i in range(out.action_count):
        if star or base[out.actions[i].at] == 0x2A:
            return "scope: * stands alone"
        if _same_span(base, &span, &out.actions[i]):
            return "scope: an action is repeated"
    out.actions[out.action_count] = span
    out.action_count += 1
    return NULL


cdef const char *_check_free(WireReader others, const WireReader *path, uint8_t source) noexcept nogil:
    """Validate a free path: its source, and no duplicate in `others`, a reader after the tag of the first."""
    cdef WireReader other
    cdef size_t n = path.end - path.p
    if source != SOURCE_ARGS and source != SOURCE_ELEMENTS and source != SOURCE_UNKNOWN:
        return "scope: only arguments are free"
    # Equal bytes mean the same path: a path has one encoding, and it includes the number of an unknown source.
    while read_bytes(&others, &other) and other.p != path.p:
        if <size_t> (other.end - other.p) == n and memcmp(other.p, path.p, n) == 0:
            return "scope: a free argument is repeated"
        others.p += 1       # the tag of the next
    return NULL


cdef const char *parse_scopes(
    WireReader *reader, uint32_t number, int limit, Arena *arena, ScopeList *out
) noexcept nogil:
    """Read one element of a repeated Scope. The first one allocates memory for all."""
    cdef WireReader inner
    cdef const char *wrong
    cdef int count = out.count + out.exceptions
    if out.scopes == NULL:
        wrong = take_run(reader[0], number, limit, sizeof(Scope), arena, <void **> &out.scopes, "scopes: at most 64")
        if wrong != NULL:
            return wrong
    if not read_bytes(reader, &inner) or count == limit:
        return "scopes: length"
    wrong = parse_scope(inner, out.base, arena, &out.scopes[count])
    if wrong != NULL:
        return wrong
    if out.scopes[count].exception:
        out.exceptions += 1
    elif out.exceptions:
        return "scopes: exceptions stand last"
    else:
        out.count += 1
    return NULL


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


cdef const char *_parse_where(WireReader *reader, Arena *arena, Block *out) noexcept nogil:
    """Read one condition of a block. The first one allocates memory for all."""
    cdef WireReader inner
    cdef const char *wrong
    if out.where == NULL:
        wrong = take_run(
            reader[0], FIELD_WHERE, MAX_CONDITIONS, sizeof(Condition), arena, <void **> &out.where, MANY_CONDITIONS
        )
        if wrong != NULL:
            return wrong
    if not read_bytes(reader, &inner):
        return "where: condition"
    wrong = parse_condition(inner, out.scopes.base, arena, &out.where[out.where_count])
    out.where_count += 1
    return wrong


cdef void _clear(bytes_t base, Block *out) noexcept nogil:
    out.issued_at_ms = 0
    out.expires_at_ms = 0
    out.not_before_ms = 0
    out.scopes.scopes = NULL
    out.scopes.count = 0
    out.scopes.exceptions = 0
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
            if wrong == NULL and out.scopes.exceptions:
                wrong = "scopes: an exception stands in a ceiling alone"
        elif number == FIELD_WHERE:
            wrong = _parse_where(&reader, arena, out)
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

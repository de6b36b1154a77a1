"""The parser of conditions and their values (docs/token-format.md, sections 6.1 and 7).

It validates and compiles them; ``scopes/match`` evaluates them.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp


# Values.

cdef const char *parse_number_message(WireReader reader, int64_t *units, uint32_t *nanos) noexcept nogil:
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef uint64_t value
    units[0] = 0
    nanos[0] = 0
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number <= last or number > 2 or wire != WIRE_VARINT:
            return "number: fields"
        last = number
        if not read_varint(&reader, &value) or value == 0:
            return "number: not in shortest form"
        if number == 1:
            units[0] = unzigzag(value)
        elif value >= 1000000000:
            return "number: nanos of a whole or more"
        else:
            nanos[0] = <uint32_t> value
    return NULL


# Parsers return NULL, or the fault. Spans are relative to `base`.
cdef const char *parse_value(WireReader reader, bytes_t base, Value *out) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint64_t value
    cdef const char *wrong
    cdef uint8_t plain
    out.truth = 0
    out.units = 0
    out.nanos = 0
    out.text.at = 0
    out.text.n = 0
    if reader.p >= reader.end or not read_tag(&reader, &number, &wire):
        return "value: no member"
    if number == 1 and wire == WIRE_BYTES:
        out.type = TYPE_TEXT
        if not read_bytes(&reader, &inner) or inner.end - inner.p > MAX_STRING_BYTES:
            return "value: a text has at most 1024 bytes"
        if not utf8_valid(inner.p, inner.end - inner.p):
            return "value: not UTF-8"
        set_span(&out.text, base, &inner)
    elif number == 2 and wire == WIRE_BYTES:
        out.type = TYPE_NUMBER
        if not read_bytes(&reader, &inner):
            return "value: number"
        wrong = parse_number_message(inner, &out.units, &out.nanos)
        if wrong != NULL:
            return wrong
    elif number == 3 and wire == WIRE_VARINT:
        out.type = TYPE_TRUTH
        if not read_varint(&reader, &value) or value > 1:
            return "value: truth"
        out.truth = <uint8_t> value
    elif 4 <= number <= 6 and wire == WIRE_BYTES:
        if not read_bytes(&reader, &inner) or inner.end - inner.p > MAX_STRING_BYTES:
            return "value: at most 1024 bytes"
        set_span(&out.text, base, &inner)
        if number == 4:
            out.type = TYPE_DECIMAL
            if not is_canonical_decimal(inner.p, inner.end - inner.p):
                return "value: decimal"
        elif number == 6:
            out.type = TYPE_DIGEST
            if inner.end - inner.p != DIGEST_BYTES:
                return "value: a digest has 32 bytes"
        else:
            out.type = TYPE_JSON
            if not is_json_form(inner.p, inner.end - inner.p, &plain):
                return "value: json"
            out.truth = plain
    else:
        return "value: unknown field"
    if reader.p != reader.end:
        return "value: more than one member"
    return NULL


# The type that all values of one condition share.
cdef uint8_t kind_of(const Value *value) noexcept nogil:
    if value.type == TYPE_DECIMAL:
        return TYPE_NUMBER
    return TYPE_JSON if value.type == TYPE_DIGEST else value.type


cdef bint same_value(bytes_t base, const Value *a, const Value *b) noexcept nogil:
    if a.type != b.type:
        return 0
    if a.type != TYPE_NUMBER and a.type != TYPE_TRUTH:
        return a.text.n == b.text.n and memcmp(base + a.text.at, base + b.text.at, a.text.n) == 0
    return a.truth == b.truth and a.units == b.units and a.nanos == b.nanos


cdef const char *NO_MEMORY = "out of memory"


cdef const char *take_run(
    WireReader reader, uint32_t number, int limit, size_t size, Arena *arena, void **out, const char *too_many
) noexcept nogil:
    cdef WireReader element
    cdef uint8_t tag = <uint8_t> (number << 3 | WIRE_BYTES)
    cdef int total = 0
    while read_bytes(&reader, &element):
        total += 1
        if reader.p == reader.end or reader.p[0] != tag:
            break
        reader.p += 1
    if not 1 <= total <= limit:
        return too_many
    out[0] = arena_take(arena, total * size)
    return NO_MEMORY if out[0] == NULL else NULL


cdef const char *parse_path(WireReader reader, bytes_t base, Path *out) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef uint64_t value
    out.source = SOURCE_UNKNOWN
    out.count = 0
    out.first.at = 0
    out.first.n = 0
    cdef bint stated = 0
    cdef bint known, element
    cdef bint elements = 0
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number < last or (number == last and number != 2):
            return "path: fields out of order"
        last = number
        if number == 1:
            if wire != WIRE_VARINT or not read_varint(&reader, &value) or value == 0 or value > 0x7FFFFFFFULL:
                return "path: source"
            stated = 1
            known = value <= SOURCE_TOOL or value == SOURCE_ELEMENTS
            out.source = <uint8_t> value if known else SOURCE_UNKNOWN
        elif number == 2 and wire == WIRE_BYTES:
            if out.count == MAX_PATH_SEGMENTS:
                return "path: 1 to 8 segments"
            if not read_bytes(&reader, &inner):
                return "path: segment"
            if not 1 <= inner.end - inner.p <= MAX_STRING_BYTES or not utf8_valid(inner.p, inner.end - inner.p):
                return "path: a segment is 1 to 1024 bytes of UTF-8"
            if out.count == 0:
                set_span(&out.first, base, &inner)
            out.count += 1
            if out.source == SOURCE_ELEMENTS:
                element = inner.end - inner.p == 2 and inner.p[0] == 0x5B and inner.p[1] == 0x5D
                elements |= element
                if inner.p[0] != 0x2E and (out.count == 1 or not element):
                    return "path: a segment of elements is [] or a name behind a ."
        else:
            return "path: unknown field"
    if not stated or out.count == 0:
        return "path: a source and 1 to 8 segments"
    if out.source == SOURCE_SESSION and out.count != 1:
        return "path: a session path has one segment"
    if out.source == SOURCE_ELEMENTS and not elements:
        return "path: no elements"
    return NULL


cdef const char *parse_condition(WireReader reader, bytes_t base, Arena *arena, Condition *out) noexcept nogil:
    cdef WireReader inner
    cdef uint32_t number, wire
    cdef uint32_t last = 0
    cdef uint64_t value = 0
    cdef bint has_path = 0
    cdef bint has_operator = 0
    cdef bint known
    cdef const char *wrong
    out.op = OP_UNKNOWN
    out.accessor = ACCESSOR_NONE
    out.quantifier = QUANTIFIER_NONE
    out.optional = 0
    out.count = 0
    out.shape = SHAPE_OTHER
    out.fact.at = 0
    out.fact.n = 0
    out.values = NULL
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire) or number < last or (number == last and number != 3):
            return "condition: fields out of order"
        if number == 8 or number > 9:
            return "condition: unknown field"
        last = number
        if number == 1 or number == 3 or number == 4:
            if wire != WIRE_BYTES:
                return "condition: wire type"
            if number == 3 and out.values == NULL:
                wrong = take_run(
                    reader, 3, MAX_VALUES, sizeof(Value), arena, <void **> &out.values, "condition: at most 64 values"
                )
                if wrong != NULL:
                    return wrong
            if not read_bytes(&reader, &inner):
                return "condition: length"
            if number == 1:
                wrong = parse_path(inner, base, &out.path)
                has_path = 1
            elif number == 3:
                if out.count == MAX_VALUES:
                    return "condition: at most 64 values"
                wrong = parse_value(inner, base, &out.values[out.count])
                out.count += 1
            else:
                if not is_fact_name(inner.p, inner.end - inner.p):
                    return "condition: fact name"
                wrong = NULL
                set_span(&out.fact, base, &inner)
            if wrong != NULL:
                return wrong
            continue
        if wire != WIRE_VARINT or not read_varint(&reader, &value) or value == 0 or value > 0x7FFFFFFFULL:
            return "condition: varint"
        if number == 2:
            has_operator = 1
            known = value <= OP_ABSENT or OP_NOT_STARTS_WITH <= value <= OP_NOT_CIDR
            out.op = <uint8_t> value if known else OP_UNKNOWN
        elif number == 5:
            known = value <= ACCESSOR_PORT or ACCESSOR_PATH <= value <= ACCESSOR_LENGTH
            out.accessor = <uint8_t> value if known else ACCESSOR_UNKNOWN
        elif value != 1:
            return "condition: not a bool"
        elif number == 6:
            out.quantifier = QUANTIFIER_EACH
        elif number == 7:
            out.optional = 1
        elif out.quantifier:
            return "condition: each and any exclude each other"
        else:
            out.quantifier = QUANTIFIER_ANY
    if not has_path or not has_operator:
        return "condition: a path and an operator"
    wrong = _check_operand(out, base)
    if wrong == NULL:
        out.shape = _shape(out)
    return wrong


cdef uint8_t _shape(const Condition *c) noexcept nogil:
    cdef int i
    if c.path.source != SOURCE_ARGS or c.path.count != 1 or c.accessor != ACCESSOR_NONE or c.quantifier or c.count == 0:
        return SHAPE_OTHER
    for i in range(c.count):
        if c.values[i].type > TYPE_TRUTH:
            return SHAPE_OTHER
    if c.op == OP_EQUAL or c.op == OP_IN:
        return SHAPE_EQUALS
    if OP_LESS <= c.op <= OP_GREATER_EQUAL and c.values[0].type == TYPE_NUMBER:
        return SHAPE_ORDER
    return SHAPE_OTHER


cdef bint negate(Condition *c) noexcept nogil:
    cdef uint8_t negated
    if c.path.source == SOURCE_ELEMENTS and (c.quantifier == QUANTIFIER_EACH or c.op == OP_SUBSET_OF):
        return 0
    if c.op == OP_SUBSET_OF:
        negated = OP_NOT_IN
    elif c.op == OP_LESS or c.op == OP_LESS_EQUAL:
        negated = c.op - OP_LESS + OP_GREATER_EQUAL if c.op == OP_LESS else OP_GREATER
    elif c.op == OP_GREATER or c.op == OP_GREATER_EQUAL:
        negated = OP_LESS_EQUAL if c.op == OP_GREATER else OP_LESS
    elif c.op == OP_EQUAL or c.op == OP_IN or c.op == OP_PRESENT:
        negated = c.op + 1
    elif c.op == OP_NOT_EQUAL or c.op == OP_NOT_IN or c.op == OP_ABSENT:
        negated = c.op - 1
    elif is_exclusion(c):
        negated = compared_by(c)
    elif OP_STARTS_WITH <= c.op <= OP_CIDR:
        negated = c.op - OP_STARTS_WITH + OP_NOT_STARTS_WITH
    else:
        negated = OP_UNKNOWN
    if c.quantifier == QUANTIFIER_ANY:
        c.quantifier = QUANTIFIER_NONE if c.path.source == SOURCE_ELEMENTS else QUANTIFIER_EACH
    elif c.quantifier == QUANTIFIER_EACH or c.op == OP_SUBSET_OF or c.path.source == SOURCE_ELEMENTS:
        c.quantifier = QUANTIFIER_ANY
    c.optional = not (c.optional or c.op == OP_PRESENT or c.op == OP_ABSENT)
    c.op = negated
    c.shape = _shape(c)
    return 1


cdef const char *_check_operand(Condition *c, bytes_t base) noexcept nogil:
    cdef int i, j
    cdef uint8_t type
    cdef uint8_t op = compared_by(c)
    cdef bytes_t text
    cdef Address network
    cdef int length
    if c.count and c.fact.n:
        return "condition: values and a fact exclude each other"
    for i in range(1, c.count):
        if kind_of(&c.values[i]) != kind_of(&c.values[0]):
            return "condition: values of more than one type"
    type = kind_of(&c.values[0]) if c.count else 0
    if type == TYPE_JSON and not _stands_as_json(c):
        return "condition: JSON values that are all texts, numbers or truths"
    if c.op == OP_UNKNOWN:
        return NULL
    if type == TYPE_JSON:
        if c.op > OP_NOT_IN and c.op != OP_SUBSET_OF:
            return "condition: JSON values have no order and no parts"
        if c.path.source == SOURCE_SESSION or 0 < c.accessor < ACCESSOR_UNKNOWN:
            return "condition: JSON values are compared with arguments and tool properties alone"
    if c.op == OP_PRESENT or c.op == OP_ABSENT:
        if c.count or c.fact.n or c.accessor != ACCESSOR_NONE or c.quantifier or c.optional:
            return "condition: present and absent stand alone"
        return NULL
    if c.fact.n:
        if op == OP_IN or op == OP_NOT_IN or op == OP_GLOB or op == OP_CIDR or op == OP_SUBSET_OF:
            return "condition: this operator takes no fact"
    elif c.count == 0:
        return "condition: no operand"
    if c.op == OP_SUBSET_OF and (c.accessor != ACCESSOR_NONE or c.quantifier):
        return "condition: subset_of takes no accessor, no each and no any"
    if c.op <= OP_NOT_EQUAL or OP_LESS <= c.op <= OP_GREATER_EQUAL:
        if c.count > 1:
            return "condition: this operator takes one value"
        if c.op >= OP_LESS and type == TYPE_TRUTH:
            return "condition: truths have no order"
        return NULL
    if c.op == OP_IN or c.op == OP_NOT_IN or c.op == OP_SUBSET_OF:
        for i in range(c.count):
            for j in range(i):
                if same_value(base, &c.values[i], &c.values[j]):
                    return "condition: a value is repeated"
        return NULL
    if c.count and type != TYPE_TEXT:
        return "condition: this operator takes texts"
    for i in range(c.count):
        text = base + c.values[i].text.at
        if op == OP_GLOB and not is_glob(text, c.values[i].text.n):
            return "condition: not a glob pattern"
        if op == OP_UNDER and not is_clean_path(text, c.values[i].text.n):
            return "condition: not a clean path"
        if op == OP_CIDR and not parse_cidr(text, c.values[i].text.n, &network, &length):
            return "condition: not a CIDR"
    return NULL


cdef bint _stands_as_json(const Condition *c) noexcept nogil:
    """Return 1 unless all JSON values are texts, all numbers or all truths."""
    cdef int i
    for i in range(c.count):
        if not c.values[i].truth or c.values[i].truth != c.values[0].truth:
            return 1
    return 0


cdef const char *parse_facts(
    WireReader reader, bytes_t base, Arena *arena, uint32_t number, Fact **out, int *count
) noexcept nogil:
    """Read the repeated Fact in field `number` of a validated record."""
    cdef WireReader field, inner
    cdef uint32_t tag, wire
    cdef uint64_t value
    cdef const char *wrong
    cdef Fact *fact
    out[0] = NULL
    count[0] = 0
    while reader.p < reader.end:
        if not read_tag(&reader, &tag, &wire):
            return "record: tag"
        if wire == WIRE_VARINT:
            if not read_varint(&reader, &value):
                return "record: varint"
            continue
        if tag == number and out[0] == NULL:
            wrong = take_run(
                reader, number, MAX_FACTS, sizeof(Fact), arena, <void **> out, "record: at most 32 facts"
            )
            if wrong != NULL:
                return wrong
        if wire != WIRE_BYTES or not read_bytes(&reader, &field):
            return "record: length"
        if tag != number:
            continue
        if count[0] == MAX_FACTS:
            return "record: at most 32 facts"
        fact = &out[0][count[0]]
        count[0] += 1
        fact.visible = 0
        fact.name.n = 0
        fact.value.type = TYPE_NO_VALUE
        while field.p < field.end:
            if not read_tag(&field, &tag, &wire):
                return "fact: tag"
            if tag == 3 and wire == WIRE_VARINT and read_varint(&field, &value):
                fact.visible = 1
            elif tag <= 2 and wire == WIRE_BYTES and read_bytes(&field, &inner):
                if tag == 1:
                    set_span(&fact.name, base, &inner)
                else:
                    wrong = parse_value(inner, base, &fact.value)
                    if wrong != NULL:
                        return wrong
                    if fact.value.type > TYPE_TRUTH:
                        return "fact: a text, a number or a truth"
            else:
                return "fact: fields"
    return NULL

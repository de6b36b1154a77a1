"""Parses and validates values (docs/token-format.md, section 7)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp


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

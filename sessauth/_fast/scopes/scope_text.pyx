"""The reader of common scope text into canonical bytes (docs/token-format.md, section 11).

``scopes/parser.py`` is the authority. It reads what is rare, and alone says where a text is wrong. This reader writes
each message directly, in the order of the text, and leaves every rule beyond the grammar to the check of the form.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memmove, strlen

from sessauth._fast._check cimport (
    ACCESSOR_COUNT,
    ACCESSOR_DOMAIN,
    ACCESSOR_HOST,
    ACCESSOR_LENGTH,
    ACCESSOR_NONE,
    ACCESSOR_PATH,
    ACCESSOR_PORT,
    ACCESSOR_SCHEME,
    OP_ABSENT,
    OP_CIDR,
    OP_EQUAL,
    OP_GLOB,
    OP_GREATER,
    OP_GREATER_EQUAL,
    OP_IN,
    OP_LESS,
    OP_LESS_EQUAL,
    OP_NOT_CIDR,
    OP_NOT_EQUAL,
    OP_NOT_GLOB,
    OP_NOT_IN,
    OP_NOT_STARTS_WITH,
    OP_NOT_UNDER,
    OP_PRESENT,
    OP_STARTS_WITH,
    OP_SUBSET_OF,
    OP_UNDER,
    OP_UNKNOWN,
    SEGMENT_ANY,
    SEGMENT_LITERAL,
    SEGMENT_ONE_OF,
    SEGMENT_PREFIX,
    SEGMENT_REST,
    SOURCE_ARGS,
    SOURCE_ELEMENTS,
    SOURCE_SESSION,
    SOURCE_TOOL,
    WIRE_BYTES,
    WIRE_VARINT,
    decode_body,
    hex4,
    is_digit,
    is_letter,
    parse_number,
    put_utf8,
)

cdef enum:
    # Most characters of a text, and bytes of a message; as in scopes/parser.py and check_scope.
    MAX_TEXT_CHARS = 65536
    MAX_MESSAGE_BYTES = 0xFFFF
    FIRST_ROOM = 512
    # Longer spellings of zero may have an exponent that Python's Decimal refuses.
    MAX_ZERO_CHARS = 20
    KEY_CHARS = 43
    KEY_BYTES = 32

cdef struct TextReader:
    bytes_t p
    bytes_t end
    unsigned char *out
    size_t used
    size_t room

cdef bytes_t EMPTY = <bytes_t> ""
cdef bytes_t DOT = <bytes_t> "."
cdef bytes_t ELEMENT = <bytes_t> "[]"
cdef bytes_t UNDERSCORE = <bytes_t> "_"

ctypedef bint (*read_rule)(TextReader *reader) noexcept nogil


def scope_from_text(str text not None):
    """Return the canonical bytes of message ``Scope``, or None for a text that only the Python parser may read."""
    cdef bytes scope = _message_of(text, _scope_rule)
    if scope is not None:
        try:
            check_scope(scope)
        except FormError:
            return None
    return scope


def condition_from_text(str text not None):
    """Return the canonical bytes of message ``Condition``, or None for a text that only the Python parser may read."""
    cdef bytes condition = _message_of(text, _condition_rule)
    if condition is not None:
        try:
            check_condition(condition)
        except FormError:
            return None
    return condition


cdef bytes _message_of(str text, read_rule rule):
    cdef TextReader reader
    cdef Py_ssize_t n
    if len(text) > MAX_TEXT_CHARS:
        return None
    try:
        reader.p = <bytes_t> PyUnicode_AsUTF8AndSize(text, &n)
    except UnicodeEncodeError:
        return None
    reader.end = reader.p + n
    reader.out = NULL
    reader.used = 0
    reader.room = 0
    try:
        if rule(&reader) and reader.p == reader.end:
            return PyBytes_FromStringAndSize(<const char *> reader.out, reader.used)
        return None
    finally:
        free(reader.out)


# Output. Each returns 0 without memory, or beyond the largest message.

cdef bint _make_room(TextReader *reader, size_t n) noexcept nogil:
    cdef size_t room
    cdef void *grown
    if reader.room - reader.used >= n:
        return 1
    if reader.used + n > MAX_MESSAGE_BYTES:
        return 0
    room = max(<size_t> FIRST_ROOM, 2 * (reader.used + n))
    grown = realloc(reader.out, room)
    if grown == NULL:
        return 0
    reader.out = <unsigned char *> grown
    reader.room = room
    return 1


cdef bint _write_varint(TextReader *reader, uint64_t value) noexcept nogil:
    if not _make_room(reader, 10):
        return 0
    while value >= 0x80:
        reader.out[reader.used] = <unsigned char> (value & 0x7F) | 0x80
        reader.used += 1
        value >>= 7
    reader.out[reader.used] = <unsigned char> value
    reader.used += 1
    return 1


cdef bint _write_field(TextReader *reader, uint32_t number, uint64_t value) noexcept nogil:
    return _write_varint(reader, number << 3 | WIRE_VARINT) and _write_varint(reader, value)


cdef bint _write_bytes(TextReader *reader, uint32_t number, bytes_t p, size_t n) noexcept nogil:
    if not _write_varint(reader, number << 3 | WIRE_BYTES) or not _write_varint(reader, n):
        return 0
    if not _make_room(reader, n):
        return 0
    memcpy(reader.out + reader.used, p, n)
    reader.used += n
    return 1


cdef size_t _open(TextReader *reader, uint32_t number) noexcept nogil:
    """Begin a field of bytes, with room for a length below 128. Return where it begins, 0 for a failure."""
    if not _write_varint(reader, number << 3 | WIRE_BYTES) or not _write_varint(reader, 0):
        return 0
    return reader.used


cdef bint _end(TextReader *reader, size_t start) noexcept nogil:
    """Write the length of the field that began at ``start``."""
    cdef size_t n = reader.used - start
    cdef size_t more = (n >= 0x80) + (n >= 0x4000)
    if not _make_room(reader, more):
        return 0
    if more:
        memmove(reader.out + start + more, reader.out + start, n)
    reader.used = start - 1
    if not _write_varint(reader, n):
        return 0
    reader.used += n
    return 1


# Tokens.

cdef inline bint _literally(TextReader *reader, const char *word) noexcept nogil:
    """Read ``word`` if it comes next."""
    cdef size_t n = strlen(word)
    if <size_t> (reader.end - reader.p) < n or memcmp(reader.p, word, n) != 0:
        return 0
    reader.p += n
    return 1


cdef inline bint _in_ident(unsigned char c) noexcept nogil:
    return is_letter(c) or is_digit(c) or c == 0x5F or c == 0x2D


cdef inline bint _spaces(TextReader *reader) noexcept nogil:
    cdef bytes_t start = reader.p
    while reader.p < reader.end and reader.p[0] == 0x20:
        reader.p += 1
    return reader.p > start


cdef bint _spaced_word(TextReader *reader, const char *word) noexcept nogil:
    """Read spaces and then ``word``; read nothing unless both come next. No letter may follow any word later on."""
    cdef bytes_t start = reader.p
    if _spaces(reader) and _literally(reader, word):
        return 1
    reader.p = start
    return 0


cdef inline bint _comma(TextReader *reader) noexcept nogil:
    if not _literally(reader, ","):
        return 0
    _spaces(reader)
    return 1


cdef bint _string_text(TextReader *reader, uint32_t number, bytes_t prefix, size_t prefix_n) noexcept nogil:
    """Read a JSON string into a field of bytes, after a prefix."""
    cdef size_t start
    cdef unsigned char c
    cdef unsigned char *to
    cdef uint32_t code, low
    if reader.p == reader.end or reader.p[0] != 0x22:
        return 0
    reader.p += 1
    start = _open(reader, number)
    # Unescaped text is never longer than its escaped form.
    if not start or not _make_room(reader, prefix_n + _closing_quote(reader)):
        return 0
    to = reader.out + start
    memcpy(to, prefix, prefix_n)
    to += prefix_n
    while reader.p < reader.end:
        c = reader.p[0]
        reader.p += 1
        if c == 0x22:
            reader.used = to - reader.out
            return _end(reader, start)
        if c < 0x20:
            return 0
        if c == 0x5C:
            if reader.p == reader.end:
                return 0
            c = reader.p[0]
            reader.p += 1
            if c == 0x75:
                if not hex4(reader.p, reader.end, &code) or 0xDC00 <= code <= 0xDFFF:
                    return 0
                reader.p += 4
                if 0xD800 <= code <= 0xDBFF:
                    if not _literally(reader, "\\u") or not hex4(reader.p, reader.end, &low):
                        return 0
                    if not 0xDC00 <= low <= 0xDFFF:
                        return 0
                    reader.p += 4
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                to = put_utf8(to, code)
                continue
            if c == 0x62:
                c = 0x08
            elif c == 0x66:
                c = 0x0C
            elif c == 0x6E:
                c = 0x0A
            elif c == 0x72:
                c = 0x0D
            elif c == 0x74:
                c = 0x09
            elif c != 0x22 and c != 0x5C and c != 0x2F:
                return 0
        to[0] = c
        to += 1
    return 0


cdef size_t _closing_quote(const TextReader *reader) noexcept nogil:
    """Return the number of bytes before the end of the string that began."""
    cdef bytes_t p = reader.p
    while p < reader.end and p[0] != 0x22:
        p += 2 if p[0] == 0x5C else 1
    return min(p, reader.end) - reader.p


cdef bint _name_text(TextReader *reader, uint32_t number, bytes_t prefix, size_t prefix_n) noexcept nogil:
    """Read an identifier or a string into a field of bytes, after a prefix."""
    cdef bytes_t start = reader.p
    cdef size_t field
    if reader.p == reader.end or not (is_letter(reader.p[0]) or reader.p[0] == 0x5F):
        return _string_text(reader, number, prefix, prefix_n)
    while reader.p < reader.end and _in_ident(reader.p[0]):
        reader.p += 1
    field = _open(reader, number)
    if not field or not _make_room(reader, prefix_n + (reader.p - start)):
        return 0
    memcpy(reader.out + reader.used, prefix, prefix_n)
    memcpy(reader.out + reader.used + prefix_n, start, reader.p - start)
    reader.used += prefix_n + (reader.p - start)
    return _end(reader, field)


cdef bint _number_text(TextReader *reader, uint32_t number) noexcept nogil:
    """Read a number into a field of message ``Number``."""
    cdef int64_t units
    cdef uint32_t nanos
    cdef size_t n
    cdef size_t start
    if parse_number(reader.p, reader.end - reader.p, &units, &nanos, &n) != 1:
        return 0
    if units == 0 and nanos == 0 and n > MAX_ZERO_CHARS:
        return 0
    reader.p += n
    start = _open(reader, number)
    if not start:
        return 0
    if units and not _write_field(reader, 1, (<uint64_t> units << 1) ^ <uint64_t> (units >> 63)):
        return 0
    if nanos and not _write_field(reader, 2, nanos):
        return 0
    return _end(reader, start)


cdef bint _integer(TextReader *reader, uint64_t highest, uint64_t *value) noexcept nogil:
    """Read a whole number from 1."""
    cdef uint64_t digit
    value[0] = 0
    while reader.p < reader.end and is_digit(reader.p[0]):
        digit = reader.p[0] - 0x30
        if value[0] == 0 and digit == 0 or value[0] > (highest - digit) // 10:
            return 0
        value[0] = 10 * value[0] + digit
        reader.p += 1
    return value[0] != 0


# Paths.

cdef bint _path(TextReader *reader, uint32_t number) noexcept nogil:
    """Read a path into a field of message ``Path``; again, with other segments, once it turns out to have ``[]``."""
    cdef bytes_t begin = reader.p
    cdef size_t before = reader.used
    cdef int ended = _path_of(reader, number, 0)
    if ended != -1:
        return ended
    reader.p = begin
    reader.used = before
    return _path_of(reader, number, 1) == 1


cdef int _path_of(TextReader *reader, uint32_t number, bint elements) noexcept nogil:
    """Return 1, 0 for no path, or -1 for one of elements unless it is read as such."""
    cdef int source = SOURCE_ARGS
    cdef size_t start = _open(reader, number)
    if not start:
        return 0
    if _literally(reader, "session."):
        source = SOURCE_SESSION
    elif _literally(reader, "tool."):
        source = SOURCE_TOOL
    else:
        _literally(reader, "args.")
    if not _write_field(reader, 1, SOURCE_ELEMENTS if elements else source):
        return 0
    if not _name_text(reader, 2, DOT, elements):
        return 0
    while True:
        if source == SOURCE_ARGS and _literally(reader, "[]"):
            if not elements:
                return -1
            if not _write_bytes(reader, 2, ELEMENT, 2):
                return 0
        elif not _literally(reader, "."):
            return _end(reader, start)
        elif not _name_text(reader, 2, DOT, elements):
            return 0


# Conditions.

cdef bint _condition_rule(TextReader *reader) noexcept nogil:
    cdef bint each = _literally(reader, "each(")
    cdef bint of_any = not each and _literally(reader, "any(")
    cdef bint optional
    cdef int accessor = ACCESSOR_NONE
    cdef int op
    if _literally(reader, "count("):
        accessor = ACCESSOR_COUNT
    elif _literally(reader, "host("):
        accessor = ACCESSOR_HOST
    elif _literally(reader, "scheme("):
        accessor = ACCESSOR_SCHEME
    elif _literally(reader, "port("):
        accessor = ACCESSOR_PORT
    elif _literally(reader, "path("):
        accessor = ACCESSOR_PATH
    elif _literally(reader, "domain("):
        accessor = ACCESSOR_DOMAIN
    elif _literally(reader, "length("):
        accessor = ACCESSOR_LENGTH
    if not _path(reader, 1):
        return 0
    optional = _literally(reader, "?")
    if accessor and not _literally(reader, ")") or (each or of_any) and not _literally(reader, ")") or not _spaces(reader):
        return 0
    op = _operator(reader)
    if op == OP_UNKNOWN or not _write_field(reader, 2, op):
        return 0
    if op != OP_PRESENT and op != OP_ABSENT and not (_spaces(reader) and _operand(reader, op)):
        return 0
    if accessor and not _write_field(reader, 5, accessor):
        return 0
    if each and not _write_field(reader, 6, 1):
        return 0
    if optional and not _write_field(reader, 7, 1):
        return 0
    return not of_any or _write_field(reader, 9, 1)


cdef int _operator(TextReader *reader) noexcept nogil:
    if _literally(reader, "=="):
        return OP_EQUAL
    if _literally(reader, "!="):
        return OP_NOT_EQUAL
    if _literally(reader, "<="):
        return OP_LESS_EQUAL
    if _literally(reader, ">="):
        return OP_GREATER_EQUAL
    if _literally(reader, "<"):
        return OP_LESS
    if _literally(reader, ">"):
        return OP_GREATER
    if _literally(reader, "in"):
        return OP_IN
    if _literally(reader, "not"):
        if _spaced_word(reader, "in"):
            return OP_NOT_IN
        if _spaced_word(reader, "starts_with"):
            return OP_NOT_STARTS_WITH
        if _spaced_word(reader, "glob"):
            return OP_NOT_GLOB
        if _spaced_word(reader, "under"):
            return OP_NOT_UNDER
        return OP_NOT_CIDR if _spaced_word(reader, "cidr") else OP_UNKNOWN
    if _literally(reader, "present"):
        return OP_PRESENT
    if _literally(reader, "absent"):
        return OP_ABSENT
    if _literally(reader, "starts_with"):
        return OP_STARTS_WITH
    if _literally(reader, "under"):
        return OP_UNDER
    if _literally(reader, "glob"):
        return OP_GLOB
    if _literally(reader, "cidr"):
        return OP_CIDR
    return OP_SUBSET_OF if _literally(reader, "subset_of") else OP_UNKNOWN


cdef bint _operand(TextReader *reader, int op) noexcept nogil:
    cdef bytes_t start
    if op != OP_IN and op != OP_NOT_IN and op != OP_GLOB and op != OP_CIDR and op != OP_SUBSET_OF:
        if _literally(reader, "session."):
            start = reader.p
            while reader.p < reader.end and _in_ident(reader.p[0]) and reader.p[0] != 0x2D:
                reader.p += 1
            return reader.p > start and not is_digit(start[0]) and _write_bytes(reader, 4, start, reader.p - start)
    if op < OP_STARTS_WITH and op != OP_IN and op != OP_NOT_IN or not _literally(reader, "["):
        return op != OP_IN and op != OP_NOT_IN and op != OP_SUBSET_OF and _value(reader)
    if not _value(reader):
        return 0
    while _comma(reader):
        if not _value(reader):
            return 0
    return _literally(reader, "]")


cdef bint _value(TextReader *reader) noexcept nogil:
    """Read a text, a truth or a number. The check refuses long texts and mixed kinds, which are JSON for equality."""
    cdef size_t start = _open(reader, 3)
    if not start or reader.p == reader.end:
        return 0
    if reader.p[0] == 0x22:
        if not _string_text(reader, 1, EMPTY, 0):
            return 0
    elif _literally(reader, "true"):
        if not _write_field(reader, 3, 1):
            return 0
    elif _literally(reader, "false"):
        if not _write_field(reader, 3, 0):
            return 0
    elif not _number_text(reader, 2):
        return 0
    return _end(reader, start)


# Scopes.

cdef bint _scope_rule(TextReader *reader) noexcept nogil:
    cdef bint closed = 0
    cdef bint exception = _exception_word(reader)
    if not _action(reader):
        return 0
    while _literally(reader, ","):
        if not _action(reader):
            return 0
    if not _literally(reader, ":") or not _segment(reader):
        return 0
    while _literally(reader, "/"):
        if not _segment(reader):
            return 0
    if _spaced_word(reader, "where"):
        closed = _no_arguments(reader)
        if not closed and not _next_condition(reader):
            return 0
        while not closed and _spaced_word(reader, "and"):
            if not _next_condition(reader):
                return 0
    if not closed and _spaced_word(reader, "free") and not _free(reader):
        return 0
    if _spaced_word(reader, "needs") and not (_spaces(reader) and _needs(reader)):
        return 0
    return not exception or _write_field(reader, 7, 1)


cdef bint _exception_word(TextReader *reader) noexcept nogil:
    """Read the word before an exception. Without the space it may be an action."""
    cdef bytes_t start = reader.p
    if _literally(reader, "except") and _spaces(reader):
        return 1
    reader.p = start
    return 0


cdef bint _action(TextReader *reader) noexcept nogil:
    cdef bytes_t start = reader.p
    if _literally(reader, "*"):
        return _write_bytes(reader, 1, start, 1)
    while reader.p < reader.end and (_in_ident(reader.p[0]) or reader.p[0] == 0x2E):
        reader.p += 1
    return reader.p > start and _write_bytes(reader, 1, start, reader.p - start)


cdef bint _segment(TextReader *reader) noexcept nogil:
    cdef size_t start = _open(reader, 2)
    cdef size_t kind
    if not start:
        return 0
    if _literally(reader, "**"):
        return _write_field(reader, 1, SEGMENT_REST) and _end(reader, start)
    if _literally(reader, "*"):
        return _write_field(reader, 1, SEGMENT_ANY) and _end(reader, start)
    if not _write_field(reader, 1, SEGMENT_LITERAL):
        return 0
    kind = reader.used - 1
    if _literally(reader, "{"):
        reader.out[kind] = SEGMENT_ONE_OF
        if not _literal(reader):
            return 0
        while _literally(reader, ","):
            if not _literal(reader):
                return 0
        return _literally(reader, "}") and _end(reader, start)
    if not _literal(reader):
        return 0
    if _literally(reader, "*"):
        reader.out[kind] = SEGMENT_PREFIX
    return _end(reader, start)


cdef bint _literal(TextReader *reader) noexcept nogil:
    cdef bytes_t start = reader.p
    cdef unsigned char c
    while reader.p < reader.end:
        c = reader.p[0]
        if c == 0x20 or c == 0x22 or c == 0x2F or c == 0x2C or c == 0x2A or c == 0x7B or c == 0x7D:
            break
        reader.p += 1
    if reader.p == start:
        return _string_text(reader, 2, EMPTY, 0)
    return _write_bytes(reader, 2, start, reader.p - start)


cdef bint _no_arguments(TextReader *reader) noexcept nogil:
    """Read ``no arguments``, or nothing: ``no`` may be an argument's name."""
    cdef bytes_t start = reader.p
    cdef size_t where, path
    if not _spaced_word(reader, "no") or not _spaced_word(reader, "arguments"):
        reader.p = start
        return 0
    # The condition `_ absent`. Without memory the words are read as a condition, which they are not.
    where = _open(reader, 3)
    path = _open(reader, 1) if where else 0
    if path and _write_field(reader, 1, SOURCE_ARGS) and _write_bytes(reader, 2, UNDERSCORE, 1) and _end(reader, path):
        if _write_field(reader, 2, OP_ABSENT) and _end(reader, where):
            return 1
    reader.p = start
    return 0


cdef bint _next_condition(TextReader *reader) noexcept nogil:
    cdef size_t start = _open(reader, 3) if _spaces(reader) else 0
    return start and _condition_rule(reader) and _end(reader, start)


cdef bint _free(TextReader *reader) noexcept nogil:
    if not _spaces(reader):
        return 0
    if _literally(reader, "*"):
        return _write_field(reader, 5, 1)
    if not _path(reader, 4):
        return 0
    while _comma(reader):
        if not _path(reader, 4):
            return 0
    return 1


cdef bint _needs(TextReader *reader) noexcept nogil:
    """Read the needs in the order of their fields, which is also the one that is printed."""
    cdef size_t start = _open(reader, 6)
    cdef uint64_t uses
    cdef bint more = 1
    if not start:
        return 0
    if _literally(reader, "approval("):
        if not _approval(reader) or not _literally(reader, ")"):
            return 0
        more = _comma(reader)
    if more and _literally(reader, "uses("):
        if not _integer(reader, <uint64_t> -1, &uses) or not _write_field(reader, 2, uses):
            return 0
        if not _literally(reader, ")"):
            return 0
        more = _comma(reader)
    if more:
        if not _literally(reader, "budget(") or not _budget(reader) or not _literally(reader, ")"):
            return 0
    return _end(reader, start)


cdef bint _approval(TextReader *reader) noexcept nogil:
    cdef size_t start = _open(reader, 1)
    cdef uint64_t threshold
    cdef unsigned char key[KEY_BYTES]
    if not start or not _integer(reader, 0xFFFFFFFF, &threshold) or not _write_field(reader, 1, threshold):
        return 0
    while _comma(reader):
        if reader.end - reader.p < KEY_CHARS + 2 or not _literally(reader, '"'):
            return 0
        if not decode_body(reader.p, KEY_CHARS, key) or not _write_bytes(reader, 2, key, KEY_BYTES):
            return 0
        reader.p += KEY_CHARS
        if not _literally(reader, '"'):
            return 0
    return _end(reader, start)


cdef bint _budget(TextReader *reader) noexcept nogil:
    cdef size_t start = _open(reader, 3)
    cdef size_t before
    cdef bytes_t third
    if not start or not _string_text(reader, 1, EMPTY, 0) or not _comma(reader):
        return 0
    if not _number_text(reader, 2) or not _comma(reader):
        return 0
    # A quoted text is a unit if a comma follows; else it is the first name of the path. An empty unit is none.
    before = reader.used
    third = reader.p
    if _literally(reader, '"'):
        reader.p = third
        if not _string_text(reader, 3, EMPTY, 0):
            return 0
        if not _comma(reader):
            reader.p = third
            reader.used = before
        elif reader.used == before + 2:
            reader.used = before
    return _path(reader, 4) and _end(reader, start)

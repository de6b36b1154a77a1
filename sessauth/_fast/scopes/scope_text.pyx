"""Scope text to the canonical bytes of its message, for the texts that nearly all scopes are.

The grammar is that of docs/token-format.md, section 11. ``sessauth/scopes/parser.py`` reads all of it, and alone tells
what is wrong with a text. This reader takes what is common and gives up at anything else: at characters outside of
printable ASCII, escapes, needs, JSON values, numbers with an exponent, lists of mixed kinds, and every error. What it
gives has passed the check of the form.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, strlen

from sessauth._fast._check cimport Output, WIRE_BYTES, WIRE_VARINT, put_bytes, put_length, put_varint

cdef enum:
    # Longer texts, operands and paths are left to the other parser.
    MOST_CHARS = 16384
    MOST_TEXT = 1024
    MOST_PARTS = 32
    MOST_DIGITS = 18
    NANO_DIGITS = 9

cdef enum:
    ARGS = 1
    SESSION = 2
    TOOL = 3
    ELEMENTS = 8

cdef enum:
    LITERAL = 1
    ANY_SEGMENT = 2
    PREFIX = 3
    ONE_OF = 4
    REST = 5

# Numbers of the operators.
cdef enum:
    EQUAL = 1
    NOT_EQUAL = 2
    IN = 3
    NOT_IN = 4
    LESS = 5
    LESS_EQUAL = 6
    GREATER = 7
    GREATER_EQUAL = 8
    STARTS_WITH = 9
    GLOB = 10
    UNDER = 11
    CIDR = 12
    SUBSET_OF = 13
    PRESENT = 14
    ABSENT = 15

# A character's classes: of a name, its first; of an action; bare in a resource; of an operator's word.
cdef enum:
    NAME = 1
    FIRST = 2
    ACTION = 4
    PLAIN = 8
    WORD = 16
    DIGIT = 32

cdef unsigned char CLASSES[128]


cdef void _fill_classes() noexcept:
    cdef int c
    cdef bint letter
    for c in range(128):
        letter = 0x41 <= c <= 0x5A or 0x61 <= c <= 0x7A
        CLASSES[c] = 0
        if letter or c == 0x5F:
            CLASSES[c] |= FIRST | NAME | ACTION
        if 0x30 <= c <= 0x39:
            CLASSES[c] |= DIGIT | NAME | ACTION
        if c == 0x2D:
            CLASSES[c] |= NAME | ACTION
        if c == 0x2E:
            CLASSES[c] |= ACTION
        if 0x61 <= c <= 0x7A or c == 0x5F:
            CLASSES[c] |= WORD
        # Not a space, and none of " / , * { }
        if 0x20 < c < 0x7F and c not in (0x22, 0x2F, 0x2C, 0x2A, 0x7B, 0x7D):
            CLASSES[c] |= PLAIN


_fill_classes()

# Field 3 of Scope: a Condition of the path `_` of the arguments, which must be absent.
cdef unsigned char[11] NO_ARGUMENTS
NO_ARGUMENTS[:] = [0x1A, 0x09, 0x0A, 0x05, 0x08, ARGS, 0x12, 0x01, 0x5F, 0x10, ABSENT]

cdef struct Cursor:
    const char *p
    const char *end

cdef struct Part:
    const char *p
    size_t n


# Each reads what comes next and returns True, or returns False, and then the text is given up.

cdef bint _scan_take(Cursor *at, const char *literal) noexcept nogil:
    cdef size_t n = strlen(literal)
    if <size_t> (at.end - at.p) < n or memcmp(at.p, literal, n) != 0:
        return False
    at.p += n
    return True


cdef bint _scan_run(Cursor *at, unsigned char kind, Part *out) noexcept nogil:
    out.p = at.p
    while at.p < at.end and CLASSES[<unsigned char> at.p[0]] & kind:
        at.p += 1
    out.n = at.p - out.p
    return out.n != 0


cdef bint _scan_spaces(Cursor *at) noexcept nogil:
    cdef const char *start = at.p
    while at.p < at.end and at.p[0] == 0x20:
        at.p += 1
    return at.p != start


cdef bint _scan_word(Cursor *at, const char *word) noexcept nogil:
    """Read spaces and a whole word; nothing unless both come next."""
    cdef const char *start = at.p
    if _scan_spaces(at) and _scan_take(at, word) and (at.p == at.end or not CLASSES[<unsigned char> at.p[0]] & NAME):
        return True
    at.p = start
    return False


cdef bint _scan_comma(Cursor *at) noexcept nogil:
    if not _scan_take(at, ","):
        return False
    _scan_spaces(at)
    return True


cdef bint _scan_name(Cursor *at, Part *out) noexcept nogil:
    return at.p < at.end and CLASSES[<unsigned char> at.p[0]] & FIRST and _scan_run(at, NAME, out)


cdef bint _scan_quoted(Cursor *at, Part *out) noexcept nogil:
    """Read a string; there is no escape in the whole text."""
    if not _scan_take(at, '"'):
        return False
    out.p = at.p
    while at.p < at.end and at.p[0] != 0x22:
        at.p += 1
    out.n = at.p - out.p
    return _scan_take(at, '"') and out.n <= MOST_TEXT


cdef bint _scan_text(Cursor *at, unsigned char kind, Part *out) noexcept nogil:
    """Read a string, or a run of characters of this class."""
    if at.p < at.end and at.p[0] == 0x22:
        return _scan_quoted(at, out)
    return _scan_run(at, kind, out)


cdef bint _scan_quotable(Cursor *at, Part *out) noexcept nogil:
    """Read a string, or a name."""
    if at.p < at.end and at.p[0] == 0x22:
        return _scan_quoted(at, out)
    return _scan_name(at, out)


cdef int _put_text_field(Output *out, int field, const Part *text) except -1:
    put_varint(out, field << 3 | WIRE_BYTES)
    put_varint(out, text.n)
    return put_bytes(out, text.p, text.n)


cdef int _put_number_field(Output *out, int field, uint64_t value) except -1:
    put_varint(out, field << 3 | WIRE_VARINT)
    return put_varint(out, value)


cdef size_t _begin_field(Output *out, int field) except? 0:
    put_varint(out, field << 3 | WIRE_BYTES)
    return out.n


cdef int _scan_segment(Cursor *at, Output *out) except -1:
    cdef size_t start = _begin_field(out, 2)
    cdef Part texts[MOST_PARTS]
    cdef int count = 0
    cdef int kind, i
    if _scan_take(at, "**"):
        kind = REST
    elif _scan_take(at, "*"):
        kind = ANY_SEGMENT
    elif _scan_take(at, "{"):
        kind = ONE_OF
        while True:
            if count == MOST_PARTS or not _scan_text(at, PLAIN, &texts[count]):
                return 0
            count += 1
            if not _scan_take(at, ","):
                break
        if not _scan_take(at, "}"):
            return 0
    else:
        if not _scan_text(at, PLAIN, &texts[0]):
            return 0
        count = 1
        kind = PREFIX if _scan_take(at, "*") else LITERAL
    _put_number_field(out, 1, kind)
    for i in range(count):
        _put_text_field(out, 2, &texts[i])
    put_length(out, start)
    return 1


cdef int _scan_path(Cursor *at, Output *out, int field) except -1:
    cdef Part parts[MOST_PARTS]
    cdef int source = ARGS
    cdef int count = 0
    cdef bint elements = False
    cdef int i
    cdef size_t start = _begin_field(out, field)
    if _scan_name(at, &parts[0]):
        if at.p < at.end and at.p[0] == 0x2E:
            if parts[0].n == 4 and memcmp(parts[0].p, "args", 4) == 0:
                source = 0
            elif parts[0].n == 7 and memcmp(parts[0].p, "session", 7) == 0:
                source = SESSION
            elif parts[0].n == 4 and memcmp(parts[0].p, "tool", 4) == 0:
                source = TOOL
        if source != ARGS:
            source = source or ARGS
            at.p += 1
            if not _scan_quotable(at, &parts[0]):
                return 0
    elif not _scan_quoted(at, &parts[0]):
        return 0
    count = 1
    while count < MOST_PARTS:
        if source == ARGS and _scan_take(at, "[]"):
            elements = True
            parts[count].p = NULL
        elif _scan_take(at, "."):
            if not _scan_quotable(at, &parts[count]):
                return 0
        else:
            break
        count += 1
    if count == MOST_PARTS:
        return 0
    _put_number_field(out, 1, ELEMENTS if elements else source)
    for i in range(count):
        put_varint(out, 2 << 3 | WIRE_BYTES)
        if parts[i].p == NULL:
            put_varint(out, 2)
            put_bytes(out, "[]", 2)
            continue
        put_varint(out, parts[i].n + elements)
        if elements:
            put_bytes(out, ".", 1)
        put_bytes(out, parts[i].p, parts[i].n)
    put_length(out, start)
    return 1


cdef int _scan_operator(Cursor *at) noexcept nogil:
    """Return the number of the operator that comes next; 0 if none does."""
    cdef Part word
    if _scan_take(at, "=="):
        return EQUAL
    if _scan_take(at, "!="):
        return NOT_EQUAL
    if _scan_take(at, "<="):
        return LESS_EQUAL
    if _scan_take(at, ">="):
        return GREATER_EQUAL
    if _scan_take(at, "<"):
        return LESS
    if _scan_take(at, ">"):
        return GREATER
    if not _scan_run(at, WORD, &word):
        return 0
    if _same(&word, "not"):
        if not (_scan_spaces(at) and _scan_run(at, WORD, &word) and _same(&word, "in")):
            return 0
        return 0 if at.p < at.end and CLASSES[<unsigned char> at.p[0]] & NAME else NOT_IN
    if at.p < at.end and CLASSES[<unsigned char> at.p[0]] & NAME:
        return 0
    if _same(&word, "in"):
        return IN
    if _same(&word, "under"):
        return UNDER
    if _same(&word, "glob"):
        return GLOB
    if _same(&word, "starts_with"):
        return STARTS_WITH
    if _same(&word, "cidr"):
        return CIDR
    if _same(&word, "subset_of"):
        return SUBSET_OF
    if _same(&word, "present"):
        return PRESENT
    return ABSENT if _same(&word, "absent") else 0


cdef bint _same(const Part *part, const char *word) noexcept nogil:
    cdef size_t n = strlen(word)
    return part.n == n and memcmp(part.p, word, n) == 0


cdef bint _scan_number(Cursor *at, int64_t *units, uint64_t *nanos) noexcept nogil:
    """Read a number of at most 18 digits before its point and 9 after it, without an exponent."""
    cdef bint negative = _scan_take(at, "-")
    cdef Part whole, rest
    cdef size_t i, places = NANO_DIGITS
    units[0] = 0
    nanos[0] = 0
    if not _scan_run(at, DIGIT, &whole) or whole.n > MOST_DIGITS or (whole.n > 1 and whole.p[0] == 0x30):
        return False
    for i in range(whole.n):
        units[0] = units[0] * 10 + (whole.p[i] - 0x30)
    if _scan_take(at, "."):
        if not _scan_run(at, DIGIT, &rest) or rest.n > NANO_DIGITS:
            return False
        for i in range(places):
            nanos[0] = nanos[0] * 10 + (rest.p[i] - 0x30 if i < rest.n else 0)
    if at.p < at.end and (at.p[0] | 0x20) == 0x65:
        return False
    if negative:
        units[0] = -units[0]
        if nanos[0]:
            units[0] -= 1
            nanos[0] = 1_000_000_000 - nanos[0]
    return True


cdef int _scan_operand(Cursor *at, Output *out) except -1:
    """Put a Value; return its kind, which is 1 for a text, 2 for a number, 3 for a truth; 0 for any other."""
    cdef size_t start, inner
    cdef Part text
    cdef int64_t units
    cdef uint64_t nanos
    cdef int kind
    start = _begin_field(out, 3)
    if at.p < at.end and at.p[0] == 0x22:
        if not _scan_quoted(at, &text):
            return 0
        _put_text_field(out, 1, &text)
        kind = 1
    elif _scan_take(at, "true"):
        _put_number_field(out, 3, 1)
        kind = 3
    elif _scan_take(at, "false"):
        _put_number_field(out, 3, 0)
        kind = 3
    elif _scan_number(at, &units, &nanos):
        inner = _begin_field(out, 2)
        if units:
            _put_number_field(out, 1, (<uint64_t> units << 1) ^ <uint64_t> (units >> 63))
        if nanos:
            _put_number_field(out, 2, nanos)
        put_length(out, inner)
        kind = 2
    else:
        return 0
    put_length(out, start)
    return kind


cdef int _scan_operands(Cursor *at, int operator, Output *out) except -1:
    cdef Part fact
    cdef int kind
    cdef bint list_only = operator in (IN, NOT_IN, SUBSET_OF)
    if not (list_only or operator in (GLOB, CIDR)) and _scan_take(at, "session."):
        if not (at.p < at.end and CLASSES[<unsigned char> at.p[0]] & FIRST):
            return 0
        fact.p = at.p
        while at.p < at.end and CLASSES[<unsigned char> at.p[0]] & NAME and at.p[0] != 0x2D:
            at.p += 1
        fact.n = at.p - fact.p
        _put_text_field(out, 4, &fact)
        return 1
    if not (list_only or operator in (STARTS_WITH, UNDER, GLOB, CIDR)) or not _scan_take(at, "["):
        return 0 if list_only else _scan_operand(at, out)
    kind = _scan_operand(at, out)
    while kind and _scan_comma(at):
        if _scan_operand(at, out) != kind:
            return 0
    return 1 if kind and _scan_take(at, "]") else 0


cdef int _scan_accessor(Cursor *at) noexcept nogil:
    if _scan_take(at, "count("):
        return 1
    if _scan_take(at, "host("):
        return 2
    if _scan_take(at, "scheme("):
        return 3
    return 4 if _scan_take(at, "port(") else 0


cdef int _scan_condition(Cursor *at, Output *out) except -1:
    """Put the fields of a Condition."""
    cdef bint each = _scan_take(at, "each(")
    cdef int accessor = _scan_accessor(at)
    cdef int operator
    cdef bint optional
    if not _scan_path(at, out, 1):
        return 0
    optional = _scan_take(at, "?")
    if (accessor and not _scan_take(at, ")")) or (each and not _scan_take(at, ")")) or not _scan_spaces(at):
        return 0
    operator = _scan_operator(at)
    if not operator:
        return 0
    _put_number_field(out, 2, operator)
    if operator != PRESENT and operator != ABSENT and not (_scan_spaces(at) and _scan_operands(at, operator, out)):
        return 0
    if accessor:
        _put_number_field(out, 5, accessor)
    if each:
        _put_number_field(out, 6, 1)
    if optional:
        _put_number_field(out, 7, 1)
    return 1


cdef int _scan_conditions(Cursor *at, Output *out) except -1:
    cdef size_t start
    while True:
        start = _begin_field(out, 3)
        if not (_scan_spaces(at) and _scan_condition(at, out)):
            return 0
        put_length(out, start)
        if not _scan_word(at, "and"):
            return 1


cdef int _scan_scope(Cursor *at, Output *out) except -1:
    """Put the fields of a Scope that is the whole text."""
    cdef Part part
    cdef const char *start
    cdef bint closed = False
    while True:
        if _scan_take(at, "*"):
            part.p, part.n = "*", 1
        elif not _scan_run(at, ACTION, &part):
            return 0
        _put_text_field(out, 1, &part)
        if not _scan_take(at, ","):
            break
    if not _scan_take(at, ":") or not _scan_segment(at, out):
        return 0
    while _scan_take(at, "/"):
        if not _scan_segment(at, out):
            return 0
    if _scan_word(at, "where"):
        start = at.p
        closed = _scan_word(at, "no") and _scan_word(at, "arguments")
        if closed:
            put_bytes(out, NO_ARGUMENTS, sizeof(NO_ARGUMENTS))
        else:
            at.p = start
            if not _scan_conditions(at, out):
                return 0
    if not closed and _scan_word(at, "free"):
        if not _scan_spaces(at):
            return 0
        if _scan_take(at, "*"):
            _put_number_field(out, 5, 1)
        else:
            while True:
                if not _scan_path(at, out, 4):
                    return 0
                if not _scan_comma(at):
                    break
    return at.p == at.end


cdef bint _scan_cursor(object text, Cursor *at) except -1:
    """Point at a text; False for one that this reader never takes."""
    cdef Py_ssize_t n, i
    if not isinstance(text, str) or not (<str> text).isascii() or len(<str> text) > MOST_CHARS:
        return False
    at.p = PyUnicode_AsUTF8AndSize(text, &n)
    at.end = at.p + n
    for i in range(n):
        if at.p[i] < 0x20 or at.p[i] == 0x7F or at.p[i] == 0x5C:
            return False
    return True


def scope_from_text(object text):
    """Return the canonical bytes of message ``Scope`` for a scope text; None for one that this reader does not take."""
    cdef Arena arena
    cdef Scope compiled
    cdef Cursor at
    cdef Output out
    cdef bytes encoded
    if not _scan_cursor(text, &at):
        return None
    out.data, out.n, out.capacity = NULL, 0, 0
    arena_init(&arena)
    try:
        if not _scan_scope(&at, &out):
            return None
        encoded = PyBytes_FromStringAndSize(<const char *> out.data, out.n)
        if parse_scope(_reader(encoded), _base(encoded), &arena, &compiled) != NULL:
            return None
        return encoded
    finally:
        arena_free(&arena)
        free(out.data)


def condition_from_text(object text):
    """Return the canonical bytes of message ``Condition`` for its text, as :func:`scope_from_text` does."""
    cdef Arena arena
    cdef Condition compiled
    cdef Cursor at
    cdef Output out
    cdef bytes encoded
    if not _scan_cursor(text, &at):
        return None
    out.data, out.n, out.capacity = NULL, 0, 0
    arena_init(&arena)
    try:
        if not (_scan_condition(&at, &out) and at.p == at.end):
            return None
        encoded = PyBytes_FromStringAndSize(<const char *> out.data, out.n)
        if parse_condition(_reader(encoded), _base(encoded), &arena, &compiled) != NULL:
            return None
        return encoded
    finally:
        arena_free(&arena)
        free(out.data)

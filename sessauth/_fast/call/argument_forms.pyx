"""Arguments of a call in any form, as the bytes to check (docs/token-format.md, section 8.2).

Bytes and texts (as UTF-8) are checked unchanged. Values are written in the canonical form, so equal values have
equal bytes. Agents control values as well as texts: depth and size are bounded during writing. The parts are:

- the canonical form of a JSON object that the strict reader has read;
- the memory of one check: slices of the caller's objects, names of arguments, identities of a certificate;
- ``encode_arguments`` and its kin, which write Python values in the canonical form.
"""

cimport cython
from collections.abc import Mapping
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.mem cimport PyMem_Free
from decimal import Decimal as PyDecimal
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from sessauth._fast.codec.errors import FormError


# The canonical form of a JSON object: one text for all equivalent texts (docs/token-format.md, section 8.2).
#
# Members are sorted, white space is dropped, strings have the shortest escapes, and numbers keep their spelling. The
# input is parsed by the reader that checks use, so both refuse the same texts.

cdef enum:
    # Most bytes for one byte of a string: \u and four digits.
    STRING_FACTOR = 6


# The canonical form, or None for bytes that are not arguments. Never longer than the input, unless that is empty.
cdef bytes canonical_of(bytes_t p, size_t n):
    cdef Document document
    cdef const JsonNode **order = NULL
    cdef bytes room = PyBytes_FromStringAndSize(NULL, n + 2)
    cdef unsigned char *start = <unsigned char *> PyBytes_AS_STRING(room)
    cdef unsigned char *end = start
    cdef bint formed
    document_init(&document)
    try:
        with nogil:
            formed = read_document(&document, p, n)
            if formed:
                order = <const JsonNode **> malloc(document.used * sizeof(JsonNode *))
                if order != NULL:
                    end = _put_canonical(start, document.nodes, document.nodes, order)
        if not formed:
            return None
        if order == NULL:
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char *> start, end - start)
    finally:
        free(order)
        document_free(&document)


# The canonical form of an object of a document of `n` bytes, without one member (NULL: with all).
cdef bytes canonical_node(const Document *document, const JsonNode *node, size_t n, const JsonNode *without):
    cdef bytes room = PyBytes_FromStringAndSize(NULL, n + 2)
    cdef unsigned char *start = <unsigned char *> PyBytes_AS_STRING(room)
    cdef unsigned char *end
    cdef const JsonNode **order = <const JsonNode **> malloc(document.used * sizeof(JsonNode *))
    if order == NULL:
        raise MemoryError
    end = _put_canonical_container(start, document.nodes, node, order, without)
    free(order)
    return PyBytes_FromStringAndSize(<const char *> start, end - start)


cdef unsigned char *_put_canonical(
    unsigned char *out, const JsonNode *nodes, const JsonNode *node, const JsonNode **order
) noexcept nogil:
    """Write a value. ``order`` has space for every node below it. The reader bounds the depth of the recursion."""
    if node.type == TYPE_TEXT:
        return put_string(out, node.text, node.units)
    if node.type == TYPE_TRUTH:
        return <unsigned char *> put_plain(<char *> out, "true" if node.truth else "false")
    if node.type != TYPE_OBJECT and node.type != TYPE_LIST:
        return _put_canonical_number(out, node.text)
    return _put_canonical_container(out, nodes, node, order, NULL)


cdef unsigned char *_put_canonical_container(
    unsigned char *out, const JsonNode *nodes, const JsonNode *node, const JsonNode **order, const JsonNode *without
) noexcept nogil:
    """Write an object or a list but for one child."""
    cdef bint is_object = node.type == TYPE_OBJECT
    cdef uint32_t at = <uint32_t> (node - nodes) + 1
    cdef uint32_t count = 0
    cdef uint32_t i, _
    for _ in range(node.count):
        if nodes + at != without:
            order[count] = nodes + at
            count += 1
        at = nodes[at].next
    if is_object:
        qsort(order, count, sizeof(JsonNode *), compare_names)
    out[0] = 0x7B if is_object else 0x5B
    out += 1
    for i in range(count):
        if i:
            out[0] = 0x2C
            out += 1
        if is_object:
            out = put_string(out, order[i].name, order[i].name_n)
            out[0] = 0x3A
            out += 1
        out = _put_canonical(out, nodes, order[i], order + count)
    out[0] = 0x7D if is_object else 0x5D
    return out + 1


cdef unsigned char *_put_canonical_number(unsigned char *out, bytes_t p) noexcept nogil:
    """Copy a number, or null. The byte after it is not part of it."""
    if p[0] == 0x6E:
        return <unsigned char *> put_plain(<char *> out, "null")
    while is_digit(p[0]) or p[0] == 0x2D or p[0] == 0x2B or p[0] == 0x2E or (p[0] | 0x20) == 0x65:
        out[0] = p[0]
        out += 1
        p += 1
    return out


# Write a string with its quotes and return the end. `out` has space for STRING_FACTOR * n + 2 bytes.
cdef unsigned char *put_string(unsigned char *out, bytes_t p, size_t n) noexcept nogil:
    cdef bytes_t end = p + n
    cdef bytes_t start
    out[0] = 0x22
    out += 1
    while p < end:
        start = p
        while p < end and not kinds[p[0]] & STOP:
            p += 1
        memcpy(out, start, p - start)
        out += p - start
        if p < end:
            out = put_escape(out, p[0])
            p += 1
    out[0] = 0x22
    return out + 1


cdef unsigned char *put_escape(unsigned char *out, unsigned char c) noexcept nogil:
    """Write the shortest JSON escape of a quote, a backslash or a control character."""
    cdef unsigned char letter = 0
    if c == 0x22 or c == 0x5C:
        letter = c
    elif c == 0x08:
        letter = 0x62
    elif c == 0x09:
        letter = 0x74
    elif c == 0x0A:
        letter = 0x6E
    elif c == 0x0C:
        letter = 0x66
    elif c == 0x0D:
        letter = 0x72
    out[0] = 0x5C
    if letter:
        out[1] = letter
        return out + 2
    memcpy(out + 1, <const char *> "u00", 3)
    out[4] = hex_digit(c >> 4)
    out[5] = hex_digit(c & 15)
    return out + 6


cdef int compare_names(const void *a, const void *b) noexcept nogil:
    """Compare UTF-8 names by their UTF-16 code units (RFC 8785)."""
    cdef const JsonNode *x = (<const JsonNode **> a)[0]
    cdef const JsonNode *y = (<const JsonNode **> b)[0]
    cdef uint32_t n = min(x.name_n, y.name_n)
    cdef uint32_t i
    for i in range(n):
        if x.name[i] != y.name[i]:
            return -1 if _rank(x.name[i]) < _rank(y.name[i]) else 1
    return (x.name_n > y.name_n) - (x.name_n < y.name_n)


cdef inline int _rank(unsigned char c) noexcept nogil:
    """Return the sort rank of a UTF-8 byte: U+E000 to U+FFFF sort after characters of two code units."""
    return c + 0x10 if c == 0xEE or c == 0xEF else c


# The input, outcome and scratch memory of one check.

@cython.final
@cython.no_gc
cdef class ScratchBox:
    """Memory for one request's JSON, reused by the next request."""

    def __cinit__(self):
        document_init(&self.scratch.arguments)
        document_init(&self.scratch.tool)

    def __dealloc__(self):
        document_free(&self.scratch.arguments)
        document_free(&self.scratch.tool)


cdef void set_argument(CheckOutcome *outcome, const char *text, size_t n) noexcept nogil:
    free(outcome.argument)
    outcome.argument_n = n
    outcome.argument = <char *> malloc(n if n else 1)
    if outcome.argument != NULL:
        memcpy(outcome.argument, text, n)


# Joins names with dots. A name without bytes is the element of a list whose index is its length.
cdef void set_argument_path(CheckOutcome *outcome, const TextSlice *names, int count) noexcept nogil:
    cdef char index[24]
    cdef size_t n = 0
    cdef size_t size
    cdef const char *part
    cdef int i
    for i in range(count):
        n += names[i].n + 1 if names[i].p != NULL else sizeof(index)
    free(outcome.argument)
    outcome.argument_n = 0
    outcome.argument = <char *> malloc(n if n else 1)
    if outcome.argument == NULL:
        return
    n = 0
    for i in range(count):
        part = <const char *> names[i].p
        size = names[i].n
        if part == NULL:
            part = index
            size = _put_index(index, names[i].n)
        elif i > 0:
            outcome.argument[n] = 0x2E
            n += 1
        memcpy(outcome.argument + n, part, size)
        n += size
    outcome.argument_n = n


cdef size_t _put_index(char *out, size_t index) noexcept nogil:
    """Write `[index]`, or `[]` for no single element. Return the length."""
    cdef char *end = out + 1
    out[0] = 0x5B
    if index != ANY_ELEMENT:
        end = put_json_number(end, index)
    end[0] = 0x5D
    return end + 1 - out


# Points at the identities of a certificate. Returns their owners.
cdef object set_peers(object peer, CheckInput *input):
    if isinstance(peer, (str, bytes)):
        raise TypeError("peer is a sequence of identities, not one")
    cdef list references = list(peer)
    cdef bytearray parts = bytearray(len(references) * sizeof(TextSlice))
    cdef TextSlice *out = <TextSlice *> <char *> parts
    cdef Py_ssize_t i
    for i in range(len(references)):
        references.append(slice_of(references[i], &out[i]))
    input.peers = out
    input.peer_count = <int> (len(references) // 2)
    references.append(parts)
    return references


cdef object slice_of_object(object text, TextSlice *out):
    """Encode a str so that lone surrogates become invalid UTF-8 instead of vanishing. Accept subclasses of bytes and str."""
    if isinstance(text, bytes):
        set_slice(out, <bytes_t> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        return None
    if not isinstance(text, str):
        raise TypeError(f"bytes or str expected, got {type(text).__name__}")
    encoded = (<str> text).encode("utf-8", "surrogatepass")
    set_slice(out, <bytes_t> PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))
    return encoded


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    char *PyOS_double_to_string(double value, char format, int precision, int flags, int *type) except NULL
    # atoi of recent headers would bind the extension to glibc 2.38.
    long PyOS_strtol(const char *text, char **end, int base) noexcept nogil
    object PyNumber_ToBase(object number, int base)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1


cdef enum:
    # Sign, 17 digits, point, leading or trailing zeros and exponent of a double.
    MAX_DOUBLE_CHARS = 32

# Checked in the place of values without a JSON form. It is not JSON, so it is denied.
cdef bytes NOT_JSON = b"!"

# A growing output buffer.
cdef struct ArgumentBuffer:
    unsigned char *start
    unsigned char *end
    size_t room


def encode_arguments(arguments not None):
    """Return the bytes of a call's arguments: bytes as they are, a str as UTF-8, a mapping in the canonical form.

    Raises FormError for values without a JSON form and values beyond the limits, TypeError for other types.
    """
    if isinstance(arguments, (bytes, str)):
        return judged_bytes(arguments)
    return _of_values(arguments)


def judged(arguments not None):
    """Return the bytes of ``encode_arguments``, or for values without a JSON form bytes that every verifier denies."""
    return judged_bytes(arguments)


def canonical(arguments not None):
    """Return the canonical form of arguments in any form. Raises as ``encode_arguments``, and FormError for bad JSON."""
    cdef bytes text = encode_arguments(arguments)
    cdef bytes out = canonical_of(<bytes_t> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    if out is None:
        raise _wrong("not a JSON object, or beyond the limits: docs/token-format.md, section 8")
    return out


cdef bytes judged_bytes(object arguments):
    if PyBytes_CheckExact(arguments):
        return arguments
    if isinstance(arguments, str):
        # A lone surrogate is not UTF-8, and the bytes that replace it are not either.
        return (<str> arguments).encode("utf-8", "surrogatepass")
    if isinstance(arguments, bytes):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(arguments), PyBytes_GET_SIZE(arguments))
    try:
        return _of_values(arguments)
    except FormError:
        return NOT_JSON


cdef bytes _of_values(object arguments):
    cdef ArgumentBuffer out
    cdef bytes form
    if not isinstance(arguments, (dict, Mapping)):
        raise TypeError(f"arguments are bytes, str or a mapping, not {type(arguments).__name__}")
    memset(&out, 0, sizeof(ArgumentBuffer))
    try:
        _put_object(&out, arguments, 1)
        _need(&out, 0)
        form = canonical_of(out.start, out.end - out.start)
    finally:
        free(out.start)
    if form is None:
        # Other types were refused during writing.
        raise _wrong("more than 10,000 values, or the same name twice in an object")
    return form


cdef object _wrong(str detail):
    return FormError(MALFORMED_REQUEST, detail)


cdef int _need(ArgumentBuffer *out, size_t more) except -1:
    """Reserve more bytes. Raises FormError beyond the limit of arguments."""
    cdef size_t used = out.end - out.start
    cdef size_t room
    cdef void *grown
    if used > <size_t> MAX_JSON_BYTES or more > STRING_FACTOR * <size_t> MAX_JSON_BYTES:
        raise _wrong("more than 1 MiB of JSON")
    if out.room - used >= more:
        return 0
    room = max(2 * out.room, used + more, <size_t> 256)
    grown = realloc(out.start, room)
    if grown == NULL:
        raise MemoryError
    out.start = <unsigned char *> grown
    out.end = out.start + used
    out.room = room
    return 0


cdef int _put_byte(ArgumentBuffer *out, unsigned char c) except -1:
    _need(out, 1)
    out.end[0] = c
    out.end += 1
    return 0


cdef int _put_ascii(ArgumentBuffer *out, str text) except -1:
    cdef Py_ssize_t n
    cdef const char *p = PyUnicode_AsUTF8AndSize(text, &n)
    _need(out, n)
    memcpy(out.end, p, n)
    out.end += n
    return 0


cdef int _put_value(ArgumentBuffer *out, object value, int depth) except -1:
    cdef int64_t small
    cdef int overflow
    if isinstance(value, str):
        return _put_text(out, value)
    if value is True:
        return _put_ascii(out, "true")
    if value is False:
        return _put_ascii(out, "false")
    if value is None:
        return _put_ascii(out, "null")
    if isinstance(value, int):
        small = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return _put_long(out, value)
        _need(out, MAX_DOUBLE_CHARS)
        out.end = <unsigned char *> put_json_number(<char *> out.end, small)
        return 0
    if isinstance(value, float):
        return _put_double(out, PyFloat_AS_DOUBLE(value))
    if isinstance(value, (list, tuple)):
        return _put_list(out, value, depth + 1)
    if isinstance(value, (dict, Mapping)):
        return _put_object(out, value, depth + 1)
    if isinstance(value, PyDecimal):
        if not PyDecimal.is_finite(value):
            raise _wrong("a number that is not finite")
        return _put_ascii(out, PyDecimal.__str__(value).lower())
    raise TypeError(f"a value of arguments is what JSON has, not {type(value).__name__}")


cdef int _put_text(ArgumentBuffer *out, object text) except -1:
    cdef Py_ssize_t n
    cdef const char *p
    try:
        p = PyUnicode_AsUTF8AndSize(text, &n)
    except UnicodeEncodeError:
        raise _wrong("a text with a lone surrogate") from None
    _need(out, STRING_FACTOR * <size_t> n + 2)
    out.end = put_string(out.end, <bytes_t> p, n)
    return 0


cdef int _put_list(ArgumentBuffer *out, object elements, int depth) except -1:
    cdef bint first = True
    _go_down(depth)
    _put_byte(out, 0x5B)
    for value in elements:
        if not first:
            _put_byte(out, 0x2C)
        first = False
        _put_value(out, value, depth)
    return _put_byte(out, 0x5D)


cdef int _put_object(ArgumentBuffer *out, object members, int depth) except -1:
    cdef bint first = True
    _go_down(depth)
    _put_byte(out, 0x7B)
    for name, value in members.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a member is a str, not {type(name).__name__}")
        if not first:
            _put_byte(out, 0x2C)
        first = False
        _put_text(out, name)
        _put_byte(out, 0x3A)
        _put_value(out, value, depth)
    return _put_byte(out, 0x7D)


cdef int _go_down(int depth) except -1:
    if depth > MAX_JSON_DEPTH:
        raise _wrong(f"nested more than {<int> MAX_JSON_DEPTH} deep")
    return 0


cdef int _put_long(ArgumentBuffer *out, object value) except -1:
    try:
        digits = PyNumber_ToBase(value, 10)
    except ValueError:
        raise _wrong("an int of more digits than Python writes") from None
    return _put_ascii(out, digits)


cdef int _put_double(ArgumentBuffer *out, double value) except -1:
    """Write a double in ECMAScript's form (RFC 8785, 3.2.2.3)."""
    cdef char *shortest
    if not isfinite(value):
        raise _wrong("a number that is not finite")
    shortest = PyOS_double_to_string(value, b'r', 0, 0, NULL)
    try:
        _need(out, MAX_DOUBLE_CHARS)
        out.end = _put_digits(out.end, shortest)
    finally:
        PyMem_Free(shortest)
    return 0


cdef unsigned char *_put_digits(unsigned char *out, const char *shortest) noexcept nogil:
    """Lay out the shortest digits, which Python computes, in ECMAScript's form."""
    cdef char digits[MAX_DOUBLE_CHARS]
    cdef int count = 0
    # Number of digits before the point; negative: zeros after it.
    cdef int point = 0
    cdef bint behind = False
    cdef int i
    if shortest[0] == 0x2D:
        shortest += 1
        if not (shortest[0] == 0x30 and shortest[1] == 0):
            out[0] = 0x2D
            out += 1
    while shortest[0] and shortest[0] != 0x65:
        if shortest[0] == 0x2E:
            behind = True
        elif count or shortest[0] != 0x30:
            digits[count] = shortest[0]
            count += 1
            point += not behind
        else:
            point -= behind
        shortest += 1
    if shortest[0]:
        point += <int> PyOS_strtol(shortest + 1, NULL, 10)
    while count and digits[count - 1] == 0x30:
        count -= 1
    if count == 0:
        out[0] = 0x30
        return out + 1
    if 0 < point <= 21:
        for i in range(max(count, point)):
            if i == point:
                out[0] = 0x2E
                out += 1
            out[0] = digits[i] if i < count else 0x30
            out += 1
        return out
    if -6 < point <= 0:
        memcpy(out, <const char *> "0.00000", 7)
        out += 2 - point
        memcpy(out, digits, count)
        return out + count
    out[0] = digits[0]
    out += 1
    if count > 1:
        out[0] = 0x2E
        memcpy(out + 1, digits + 1, count - 1)
        out += count
    out[0] = 0x65
    out[1] = 0x2B if point > 0 else 0x2D
    return <unsigned char *> put_json_number(<char *> out + 2, abs(point - 1))

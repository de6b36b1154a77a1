"""Arguments of a call in any form, as the bytes to judge (docs/token-format.md, section 8.2).

Bytes and texts (as UTF-8) are judged unchanged. Values are written in the canonical form, so equal values have
equal bytes. Agents control values as well as texts: depth and size are bounded during writing.
"""

from collections.abc import Mapping
from decimal import Decimal as PyDecimal

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from sessauth._fast.codec.errors import FormError

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

# Judged in the place of values without a JSON form. It is not JSON, so it is denied.
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

"""Incremental JSON output into preallocated memory.

Foreign texts are quoted byte by byte, so no part of them becomes markup.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, _PyBytes_Resize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef const char *BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


cdef char *begin_output(PyObject **memory, size_t room) except NULL:
    cdef bytes out = PyBytes_FromStringAndSize(NULL, room)
    Py_INCREF(out)
    memory[0] = <PyObject *> out
    return PyBytes_AS_STRING(out)


cdef bytes end_output(PyObject *memory, const char *end):
    cdef bytes out
    _PyBytes_Resize(&memory, end - <const char *> PyBytes_AS_STRING(<object> memory))
    out = <bytes> memory
    Py_DECREF(out)
    return out


cdef char *put_json_number(char *out, int64_t value) noexcept nogil:
    cdef char digits[20]
    cdef uint64_t rest = <uint64_t> value
    cdef int n = 0
    if value < 0:
        out[0] = 0x2D
        out += 1
        rest = 0 - rest
    while True:
        digits[n] = <char> (48 + rest % 10)
        n += 1
        rest //= 10
        if rest == 0:
            break
    while n:
        n -= 1
        out[0] = digits[n]
        out += 1
    return out


cdef char *put_base64(char *out, const unsigned char *data, size_t n) noexcept nogil:
    cdef uint32_t group
    cdef size_t i
    for i in range(0, n, 3):
        group = <uint32_t> data[i] << 16
        if i + 1 < n:
            group |= <uint32_t> data[i + 1] << 8
        if i + 2 < n:
            group |= data[i + 2]
        out[0] = BASE64[group >> 18]
        out[1] = BASE64[(group >> 12) & 63]
        out[2] = BASE64[(group >> 6) & 63] if i + 1 < n else 0x3D
        out[3] = BASE64[group & 63] if i + 2 < n else 0x3D
        out += 4
    return out


cdef char *_escaped(char *out, uint32_t code) noexcept nogil:
    out = put_plain(out, '\\u')
    out[0] = hex_digit(code >> 12)
    out[1] = hex_digit((code >> 8) & 15)
    out[2] = hex_digit((code >> 4) & 15)
    out[3] = hex_digit(code & 15)
    return out + 4


cdef char *put_text(char *out, const TextSlice *part) noexcept nogil:
    """Write a JSON string. Escape characters that control terminals or end lines, and replace invalid UTF-8.

    Mask tokens and other secrets.
    """
    cdef bytes_t p = part.p
    cdef bytes_t end = p + part.n
    cdef uint32_t code
    cdef size_t secret
    cdef size_t shown = 0
    cdef int n
    out[0] = 0x22
    out += 1
    while p < end:
        if p[0] < 0x80:
            secret = secret_at(p, end, &shown) if p[0] == 0x73 else 0
            if secret:
                memcpy(out, p, shown)
                out = put_plain(out + shown, MASK)
                p += secret
                continue
            if p[0] < 0x20 or p[0] == 0x7F:
                out = _escaped(out, p[0])
            else:
                if p[0] == 0x22 or p[0] == 0x5C:
                    out[0] = 0x5C
                    out += 1
                out[0] = <char> p[0]
                out += 1
            p += 1
            continue
        n = _character(p, end, &code)
        if n == 0:
            out = put_plain(out, '\\ufffd')
            p += 1
            continue
        if code < 0xA0 or code == 0x2028 or code == 0x2029:
            out = _escaped(out, code)
        else:
            memcpy(out, p, n)
            out += n
        p += n
    out[0] = 0x22
    return out + 1


cdef int _character(bytes_t p, bytes_t end, uint32_t *code) noexcept nogil:
    """Return the length of the character that begins here and is not ASCII; 0 for invalid UTF-8."""
    cdef uint32_t least
    cdef int n
    cdef int i
    if p[0] < 0xC2 or p[0] > 0xF4:
        return 0
    if p[0] < 0xE0:
        n, code[0], least = 2, p[0] & 0x1F, 0x80
    elif p[0] < 0xF0:
        n, code[0], least = 3, p[0] & 0x0F, 0x800
    else:
        n, code[0], least = 4, p[0] & 0x07, 0x10000
    if end - p < n:
        return 0
    for i in range(1, n):
        if p[i] & 0xC0 != 0x80:
            return 0
        code[0] = code[0] << 6 | (p[i] & 0x3F)
    if code[0] < least or code[0] > 0x10FFFF or 0xD800 <= code[0] <= 0xDFFF:
        return 0
    return n

"""Incremental JSON output into preallocated memory."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcpy, strlen

cdef enum:
    # Most bytes for one byte of a text: \u and four digits.
    TEXT_FACTOR = 6

# Make a bytes object of `room` bytes; return where they begin. Nothing may raise between this and `end_output`.
cdef char *begin_output(PyObject **memory, size_t room) except NULL
# Return the object, cut at `end`.
cdef bytes end_output(PyObject *memory, const char *end)
# Each returns the end of its output.
cdef char *put_json_number(char *out, int64_t value) noexcept nogil
cdef char *put_base64(char *out, const unsigned char *data, size_t n) noexcept nogil
# A string with its quotes.
cdef char *put_text(char *out, const TextSlice *part) noexcept nogil

cdef inline char *put_plain(char *out, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    memcpy(out, text, n)
    return out + n

cdef inline char hex_digit(unsigned int value) noexcept nogil:
    return <char> (value + (48 if value < 10 else 87))

cdef inline char *put_hex(char *out, const unsigned char *data, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        out[2 * i] = hex_digit(data[i] >> 4)
        out[2 * i + 1] = hex_digit(data[i] & 15)
    return out + 2 * n

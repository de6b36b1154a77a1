"""Input, outcome and scratch memory of one check."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy


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

"""The callers that a connection caches, by the exact values of ``:path`` and ``authorization``.

They count as long as the credentials do that they were found under: the loop drops them with its generation.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.string cimport memcmp


# The DirectCaller of a stream, borrowed; NULL: none is cached.
cdef PyObject *cached_caller(const Stream *stream) noexcept nogil:
    cdef Connection *connection = stream.connection
    cdef Caller *caller
    cdef int i
    if connection.generation != connection.loop.generation or stream.several_authorizations:
        return NULL
    for i in range(CALLERS):
        caller = &connection.callers[i]
        if (
            caller.direct != NULL
            and _equal(caller.path, _value(stream, stream.path))
            and _equal(caller.authorization, _value(stream, stream.authorization))
        ):
            return caller.direct
    return NULL


cdef void cache_caller(Stream *stream, object direct) noexcept:
    cdef Connection *connection = stream.connection
    cdef Caller *caller
    if connection.generation != connection.loop.generation:
        drop_callers(connection)
        connection.generation = connection.loop.generation
    caller = &connection.callers[connection.next_caller]
    connection.next_caller = (connection.next_caller + 1) % CALLERS
    _drop(caller)
    caller.path = _value(stream, stream.path)
    caller.authorization = _value(stream, stream.authorization)
    nghttp2.rcbuf_incref(caller.path)
    if caller.authorization != NULL:
        nghttp2.rcbuf_incref(caller.authorization)
    Py_INCREF(direct)
    caller.direct = <PyObject *> direct


cdef void drop_callers(Connection *connection) noexcept:
    cdef int i
    for i in range(CALLERS):
        _drop(&connection.callers[i])


cdef void _drop(Caller *caller) noexcept:
    cdef PyObject *direct = caller.direct
    if direct == NULL:
        return
    caller.direct = NULL
    nghttp2.rcbuf_decref(caller.path)
    if caller.authorization != NULL:
        nghttp2.rcbuf_decref(caller.authorization)
    # Last: it may run Python.
    Py_XDECREF(direct)


cdef inline HeaderBuffer _value(const Stream *stream, int place) noexcept nogil:
    return NULL if place < 0 else stream.headers[place].value


cdef bint _equal(HeaderBuffer a, HeaderBuffer b) noexcept nogil:
    cdef Vector first, second
    # An indexed header is the same buffer each time.
    if a == b:
        return True
    if a == NULL or b == NULL:
        return False
    first = nghttp2.rcbuf_get_buf(a)
    second = nghttp2.rcbuf_get_buf(b)
    return first.n == second.n and memcmp(first.p, second.p, first.n) == 0

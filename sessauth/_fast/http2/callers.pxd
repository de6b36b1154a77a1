"""The callers that a connection caches, by the values of their headers."""

from cpython.object cimport PyObject

from sessauth._fast.http2.stream cimport Connection, Stream

# The DirectCaller of a stream, borrowed; NULL: none is cached.
cdef PyObject *cached_caller(const Stream *stream) noexcept
cdef void cache_caller(Stream *stream, object direct) noexcept
cdef void drop_callers(Connection *connection) noexcept

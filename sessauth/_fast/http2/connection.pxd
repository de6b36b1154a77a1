"""A connection, and what nghttp2 calls while it reads."""

from libc.stdint cimport uint32_t

from sessauth._fast.http2.stream cimport Connection, LoopMemory

# Make callbacks and options, once for a loop. False without memory.
cdef bint prepare(LoopMemory *loop) noexcept nogil
cdef void release(LoopMemory *loop) noexcept nogil
# A connection on a socket that does not block; NULL without memory, and the socket stays open.
cdef Connection *open_connection(LoopMemory *loop, int fd, void *tls) noexcept nogil
# Ask the client to begin no calls here, in two steps; running calls go on.
cdef void leave(Connection *connection) noexcept nogil
cdef void end_with(Connection *connection, uint32_t error) noexcept nogil
cdef void ping(Connection *connection) noexcept nogil

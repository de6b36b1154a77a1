"""The times of connections: handshake, idleness, age, keepalive, slow readers."""

from libc.stdint cimport int64_t

from sessauth._fast.http2.stream cimport LoopMemory

# Look at every connection, twice a second. The client of one may leave bytes unread for `slow_reader_ns`.
cdef void sweep(LoopMemory *loop, int64_t slow_reader_ns, bint stopping) noexcept nogil

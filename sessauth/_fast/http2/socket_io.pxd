"""Reads and writes the sockets of connections."""

from libc.stdint cimport uint8_t

from sessauth._fast.http2.stream cimport Connection

cdef void read_from(Connection *connection, uint8_t *buffer, size_t room) noexcept nogil
cdef void write_to(Connection *connection) noexcept nogil

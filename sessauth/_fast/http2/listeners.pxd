"""The sockets that listen for connections."""

from libc.stdint cimport uint64_t

from sessauth._fast.http2.stream cimport LoopMemory

cdef class Listeners:
    cdef LoopMemory *memory
    # Pairs of a socket and the function that returns the TlsContext of a connection, or None.
    cdef list sockets
    cdef object fault
    # Those that wait for the next sweep, since descriptors are short. A bit each.
    cdef uint64_t _paused
    cdef int most
    cdef uint64_t refused

    cdef int add(self, object listener, object tls) except -1
    # Open what waits at these listeners, a bit each.
    cdef int accept_from(self, uint64_t places) except -1
    cdef int resume(self) except -1
    cdef int close_all(self) except -1
    cdef int _watch(self, int place) except -1
    cdef int _open(self, object opened, object address, object make_tls) except -1

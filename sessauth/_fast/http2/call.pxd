"""A call as Python sees it."""

from sessauth._fast.http2.commands cimport Command, CommandQueue
from sessauth._fast.http2.stream cimport Stream

cdef class NativeCall(Command):
    # NULL once the stream is closed. Only the thread of the loop reads it.
    cdef Stream *stream
    cdef CommandQueue commands
    cdef readonly str method
    # Pairs of names and values, as grpcio has them.
    cdef readonly tuple metadata
    # Seconds since 1970; infinite without a timeout.
    cdef readonly double deadline
    cdef str _peer
    cdef object _facts
    cdef object _on_end
    cdef object _on_message
    cdef object _on_written

    # Call back for what has happened to the stream. A closed one is no longer this call's, even if this raises.
    cdef int advance(self) except -1
    cdef int _end(self, bint cancelled) except -1
    cdef int _report_written(self) except -1
    cdef int _deliver_next(self) except -1
    cdef int _deliver(self, object message) except -1

cdef NativeCall call_of(Stream *stream, CommandQueue commands)
# The value of a grpc-timeout header in ns; -1: it is none.
cdef long long timeout_ns(const unsigned char *p, size_t n) noexcept nogil

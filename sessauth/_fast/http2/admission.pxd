"""Requests: answered on the loop, or made calls that Python accepts."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from sessauth._fast.http2.commands cimport CommandQueue
from sessauth._fast.http2.stream cimport Connection, LoopMemory, Stream
from sessauth._fast.rpc_codec.direct cimport DirectCaller

cdef class Admission:
    cdef LoopMemory memory
    cdef CommandQueue commands
    cdef object _accept
    cdef object _fault
    cdef object _direct
    cdef frozenset _direct_paths
    cdef object _certificate_facts
    # Python was called for a call since this was last reset: its timers may have changed.
    cdef bint called_back
    # Calls that were answered on the loop.
    cdef readonly uint64_t answered

    # Note if callers that were found earlier may be ones no longer.
    cdef int refresh(self) except -1
    # Answer a ready stream, let it wait for its turn, or call back for it.
    cdef int advance_stream(self, Stream *stream) except -1
    # Answer or admit a request whose turn it is.
    cdef int admit_waiting(self, Stream *stream) except -1
    cdef bint _goes_on_here(self, Stream *stream) except -1
    cdef int _set_account(self, Connection *connection, DirectCaller direct) except -1
    # Make the call of a stream, and let it be accepted.
    cdef int admit(self, Stream *stream) except -1
    cdef bint _may_be_direct(self, const Stream *stream) except -1
    cdef int _expect_message(self, Stream *stream) except -1
    cdef PyObject *_caller(self, Stream *stream) except? NULL
    cdef bint _answer_directly(self, Stream *stream, Py_ssize_t size) except -1
    cdef DirectCaller _find_caller(self, Stream *stream)
    cdef object _facts(self, Connection *connection)

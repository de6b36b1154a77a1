"""The answer of the native echo: a constant, on the loop, where a check would be judged."""

from libc.stdint cimport int64_t

from sessauth._fast._codec cimport DirectCaller


cdef class EchoCaller(DirectCaller):
    """A caller whose every request has the answer ``reply``."""

    cdef bytes _reply

    def __init__(self, method, audiences, bytes reply not None):
        self._reply = reply

    cdef bytes answer(self, bytes data, int64_t started_ns):
        return self._reply

"""The decision of a check in this process."""

from libc.stdint cimport uint64_t

cdef class Decision:
    cdef CheckOutcome outcome
    cdef Chain chain
    cdef str _argument
    cdef object _fault
    # Eight bytes that identify the checker, and the number of its decision.
    cdef bytes prefix
    cdef uint64_t number

    # Copy an outcome, without its own copy of the argument's name.
    cdef int fill(self, const CheckOutcome *outcome, Chain chain) except -1

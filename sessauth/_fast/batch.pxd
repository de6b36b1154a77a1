"""Many calls, judged together."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from sessauth._fast.chain cimport Chain
from sessauth._fast.ground cimport Ground
from sessauth._fast.outcome cimport Asked, Finding

cdef struct Item:
    Asked asked
    Finding found
    # Owned; NULL until the token was decoded.
    PyObject *chain
    # The item whose ground this one stands on: its own, or that of an earlier one with the same token.
    int ground
    bint stands
    Ground own

cdef class Batch:
    cdef Item *items
    cdef Py_ssize_t count
    # Keeps alive what the items point to.
    cdef object held
    cdef object outcome_type
    cdef bytes prefix
    cdef uint64_t first

    cdef int allocate(self, Py_ssize_t count) except -1
    cdef Chain chain_of(self, Item *item)
    cdef void reset(self)
    cdef void release_grounds(self)

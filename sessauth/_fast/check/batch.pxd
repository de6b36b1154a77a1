"""Many calls, judged together."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from sessauth._fast.call.check_state cimport CheckInput, CheckOutcome
from sessauth._fast.check.lineage cimport Lineage
from sessauth._fast.token.chain cimport Chain

cdef struct Item:
    CheckInput input
    CheckOutcome outcome
    # Said by the caller, whatever the clock says.
    bint clock_suspect
    # Owned; NULL until the token was decoded.
    PyObject *chain
    # The reason why what stood in the token's place is none, or 0.
    int refused
    # The item whose ground this one stands on: its own, or that of an earlier one with the same token.
    int lineage_of
    bint passed
    Lineage own_lineage

cdef class Batch:
    cdef Item *items
    cdef Py_ssize_t count
    # Keeps alive what the items point to.
    cdef object references
    cdef bytes prefix
    cdef object _fault
    # An item was judged before, so a second look starts anew.
    cdef bint judged
    # The number of the first item's decision.
    cdef uint64_t number

    cdef int allocate(self, Py_ssize_t count) except -1
    cdef Chain chain_of(self, Item *item)
    # Of the items from `first` up to, not with, `end`.
    cdef void reset(self, Py_ssize_t first, Py_ssize_t end)
    cdef void release_lineages(self, Py_ssize_t first, Py_ssize_t end)
    cdef bytes token_of(self, Py_ssize_t i)

"""A batch of calls and its decisions."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef struct Item:
    CheckInput input
    CheckOutcome outcome
    # Set by the caller, independent of the clock.
    bint clock_suspect
    # Owned; NULL until the token was decoded.
    PyObject *chain
    # The reason why the presented token is not one, or 0.
    int refused
    # The item whose lineage this one uses: itself, or an earlier item with the same token.
    int lineage_of
    bint passed
    Lineage own_lineage

cdef class Batch:
    cdef Item *items
    cdef Py_ssize_t count
    # Own the memory that the items point to.
    cdef object references
    cdef bytes prefix
    cdef object _fault
    # An item was judged before, so its outcome is reset before the next time.
    cdef bint judged
    # Number of the first item's decision.
    cdef uint64_t number

    cdef int allocate(self, Py_ssize_t count) except -1
    cdef Chain chain_of(self, Item *item)
    # For the items from `first` up to `end`, exclusive.
    cdef void reset(self, Py_ssize_t first, Py_ssize_t end)
    cdef void release_lineages(self, Py_ssize_t first, Py_ssize_t end)
    cdef bytes token_of(self, Py_ssize_t i)

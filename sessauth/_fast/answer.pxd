"""Check requests and responses in wire form."""

from sessauth._fast.arena cimport Arena
from sessauth._fast.batch cimport Batch, Item
from sessauth._fast.check cimport Checker
from sessauth._fast.resource cimport Part
from sessauth._fast.wire cimport Reader

cdef class Asking(Batch):
    cdef Checker checker
    cdef Arena arena
    cdef Part stated_audience
    cdef unsigned long long at_least_revision
    cdef readonly unsigned long long id
    cdef readonly Py_ssize_t stated
    cdef bint is_stream

    cdef Item *_item(self, Py_ssize_t i) except NULL
    cdef int _take_text(self, Item *item) except -1
    cdef int _count_items(self, Reader reader, bint many) except -1
    cdef int _read_items(self, Reader reader, bint many) except -1
    cdef bint _read_item(self, Reader reader, Item *item) noexcept
    cdef bint _add_peer(self, Item *item, const Part *text) noexcept

"""Decoder of check requests and encoder of their responses."""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from sessauth._fast._check cimport CheckInput, Checker, Item, TextSlice, WireReader

cdef enum:
    # Denials of one message that are explained in full.
    MAX_EXPLANATIONS = 8

# A token in a batch's table.
cdef struct TokenTableEntry:
    TextSlice token
    # Set for the first item that uses it: the chain, borrowed from `references`, or the reason of its denial.
    bint looked_up
    PyObject *chain
    int refused

cdef class CheckMessage(ItemOptions):
    cdef Checker checker
    # NULL without tokens, or for too many of them.
    cdef TokenTableEntry *table
    # For each item the index of its token in the table, from 1; 0: none. NULL if no item has one.
    cdef uint32_t *token_indexes
    cdef TextSlice stated_audience
    cdef TextSlice stated_permit
    cdef readonly unsigned long long at_least_revision
    cdef readonly unsigned long long id
    cdef readonly Py_ssize_t stated
    cdef readonly Py_ssize_t stated_tokens
    cdef readonly bint watch
    cdef bint is_stream
    # One field precedes the fields that all requests share.
    cdef bint shifted

    # Replace a token in text form by its bytes, or set the reason of its denial.
    # Replaces a token in text form by its bytes. The chain, if it is cached, is borrowed from the references.
    cdef int read_text(self, TextSlice *token, int *refused, PyObject **chain) except -1
    cdef int _set_proof(self, CheckInput *input) except -1
    cdef int _use_table_token(self, Py_ssize_t i) except -1
    cdef int _look_up(self, TokenTableEntry *entry) except -1
    cdef int _count_items(self, WireReader reader, bint is_batch) except -1
    cdef int _read_items(self, WireReader reader, bint is_batch) except -1
    cdef bint _read_item(self, WireReader reader, Item *item) noexcept
    cdef bint _set_token_index(self, Py_ssize_t i, uint32_t token_index) noexcept

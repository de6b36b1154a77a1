"""Check requests with the options of their items, their responses, and answers without a thread."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from sessauth._fast._check cimport (
    Arena, Batch, CheckInput, Checker, Decision, Histograms, Item, RecordingRunner, TextSlice, WireReader,
)


# Options of a request's items, and overrides by the writer.

# The options of one item: approvals, the gateway's retry id, the deadline of a permit.
cdef struct ItemOption:
    # Above the limit only the number is stored.
    const TextSlice *approvals
    int approval_count
    TextSlice retry_id
    uint64_t permit_ms

cdef class ItemOptions(Batch):
    cdef Arena arena
    # One for each item; NULL if no item has options.
    cdef ItemOption *options
    # By item: decisions that replace the outcome, and encoded extra fields. None: no item has any.
    cdef dict overrides
    cdef dict attached
    # Set for a Commit.
    cdef bint is_commit

    cdef Item *_item(self, Py_ssize_t i) except NULL
    # The options of an item, allocated if needed. NULL without memory.
    cdef ItemOption *_make_option(self, Py_ssize_t i) noexcept
    # Read an option's field of CheckItem, or skip another field.
    cdef bint read_option(self, WireReader *reader, Py_ssize_t i, uint32_t number, uint32_t wire) noexcept
    cdef bint _options_formed(self) noexcept
    # Reset the items from `first` up to `end`, exclusive, before they are checked.
    cdef int _reset_overrides(self, Py_ssize_t first, Py_ssize_t end) except -1
    # Record each item's decision, except those that another process decided.
    cdef int record_answers(self, RecordingRunner judge, object elsewhere) except -1
    # The decision that overrides an item's outcome, or None.
    cdef Decision override_of(self, Py_ssize_t i)


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


# Answers to checks that need no thread.

cdef class DirectMethod:
    cdef str _kind
    cdef Checker _checker
    cdef object _explain
    cdef Histograms _times
    cdef Py_ssize_t _row
    cdef int _most
    # Calls that were answered.
    cdef readonly uint64_t answered

cdef class DirectCaller:
    cdef DirectMethod _method
    cdef object _gate
    cdef tuple _audiences

    # The answer to a request that came at `started_ns` of the monotonic clock. None: it needs a thread.
    cdef bytes answer(self, bytes data, int64_t started_ns)
    cdef str _audience_of(self, CheckMessage message)
